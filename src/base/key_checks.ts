import { CairnError, type CairnErrorCode } from "./errors.js";
import { limits } from "./limits.js";

// Keys and values of the key-value store: the client checks them before it sends them, the server
// and every replica judge them again.

/** Why a request may not be carried out. */
export interface Problem {
  readonly code: CairnErrorCode;
  readonly text: string;
}

/**
 * Throws CairnError LIMIT_EXCEEDED or INVALID_ARGUMENT for what no key can be: for reads, which are
 * no commands.
 */
export function checkKey(key: Uint8Array): void {
  const problem = problemOfKey(key);
  if (problem !== undefined) throw new CairnError(problem.code, problem.text);
}

/** Throws CairnError LIMIT_EXCEEDED for what no value can be. */
export function checkValue(value: Uint8Array): void {
  const problem = problemOfValue(value);
  if (problem !== undefined) throw new CairnError(problem.code, problem.text);
}

/** Throws CairnError LIMIT_EXCEEDED for what no key can start with. */
export function checkKeyStart(bytes: Uint8Array, what: "prefix" | "after"): void {
  if (bytes.byteLength <= limits.keyBytes) return;
  const problem = tooLong(what, bytes.byteLength, "keyBytes");
  throw new CairnError(problem.code, problem.text);
}

/** Describes why no key has these bytes; undefined when one can. */
export function problemOfKey(key: Uint8Array): Problem | undefined {
  if (key.byteLength === 0) {
    return { code: "INVALID_ARGUMENT", text: "the key is empty: keys have at least one byte" };
  }
  if (key.byteLength > limits.keyBytes) return tooLong("the key", key.byteLength, "keyBytes");
  return undefined;
}

/** Describes why no value has these bytes; undefined when one can. */
export function problemOfValue(value: Uint8Array): Problem | undefined {
  return value.byteLength > limits.valueBytes ? tooLong("the value", value.byteLength, "valueBytes") : undefined;
}

/** Says that something exceeds a limit, and names it. */
export function tooLong(what: string, bytes: number, limit: "keyBytes" | "valueBytes" | "clientIdBytes"): Problem {
  return { code: "LIMIT_EXCEEDED", text: `${what} has ${bytes} bytes; the limit ${limit} is ${limits[limit]}` };
}
