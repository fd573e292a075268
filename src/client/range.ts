import { KeyValueService, type RangeResponse } from "../../gen/cairn/v1/kv_pb.js";
import { checkWholeNumber } from "../base/arguments.js";
import { checkKeyStart } from "../base/key_checks.js";
import type { SharedChannel } from "../rpc/client.js";
import type { Clock } from "../system/clock.js";
import type { AnyNode } from "./any_node.js";
import { type CallOptions, type RangeOptions, readsStale } from "./options.js";
import { TimedAnswers } from "./timed_answers.js";
import { type KeyValue, keyToBytes, keyValueOf } from "./values.js";

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

/** Checks the options of a range, and reads it. */
export async function* readRange(
  source: Omit<RangeSource, "first">,
  leader: () => string | undefined,
  options: RangeOptions,
  limits: Limits,
): AsyncGenerator<KeyValue, void, undefined> {
  const { limit = Number.POSITIVE_INFINITY, pageSize } = options;
  const stale = readsStale(options);
  const query = {
    prefix: keyToBytes(options.prefix ?? "", "prefix"),
    after: keyToBytes(options.after ?? "", "after"),
    limit: limit === Number.POSITIVE_INFINITY ? limit : checkWholeNumber("limit", limit, 1),
    stale,
    minAppliedIndex: checkWholeNumber("minAppliedIndex", options.minAppliedIndex ?? 0, 0),
  };
  checkKeyStart(query.prefix, "prefix");
  checkKeyStart(query.after, "after");
  const from = { ...source, first: () => (stale ? undefined : leader()) };
  if (pageSize === undefined) yield* oneView(from, query, limits);
  else yield* inPages(from, query, checkWholeNumber("pageSize", pageSize, 1), limits);
}

/**
 * Reads keys in order from one view of the state. All keys come from one stream; after a failure it
 * is opened again only while no key has come from it.
 */
async function* oneView(source: RangeSource, query: RangeQuery, limits: Limits): AsyncGenerator<KeyValue, void> {
  const scope = source.nodes.begin(limits.signal);
  try {
    const parts = await source.nodes.askWithin(scope, source.first(), limits.timeoutMs, (channel, { timeoutMs }) =>
      openRange(channel, query, timeoutMs, scope.signal, source.clock),
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
async function* inPages(
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
      const parts = await openRange(channel, query, timeoutMs, scope.signal, clock);
      const page: Page = { keys: [], more: false, appliedIndex: Number(parts.first?.header?.appliedIndex ?? 0) };
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

/** Starts to read keys at one node. */
export function openRange(
  channel: SharedChannel,
  { limit, minAppliedIndex, ...query }: RangeQuery,
  timeoutMs: number | undefined,
  outside: AbortSignal,
  clock: Clock,
): Promise<TimedAnswers<RangeResponse>> {
  const request = {
    ...query,
    limit: BigInt(Number.isFinite(limit) ? limit : 0),
    minAppliedIndex: BigInt(minAppliedIndex),
  };
  const start = (signal: AbortSignal) => channel.client(KeyValueService).range(request, { signal });
  return TimedAnswers.open(start, timeoutMs, outside, clock);
}
