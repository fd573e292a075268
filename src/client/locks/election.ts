import { CairnError } from "../../base/errors.js";
import type { CallOptions } from "../options.js";
import { op } from "../txn/steps.js";
import type { Txn } from "../txn/txn.js";
import type { StoredValue, Value } from "../values.js";
import type { WatchEvent } from "../watch/watch_events.js";
import { becomeFirst, HeadOfQueue, type QueueOptions } from "./lock.js";
import { type QueueClient, type QueuePlace, queuePrefix } from "./place.js";

/** The leader of an election, as observers see it. */
export interface ElectedLeader {
  /** Its fencing token. Each later leader has a higher one. */
  readonly token: number;
  /** The value with which it was elected, or that it has proclaimed since. */
  readonly value: StoredValue;
  readonly key: string;
}

/** The leadership that this process has: {@link CairnClient.elect}. */
export class LeaderHandle extends HeadOfQueue {
  /** @internal */
  constructor(
    name: string,
    place: QueuePlace,
    private readonly txn: () => Txn,
  ) {
    super(name, place);
  }

  /**
   * Changes the value that observers see.
   * @throws CairnError LEASE_NOT_FOUND when this process does not lead any more: nothing happened
   */
  async proclaim(value: Value, options: CallOptions = {}): Promise<void> {
    const { lease, key, fence } = this.place;
    const { succeeded } = await this.txn()
      .when(fence)
      .then(op.put(key, value, { lease }))
      .commit(options);
    if (!succeeded) throw new CairnError("LEASE_NOT_FOUND", `this process does not lead ${this.name} any more`);
  }

  /**
   * Lets the next candidate lead. Resolves when that is durable on a majority, also when the
   * leadership was lost before. If it fails, the leadership ends when its time is over.
   */
  async resign(options: CallOptions = {}): Promise<void> {
    await this.place.lease.revoke(options);
  }
}

/** Implements {@link CairnClient.elect}. */
export async function takePart(
  client: QueueClient,
  name: string,
  value: Value,
  options: QueueOptions,
): Promise<LeaderHandle> {
  const place = await becomeFirst(client, queuePrefix("election", name), value, options);
  return new LeaderHandle(name, place, () => client.txn());
}

/** Returns the prefix of the keys of an election's candidates. @throws CairnError */
export function electionPrefix(name: string): string {
  return queuePrefix("election", name);
}

/**
 * Yields the leader whenever it, or its value, has changed; undefined when nobody leads. `events`
 * are those of a watch of all candidates, which lists them first.
 */
export async function* leadersIn(
  events: AsyncIterable<WatchEvent>,
): AsyncGenerator<ElectedLeader | undefined, void, undefined> {
  const candidates = new Map<string, ElectedLeader>();
  let last: ElectedLeader | "none yet" | undefined = "none yet";
  let isListed = false;
  for await (const event of events) {
    switch (event.type) {
      case "restarted":
        candidates.clear();
        isListed = false;
        continue;
      case "existing":
        candidates.set(event.key, { key: event.key, token: event.value.createVersion, value: event.value });
        continue;
      case "listed":
        isListed = true;
        break;
      case "put": {
        const token = event.created ? event.index : candidates.get(event.key)?.token;
        if (token !== undefined) candidates.set(event.key, { key: event.key, token, value: event.value });
        break;
      }
      case "delete":
        candidates.delete(event.key);
        break;
      case "progress":
        continue;
    }
    // The changes of one index belong together.
    if (!isListed || ("more" in event && event.more)) continue;
    const leader = firstOf(candidates.values());
    if (last !== "none yet" && leader?.key === last?.key && leader?.value.version === last?.value.version) continue;
    last = leader;
    yield leader;
  }
}

function firstOf(candidates: Iterable<ElectedLeader>): ElectedLeader | undefined {
  let first: ElectedLeader | undefined;
  for (const each of candidates) if (first === undefined || each.token < first.token) first = each;
  return first;
}
