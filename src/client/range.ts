import { KeyValueService, type RangeResponse } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../base/errors.js";
import type { SharedChannel } from "../rpc/client.js";
import type { Clock } from "../system/clock.js";
import type { AnyNode } from "./any_node.js";
import type { CallOptions } from "./options.js";
import { afterAwake } from "./patient_timer.js";
import { type KeyValue, keyValueOf } from "./values.js";

/** The keys to read, as the request to the server names them. */
export interface RangeQuery {
  readonly prefix: Uint8Array;
  readonly after: Uint8Array;
  /** Largest number of keys; infinite: all. */
  readonly limit: number;
  readonly stale: boolean;
  readonly minAppliedIndex: number;
}

/** The nodes that answer a range. */
export interface RangeSource {
  readonly nodes: AnyNode;
  /** Returns the node to ask first. */
  readonly first: () => string | undefined;
  readonly clock: Clock;
}

type Limits = CallOptions & { readonly timeoutMs: number };

/**
 * Reads keys in order from one view of the state. All keys come from one stream; after a failure it
 * is opened again only while no key has come from it.
 */
export async function* oneView(source: RangeSource, query: RangeQuery, limits: Limits): AsyncGenerator<KeyValue, void> {
  const scope = source.nodes.begin(limits.signal);
  try {
    const parts = await source.nodes.askWithin(scope, source.first(), limits.timeoutMs, (channel, { timeoutMs }) =>
      RangeParts.open(channel, query, timeoutMs, scope.signal, source.clock),
    );
    for await (const { kvs } of parts.read(limits.timeoutMs)) {
      for (const kv of kvs) yield keyValueOf(kv);
    }
  } finally {
    scope.end();
  }
}

/**
 * Reads keys in order, in pages of `pageSize` keys. Each page is a view of its own, and is read
 * again when that fails.
 */
export async function* inPages(
  source: RangeSource,
  query: RangeQuery,
  pageSize: number,
  limits: Limits,
): AsyncGenerator<KeyValue, void> {
  let { after, limit, minAppliedIndex } = query;
  for (;;) {
    const pageQuery = { ...query, after, minAppliedIndex, limit: Math.min(limit, pageSize) };
    const page = await readPage(source, pageQuery, limits);
    yield* page.keys;
    limit -= page.keys.length;
    const last = page.keys.at(-1);
    if (!page.more || limit === 0 || last === undefined) return;
    after = last.keyBytes;
    // The next page may come from another node, whose state must not be older than this page.
    minAppliedIndex = Math.max(minAppliedIndex, page.appliedIndex);
  }
}

interface Page {
  readonly keys: KeyValue[];
  /** Further keys follow this page. */
  more: boolean;
  appliedIndex: number;
}

async function readPage({ nodes, first, clock }: RangeSource, query: RangeQuery, limits: Limits): Promise<Page> {
  const scope = nodes.begin(limits.signal);
  try {
    return await nodes.askWithin(scope, first(), limits.timeoutMs, async (channel, { timeoutMs }) => {
      const parts = await RangeParts.open(channel, query, timeoutMs, scope.signal, clock);
      const page: Page = { keys: [], more: false, appliedIndex: parts.appliedIndex };
      for await (const { kvs, more } of parts.read(timeoutMs)) {
        for (const kv of kvs) page.keys.push(keyValueOf(kv));
        page.more = more;
      }
      return page;
    });
  } finally {
    scope.end();
  }
}

/**
 * Reads the parts of one answer. The time limit applies to each part, not to all of them: a slow
 * reader may take any time.
 */
class RangeParts {
  /** Undefined only when the server sends no part. */
  #first: RangeResponse | undefined;
  readonly #parts: AsyncIterator<RangeResponse>;
  readonly #controller = new AbortController();
  readonly #onOutsideEnd: () => void;

  private constructor(
    channel: SharedChannel,
    { limit, minAppliedIndex, ...query }: RangeQuery,
    private readonly outside: AbortSignal,
    private readonly clock: Clock,
  ) {
    this.#onOutsideEnd = () => this.#controller.abort(outside.reason);
    outside.addEventListener("abort", this.#onOutsideEnd);
    const request = {
      ...query,
      limit: BigInt(Number.isFinite(limit) ? limit : 0),
      minAppliedIndex: BigInt(minAppliedIndex),
    };
    const answer = channel.client(KeyValueService).range(request, { signal: this.#controller.signal });
    this.#parts = answer[Symbol.asyncIterator]();
  }

  /**
   * Opens the stream and waits for the first part. `outside` ends the stream until it is closed.
   */
  static async open(
    channel: SharedChannel,
    query: RangeQuery,
    timeoutMs: number | undefined,
    outside: AbortSignal,
    clock: Clock,
  ): Promise<RangeParts> {
    const parts = new RangeParts(channel, query, outside, clock);
    try {
      parts.#first = await parts.#next(timeoutMs);
      return parts;
    } catch (error) {
      parts.close();
      throw error;
    }
  }

  /** Highest index whose effect the answer may show. */
  get appliedIndex(): number {
    return Number(this.#first?.header?.appliedIndex ?? 0);
  }

  /** Yields all parts. @throws CairnError TIMEOUT when one does not come within `timeoutMs` */
  async *read(timeoutMs: number | undefined): AsyncGenerator<RangeResponse, void, undefined> {
    try {
      for (let part = this.#first; part !== undefined; part = await this.#next(timeoutMs)) yield part;
    } finally {
      this.close();
    }
  }

  async #next(timeoutMs: number | undefined): Promise<RangeResponse | undefined> {
    const late = () =>
      this.#controller.abort(new CairnError("TIMEOUT", `there was no further part in ${timeoutMs} ms`));
    const cancel = timeoutMs === undefined ? () => {} : afterAwake(this.clock, timeoutMs, late);
    try {
      const { done, value } = await this.#parts.next();
      return done === true ? undefined : value;
    } finally {
      cancel();
    }
  }

  /** Ends the stream if it has not ended. */
  close(): void {
    this.outside.removeEventListener("abort", this.#onOutsideEnd);
    void this.#parts.return?.();
  }
}
