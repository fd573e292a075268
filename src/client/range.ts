import { KeyValueService, type RangeResponse } from "../../gen/cairn/v1/kv_pb.js";
import type { Clock } from "../clock.js";
import { CairnError } from "../errors.js";
import type { SharedChannel } from "../transport/bridge_client.js";
import type { CallSettings } from "../transport/channel.js";
import type { AnyNode } from "./any_node.js";
import type { CallOptions } from "./options.js";
import { afterAwake } from "./patient_timer.js";
import { type KeyValue, keyValueOf } from "./values.js";

/** Which keys to read, as the server is asked. */
export interface RangeQuery {
  readonly prefix: Uint8Array;
  readonly after: Uint8Array;
  /** At most so many keys; infinite: all. */
  readonly limit: number;
  readonly stale: boolean;
  readonly minAppliedIndex: number;
}

/** Who answers a range. */
export interface RangeSource {
  readonly nodes: AnyNode;
  /** Which node to ask first. */
  readonly first: () => string | undefined;
  readonly clock: Clock;
}

type Limits = CallOptions & { readonly timeoutMs: number };

/** Keys in order, as one view of the state: from one stream, which is opened again only while nothing has come from it. */
export async function* oneView(source: RangeSource, query: RangeQuery, limits: Limits): AsyncGenerator<KeyValue, void> {
  const parts = await source.nodes.ask(source.first(), limits, (channel, settings) =>
    RangeParts.open(channel, query, settings, source.clock),
  );
  try {
    for (let part = parts.first; part !== undefined; part = await parts.next(limits.timeoutMs)) {
      for (const kv of part.kvs) yield keyValueOf(kv);
    }
  } finally {
    parts.close();
  }
}

/** Keys in order, in pages of `pageSize` keys, each of which is a view of its own and asked for again when that fails. */
export async function* inPages(
  source: RangeSource,
  query: RangeQuery,
  pageSize: number,
  limits: Limits,
): AsyncGenerator<KeyValue, void> {
  let { after, limit } = query;
  for (;;) {
    const pageQuery = { ...query, after, limit: Math.min(limit, pageSize) };
    const page = await source.nodes.ask(source.first(), limits, (channel, settings) =>
      readPage(channel, pageQuery, settings, source.clock),
    );
    yield* page.keys;
    limit -= page.keys.length;
    const last = page.keys.at(-1);
    if (!page.more || limit === 0 || last === undefined) return;
    after = last.keyBytes;
  }
}

async function readPage(channel: SharedChannel, query: RangeQuery, settings: CallSettings, clock: Clock) {
  const parts = await RangeParts.open(channel, query, settings, clock);
  const keys: KeyValue[] = [];
  let more = false;
  for (
    let part: RangeResponse | undefined = parts.first;
    part !== undefined;
    part = await parts.next(settings.timeoutMs)
  ) {
    for (const kv of part.kvs) keys.push(keyValueOf(kv));
    more = part.more;
  }
  return { keys, more };
}

/** The parts of one answer. A time limit holds for the next part, not for all of them: a slow reader has as long as it likes. */
class RangeParts {
  readonly #timeout: AbortController;
  readonly #clock: Clock;
  readonly #parts: AsyncIterator<RangeResponse>;

  private constructor(
    /** Undefined only for a server that sends none. */
    public first: RangeResponse | undefined,
    parts: AsyncIterator<RangeResponse>,
    timeout: AbortController,
    clock: Clock,
  ) {
    this.#parts = parts;
    this.#timeout = timeout;
    this.#clock = clock;
  }

  static async open(
    channel: SharedChannel,
    { limit, minAppliedIndex, ...query }: RangeQuery,
    { signal, timeoutMs }: CallSettings,
    clock: Clock,
  ): Promise<RangeParts> {
    const timeout = new AbortController();
    const request = {
      ...query,
      limit: BigInt(Number.isFinite(limit) ? limit : 0),
      minAppliedIndex: BigInt(minAppliedIndex),
    };
    const either = signal === undefined ? timeout.signal : AbortSignal.any([signal, timeout.signal]);
    const answer = channel.client(KeyValueService).range(request, { signal: either });
    const parts = new RangeParts(undefined, answer[Symbol.asyncIterator](), timeout, clock);
    parts.first = await parts.next(timeoutMs);
    return parts;
  }

  /** @throws CairnError TIMEOUT when it does not come within `timeoutMs` */
  async next(timeoutMs: number | undefined): Promise<RangeResponse | undefined> {
    const late = () => this.#timeout.abort(new CairnError("TIMEOUT", `there was no further part in ${timeoutMs} ms`));
    const cancel = timeoutMs === undefined ? () => {} : afterAwake(this.#clock, timeoutMs, late);
    try {
      const { done, value } = await this.#parts.next();
      return done === true ? undefined : value;
    } finally {
      cancel();
    }
  }

  /** Ends the stream if it has not ended. */
  close(): void {
    void this.#parts.return?.();
  }
}
