import { isUint8Array } from "node:util/types";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { WatchRequestSchema } from "../../../gen/cairn/v1/kv_pb.js";
import { checkKey } from "../../base/key_checks.js";
import { limits } from "../../base/limits.js";
import type { RangeQuery } from "../range.js";
import { type Key, keyToBytes, type Span, spanToBytes } from "../values.js";

// The keys that a watch is about, as the requests name them.

/** A key, all keys with a prefix, or all keys from `start` on and below `end`. */
export type WatchKeys = Key | Span;

/** The keys of a watch, in each request that names them. */
export interface KeyMatch {
  /** The fields of a WatchRequest. */
  readonly request: Pick<MessageInitShape<typeof WatchRequestSchema>, "key" | "prefix" | "keys">;
  /** Lists them; a key that {@link isPast} and all after it do not belong to them. */
  readonly query: RangeQuery;
  isPast(key: Uint8Array): boolean;
}

/** @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED */
export function keyMatch(target: WatchKeys | undefined): KeyMatch {
  if (target === undefined) return { request: {}, query: queryOf(NONE, NONE), isPast: () => false };
  if (typeof target === "string" || isUint8Array(target)) {
    const key = keyToBytes(target);
    checkKey(key);
    const isPast = (other: Uint8Array) => Buffer.compare(other, key) !== 0;
    return { request: { key }, query: { ...queryOf(key, lastBefore(key)), limit: 1 }, isPast };
  }
  const { prefix, start, end } = spanToBytes(target);
  if ("prefix" in target && target.prefix !== undefined) {
    return { request: { prefix }, query: queryOf(prefix, NONE), isPast: () => false };
  }
  const isPast = (key: Uint8Array) => end.byteLength > 0 && Buffer.compare(key, end) >= 0;
  return { request: { keys: { start, end } }, query: queryOf(NONE, lastBefore(start)), isPast };
}

const NONE = new Uint8Array();

function queryOf(prefix: Uint8Array, after: Uint8Array): RangeQuery {
  return { prefix, after, limit: Number.POSITIVE_INFINITY, stale: false, minAppliedIndex: 0 };
}

/**
 * Returns the last key that comes before this one; empty when none does. A range begins behind a
 * key, and a span with one.
 */
function lastBefore(key: Uint8Array): Uint8Array {
  const last = key.at(-1);
  if (last === undefined) return NONE;
  const head = key.subarray(0, -1);
  // A key is followed at once by itself and a zero.
  if (last === 0) return head;
  return Buffer.concat([head, Buffer.of(last - 1), Buffer.alloc(limits.keyBytes - key.byteLength, 0xff)]);
}
