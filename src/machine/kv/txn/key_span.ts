import type { KeySpan } from "../../../../gen/cairn/v1/storage_pb.js";
import { type Problem, tooLong } from "../../../base/key_checks.js";
import { limits } from "../../../base/limits.js";

// Judges spans of keys, and finds their bounds.

/** The keys from `start` on, and below `end`; without an end, all from `start` on. */
export interface KeyBounds {
  readonly start: Uint8Array;
  readonly end: Uint8Array | undefined;
}

/** Returns the bounds of a span, for which {@link problemOfSpan} has found no problem. */
export function boundsOf({ prefix, start, end }: KeySpan): KeyBounds {
  if (prefix.byteLength > 0) return { start: prefix, end: behindPrefix(prefix) };
  return { start, end: end.byteLength > 0 ? end : undefined };
}

/** Returns whether a key lies within bounds. */
export function isWithin(key: Uint8Array, { start, end }: KeyBounds): boolean {
  return Buffer.compare(key, start) >= 0 && (end === undefined || Buffer.compare(key, end) < 0);
}

/** Describes why a span is not valid; undefined when it is. */
export function problemOfSpan(keys: KeySpan | undefined): Problem | undefined {
  if (keys === undefined) return invalid("keys is missing: give a span, without fields for all keys");
  for (const name of ["prefix", "start", "end"] as const) {
    const { byteLength } = keys[name];
    if (byteLength > limits.keyBytes) return tooLong(`keys.${name}`, byteLength, "keyBytes");
  }
  const { prefix, start, end } = keys;
  if (prefix.byteLength > 0 && (start.byteLength > 0 || end.byteLength > 0)) {
    return invalid("keys has a prefix and also start or end: give the one or the other");
  }
  if (end.byteLength > 0 && Buffer.compare(start, end) >= 0) {
    return invalid("keys.end is not above keys.start: no key lies between them");
  }
  return undefined;
}

/** Returns the lowest key above all keys with a prefix; undefined when there is none. */
export function behindPrefix(prefix: Uint8Array): Uint8Array | undefined {
  let length = prefix.byteLength;
  while (length > 0 && prefix[length - 1] === 0xff) length--;
  if (length === 0) return undefined;
  const end = Uint8Array.prototype.slice.call(prefix, 0, length);
  end[length - 1]! += 1;
  return end;
}

function invalid(text: string): Problem {
  return { code: "INVALID_ARGUMENT", text };
}
