import type { CancelSignal } from "./cancel_signal.js";
import { CairnError } from "./errors.js";
import { idProblem, isId } from "./ids.js";

// Checks the arguments of callers, which may be JavaScript without types. Each check throws
// INVALID_ARGUMENT and names the argument.

/** Maximum delay of a timer, in milliseconds: 24 days. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

/** Longest excerpt of a refused value in an error text, in characters. */
const SHOWN_CHARACTERS = 80;

/** Checks an object that is not an array. @throws CairnError INVALID_ARGUMENT */
export function checkObject<Type extends object>(what: string, value: Type): Type {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw invalid(what, "an object", value);
}

/** Checks a boolean; undefined counts as false. @throws CairnError INVALID_ARGUMENT */
export function checkFlag(what: string, value: boolean | undefined): boolean {
  if (value === undefined || typeof value === "boolean") return value === true;
  throw invalid(what, "true or false", value);
}

/** Checks a number from `least`, Infinity included. @throws CairnError INVALID_ARGUMENT */
export function checkNumber(what: string, value: number, least: number, expected = `a number from ${least}`): number {
  if (typeof value === "number" && value >= least) return value;
  throw invalid(what, expected, value);
}

/** Checks a text of at least `leastCharacters`. @throws CairnError INVALID_ARGUMENT */
export function checkText(what: string, value: string, leastCharacters = 1): string {
  if (typeof value === "string" && value.length >= leastCharacters) return value;
  throw invalid(what, leastCharacters > 0 ? "a text that is not empty" : "a text", value);
}

/** Checks the name of a node or cluster. @throws CairnError INVALID_ARGUMENT */
export function checkId(id: string, what: string): void {
  if (!isId(id)) throw new CairnError("INVALID_ARGUMENT", idProblem(what, id));
}

/** Checks that a value is one of `words`. @throws CairnError INVALID_ARGUMENT */
export function checkOneOf<Word extends string>(what: string, value: Word, words: readonly Word[]): Word {
  if (words.includes(value)) return value;
  throw invalid(what, words.map((word) => JSON.stringify(word)).join(" or "), value);
}

/** Checks a safe integer from `least`. @throws CairnError INVALID_ARGUMENT */
export function checkWholeNumber(what: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw invalid(what, `a whole number from ${least}`, value);
}

/** Checks an optional AbortSignal. @throws CairnError INVALID_ARGUMENT */
export function checkSignal<Signal extends CancelSignal>(signal: Signal | undefined): Signal | undefined {
  if (signal === undefined) return undefined;
  const { aborted, addEventListener } = Object(signal) as Partial<CancelSignal>;
  if (typeof aborted === "boolean" && typeof addEventListener === "function") return signal;
  throw invalid("signal", "an AbortSignal", signal);
}

/**
 * Checks an object that replaces one of Cairn's own, such as a clock.
 * @throws CairnError INVALID_ARGUMENT
 */
export function checkMethods<Type extends object>(what: string, value: Type, methods: readonly (keyof Type)[]): Type {
  checkObject(what, value);
  for (const method of methods) {
    if (typeof value[method] !== "function") throw invalid(`${what}.${String(method)}`, "a function", value[method]);
  }
  return value;
}

/** Checks a function. @throws CairnError INVALID_ARGUMENT */
export function checkFunction<Type>(what: string, value: Type): Type {
  if (typeof value === "function") return value;
  throw invalid(what, "a function", value);
}

/**
 * Encodes a text as UTF-8. A lone surrogate has no encoding: texts that differ would become equal.
 * @throws CairnError INVALID_ARGUMENT
 */
export function checkedUtf8(what: string, text: string): Uint8Array {
  if (text.isWellFormed()) return Buffer.from(text, "utf8");
  throw new CairnError("INVALID_ARGUMENT", `${what} has a lone surrogate, which UTF-8 cannot hold: give bytes instead`);
}

export function invalid(what: string, expected: string, value: unknown): CairnError {
  return new CairnError("INVALID_ARGUMENT", `${what} must be ${expected}, not ${shown(value)}`);
}

/** Describes any value in a few words; never throws. */
function shown(value: unknown): string {
  if (typeof value === "string") return cut(JSON.stringify(value));
  if (typeof value === "function") return "a function";
  if (typeof value === "bigint") return cut(`${value}n`);
  if (typeof value !== "object" || value === null) return String(value);
  return Array.isArray(value) ? "an array" : "an object";
}

function cut(text: string): string {
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text;
}
