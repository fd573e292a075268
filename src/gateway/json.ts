import { isSafeNumber, LosslessNumber, parse } from "lossless-json";
import { limits } from "../base/limits.js";
import { GatewayError, gatewayCodes } from "./errors.js";

/** Finds numbers with many digits or an exponent, which JavaScript's own numbers could change. */
const MAYBE_UNSAFE = /[\d.]{16}|\d[eE][+-]?\d/;

/**
 * Parses JSON. Numbers that JavaScript cannot hold exactly are kept as they are written.
 * @throws SyntaxError and others
 */
export function parseJson(text: string): unknown {
  if (!MAYBE_UNSAFE.test(text)) return JSON.parse(text);
  return parse(text, undefined, {
    parseNumber: (number) => (isSafeNumber(number) ? Number(number) : new LosslessNumber(number)),
    // The last one counts, as for JSON.parse.
    onDuplicateKey: ({ newValue }) => newValue,
  });
}

/**
 * Returns a value in the form that the store keeps: its JSON text.
 * @throws GatewayError 12 when it is nested too deeply
 */
export function encodeValue(value: unknown): Buffer {
  return Buffer.from(printJson(value, "compact"), "utf8");
}

/** JSON text that is printed unchanged, except for white space. */
export class StoredJson {
  constructor(readonly text: string) {}

  /** Wraps a stored value; bytes that are not JSON (another client wrote them) become a string. */
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

/** Prints a value as JSON. @throws GatewayError 12 when the value is nested too deeply */
export function printJson(value: unknown, style: JsonStyle): string {
  const [comma, colon] = style === "compact" ? [",", ":"] : [", ", ": "];
  const print = (item: unknown, depth: number): string => {
    if (item instanceof StoredJson) return restyle(item.text, style);
    if (item instanceof LosslessNumber) return item.toString();
    if (typeof item !== "object" || item === null) return JSON.stringify(item);
    if (depth === limits.gatewayJsonDepth) throw tooDeep();
    if (item instanceof OrderedObject) return members(item.members, depth + 1);
    if (!Array.isArray(item)) return members(Object.entries(item), depth + 1);
    return `[${item.map((element) => print(element, depth + 1)).join(comma)}]`;
  };
  const members = (entries: Iterable<readonly [string, unknown]>, depth: number): string => {
    const parts: string[] = [];
    for (const [name, member] of entries) {
      if (member !== undefined) parts.push(JSON.stringify(name) + colon + print(member, depth));
    }
    return `{${parts.join(comma)}}`;
  };
  return print(value, 0);
}

/** Matches a string, a separator, or white space. */
const STRING_OR_SEPARATOR = /("[^"\\]*(?:\\.[^"\\]*)*")|([,:])|\s+/g;

/** Prints JSON text in another style: on one line, whoever wrote it, with its numbers unchanged. */
function restyle(text: string, style: JsonStyle): string {
  // The gateway's own values are compact. Within strings a line end is always escaped.
  if (style === "compact" && !/[\r\n]/.test(text)) return text;
  const space = style === "compact" ? "" : " ";
  return text.replace(STRING_OR_SEPARATOR, (_, string?: string, separator?: string) =>
    separator === undefined ? (string ?? "") : separator + space,
  );
}

function tooDeep(): GatewayError {
  const text = `a value is nested more than gatewayJsonDepth (${limits.gatewayJsonDepth}) deep`;
  return new GatewayError(gatewayCodes.malformedRequest, text);
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
