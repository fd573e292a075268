import { CairnError, type CairnErrorCode } from "./errors.js";
import { limits } from "./limits.js";
import { type LimitName, overLimit } from "./telemetry/refusals.js";

// Checks keys and values of the key-value store. The client checks them before it sends them; the
// server and every replica check them again.

/** The reason why a request must not be executed. */
export type Problem =
  | { readonly code: Exclude<CairnErrorCode, "LIMIT_EXCEEDED">; readonly text: string }
  | { readonly code: "LIMIT_EXCEEDED"; readonly limit: LimitName; readonly text: string };

/** Returns the error of a request with a problem. */
export function problemError(problem: Problem): CairnError {
  if (problem.code === "LIMIT_EXCEEDED") return overLimit(problem.code, problem.limit, problem.text);
  return new CairnError(problem.code, problem.text);
}

/**
 * Checks the key of a read, which is no command.
 * @throws CairnError LIMIT_EXCEEDED or INVALID_ARGUMENT when no key has these bytes
 */
export function checkKey(key: Uint8Array): void {
  const problem = problemOfKey(key);
  if (problem !== undefined) throw problemError(problem);
}

/** Checks a value. @throws CairnError LIMIT_EXCEEDED when no value has these bytes */
export function checkValue(value: Uint8Array): void {
  const problem = problemOfValue(value);
  if (problem !== undefined) throw problemError(problem);
}

/**
 * Checks the start of a key. @throws CairnError LIMIT_EXCEEDED when no key starts with these bytes
 */
export function checkKeyStart(bytes: Uint8Array, what: "prefix" | "after" | "start" | "end"): void {
  if (bytes.byteLength <= limits.keyBytes) return;
  throw problemError(tooLong(what, bytes.byteLength, "keyBytes"));
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

/** Returns the problem that a value exceeds a limit; the text names the limit. */
export function tooLong(what: string, bytes: number, limit: "keyBytes" | "valueBytes" | "clientIdBytes"): Problem {
  return { code: "LIMIT_EXCEEDED", limit, text: `${what} has ${bytes} bytes; the limit ${limit} is ${limits[limit]}` };
}
