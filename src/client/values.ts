import { isUint8Array } from "node:util/types";
import type { KeyValue as Message } from "../../gen/cairn/v1/kv_pb.js";
import { checkedUtf8, checkObject, invalid } from "../base/arguments.js";
import { CairnError } from "../base/errors.js";
import { checkKeyStart } from "../base/key_checks.js";

/** A key: 1 to 1,024 bytes. A string stands for its UTF-8. */
export type Key = string | Uint8Array;

/**
 * A value: up to 1.5 MiB. A string stands for its UTF-8, `{ json }` for the UTF-8 of its JSON. The
 * bytes are copied immediately.
 */
export type Value = string | Uint8Array | { readonly json: unknown };

/**
 * All keys with a prefix; or all keys from `start` on and below `end`. One of these may be left
 * out.
 */
export type Span = { readonly prefix: Key } | { readonly start?: Key | undefined; readonly end?: Key | undefined };

/** A key's value and version. */
export class StoredValue {
  constructor(
    /** The value. The caller owns these bytes and may change them. */
    readonly bytes: Uint8Array,
    /** Index of the write that set the value, which is the key's version: versions only grow. */
    readonly version: number,
  ) {}

  /** Returns the value as UTF-8; bytes that are not UTF-8 become U+FFFD. */
  text(): string {
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength).toString("utf8");
  }

  /** Returns the value parsed as JSON. @throws SyntaxError when it is not JSON */
  json<Json = unknown>(): Json {
    return JSON.parse(this.text()) as Json;
  }
}

/** A key with its value and versions. */
export class KeyValue extends StoredValue {
  constructor(
    readonly keyBytes: Uint8Array,
    bytes: Uint8Array,
    version: number,
    /** Index of the write that created the key. */
    readonly createVersion: number,
  ) {
    super(bytes, version);
  }

  /** The key as UTF-8; for a key that is not UTF-8, use {@link keyBytes}. */
  get key(): string {
    return Buffer.from(this.keyBytes.buffer, this.keyBytes.byteOffset, this.keyBytes.byteLength).toString("utf8");
  }
}

/** Returns a copy of a key's bytes. @throws CairnError INVALID_ARGUMENT */
export function keyToBytes(key: Key, what = "key"): Uint8Array {
  if (typeof key === "string" || isUint8Array(key)) return copyOf(what, key);
  throw invalid(what, "a string or a Uint8Array", key);
}

/**
 * Returns the bounds of a span; one that is not given is empty.
 * @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED
 */
export function spanToBytes(span: Span) {
  const { prefix, start, end } = checkObject("a span of keys", span) as Partial<
    Record<"prefix" | "start" | "end", Key>
  >;
  if (prefix !== undefined && (start !== undefined || end !== undefined)) {
    throw new CairnError("INVALID_ARGUMENT", "a span of keys has a prefix, or start and end, not both");
  }
  if (prefix === undefined && start === undefined && end === undefined) {
    throw new CairnError(
      "INVALID_ARGUMENT",
      'a span of keys needs a prefix, a start or an end: { prefix: "" } has all keys',
    );
  }
  return { prefix: boundBytes(prefix, "prefix"), start: boundBytes(start, "start"), end: boundBytes(end, "end") };
}

function boundBytes(key: Key | undefined, what: "prefix" | "start" | "end"): Uint8Array {
  const bytes = keyToBytes(key ?? "", what);
  checkKeyStart(bytes, what);
  return bytes;
}

/**
 * Returns a copy of a value's bytes: the client may send them more than once, and long after the
 * caller has changed the original.
 * @throws CairnError INVALID_ARGUMENT
 */
export function valueToBytes(value: Value, what = "value"): Uint8Array {
  if (typeof value === "string" || isUint8Array(value)) return copyOf(what, value);
  if (typeof value !== "object" || value === null || !("json" in value)) {
    throw invalid(what, "a string, a Uint8Array or { json }", value);
  }
  return Buffer.from(jsonText(what, value.json));
}

function jsonText(what: string, json: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(json);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CairnError("INVALID_ARGUMENT", `${what}.json cannot be written as JSON: ${why}`, { cause: error });
  }
  if (text !== undefined) return text;
  throw new CairnError(
    "INVALID_ARGUMENT",
    `${what}.json cannot be written as JSON: it is undefined, a function or a symbol`,
  );
}

function copyOf(what: string, data: string | Uint8Array): Uint8Array {
  return typeof data === "string" ? checkedUtf8(what, data) : Buffer.from(data);
}

/**
 * Copies the fields of a message. They are views of the whole message, which one small value must
 * not keep in memory.
 */
export function keyValueOf({ key, value, version, createVersion }: Message): KeyValue {
  return new KeyValue(Buffer.from(key), Buffer.from(value), Number(version), Number(createVersion));
}

export function storedValueOf({ value, version }: Message): StoredValue {
  return new StoredValue(Buffer.from(value), Number(version));
}
