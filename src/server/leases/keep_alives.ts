import type { LeaseRecord } from "../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../base/limits.js";
import { encodeCommand } from "../../machine/kv/command.js";
import { assertRulesKnown, type RulesNode } from "../kv/known_rules.js";
import type { LeaseKeeper, LeaseNode } from "./lease_keeper.js";

/** The leases of an entry that exist, by id, after their keep-alives. */
export type KeptLeases = ReadonlyMap<bigint, LeaseRecord>;

/** A request that waits. */
interface WaitingRequest {
  /** At most limits.keepAliveLeases. */
  readonly ids: readonly bigint[];
  readonly resolve: (kept: KeptLeases) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Commits keep-alives: one entry at a time, for all requests that have come meanwhile, as far as
 * they fit it.
 */
export class KeepAlives {
  #waiting: WaitingRequest[] = [];
  #isRunning = false;

  constructor(
    private readonly node: Pick<LeaseNode, "propose"> & RulesNode,
    private readonly keeper: Pick<LeaseKeeper, "kept">,
  ) {}

  /**
   * Keeps leases alive; resolves when that is durable on a majority.
   * @throws CairnError the errors of the node's propose()
   */
  keep(ids: readonly bigint[]): Promise<KeptLeases> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ids, resolve, reject });
      if (!this.#isRunning) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    // The requests of this turn go together.
    await undefined;
    while (this.#waiting.length > 0) {
      const { requests, leaseIds } = this.#take();
      try {
        const command = { operation: { case: "leaseKeepAlive", value: { leaseIds } } } as const;
        assertRulesKnown(this.node, command);
        const { result } = await this.node.propose(encodeCommand(command));
        this.keeper.kept(result.leases);
        const kept = new Map(result.leases.map((lease) => [lease.leaseId, lease]));
        for (const { resolve } of requests) resolve(kept);
      } catch (error) {
        for (const { reject } of requests) reject(error);
      }
    }
    this.#isRunning = false;
  }

  /** Takes the requests whose leases fit one entry. */
  #take(): { requests: readonly WaitingRequest[]; leaseIds: bigint[] } {
    const ids = new Set<bigint>();
    let count = 0;
    for (const request of this.#waiting) {
      const added = request.ids.filter((id) => !ids.has(id));
      if (count > 0 && ids.size + added.length > limits.keepAliveLeases) break;
      for (const id of added) ids.add(id);
      count++;
    }
    const requests = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    return { requests, leaseIds: [...ids].sort((one, other) => (one < other ? -1 : 1)) };
  }
}
