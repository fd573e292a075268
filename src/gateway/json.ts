import { isSafeNumber, LosslessNumber, parse } from "lossless-json";

/** Where a number of many digits or with an exponent may be, which JavaScript's own numbers could change. */
const MAYBE_UNSAFE = /[\d.]{16}|\d[eE][+-]?\d/;

/** Parses JSON, keeping numbers that JavaScript cannot hold exactly as they are written. @throws SyntaxError and others */
export function parseJson(text: string): unknown {
  if (!MAYBE_UNSAFE.test(text)) return JSON.parse(text);
  return parse(text, undefined, (number) => (isSafeNumber(number) ? Number(number) : new LosslessNumber(number)));
}

/** A value as the store keeps it: its JSON text. */
export function encodeValue(value: unknown): Buffer {
  return Buffer.from(printJson(value, "compact"), "utf8");
}

/** JSON text that is to be printed as it is. */
export class StoredJson {
  constructor(readonly text: string) {}

  /** What the store holds; bytes that are no JSON (another client wrote them) become a string. */
  static from(bytes: Uint8Array): StoredJson {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
    return new StoredJson(isJson(text) ? text : JSON.stringify(text));
  }
}

/** An object whose members are printed in this order, whatever their names. */
export class OrderedObject {
  constructor(readonly members: Iterable<readonly [string, unknown]>) {}
}

/** compact: no white space. spaced: a space after each comma and colon. */
export type JsonStyle = "compact" | "spaced";

export function printJson(value: unknown, style: JsonStyle): string {
  const [comma, colon] = style === "compact" ? [",", ":"] : [", ", ": "];
  const print = (item: unknown): string => {
    if (item instanceof StoredJson) return style === "compact" ? item.text : print(parseJson(item.text));
    if (item instanceof LosslessNumber) return item.toString();
    if (item instanceof OrderedObject) return members(item.members);
    if (Array.isArray(item)) return `[${item.map(print).join(comma)}]`;
    if (typeof item === "object" && item !== null) return members(Object.entries(item));
    return JSON.stringify(item);
  };
  const members = (entries: Iterable<readonly [string, unknown]>): string => {
    const parts: string[] = [];
    for (const [name, member] of entries) {
      if (member !== undefined) parts.push(JSON.stringify(name) + colon + print(member));
    }
    return `{${parts.join(comma)}}`;
  };
  return print(value);
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
