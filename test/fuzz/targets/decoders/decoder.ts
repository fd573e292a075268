import { AssertionError } from "node:assert";
import { CairnError } from "../../../../src/base/errors.js";
import type { Random } from "../../../support/random.js";
import { expectThat, Finding } from "../../run/target.js";

/** A function of the product that takes bytes from outside. */
export interface Decoder {
  readonly name: string;
  /** Draws bytes: valid ones, changed ones, or any. */
  draw(random: Random): Uint8Array;
  /**
   * Decodes them, and checks the result.
   * @throws Finding for a bug; whatever else is thrown must be a refusal
   */
  run(bytes: Uint8Array, random: Random): void;
}

/** Errors that show a bug rather than bad input. */
const BUGS = [TypeError, RangeError, ReferenceError, AssertionError, EvalError] as const;

/** @throws Finding unless the error is a CairnError with a code that says what is wrong with the input */
export function expectRefusal(error: unknown): void {
  if (error instanceof Finding) throw error;
  if (error instanceof CairnError) {
    expectThat(error.code !== "INTERNAL", () => `refused as INTERNAL: ${error.stack}`);
    return;
  }
  throw new Finding(`threw no CairnError: ${error instanceof Error ? error.stack : String(error)}`);
}

/** Texts of the errors of protobuf-es for bytes that are no message; some of them are TypeErrors and RangeErrors. */
const NO_MESSAGE = /not valid for encoding utf-8|premature EOF|invalid varint/;

/** The same for code whose callers turn any error into a refusal. */
export function expectAnyRefusal(error: unknown): void {
  if (error instanceof Finding) throw error;
  if (error instanceof Error && NO_MESSAGE.test(error.message)) return;
  const isBug = BUGS.some((kind) => error instanceof kind) || !(error instanceof Error);
  if (isBug || error.name.includes("Assert")) throw new Finding(`threw ${(error as Error).stack ?? String(error)}`);
}

/** Runs a decoder; returns its value, or undefined when it refuses. */
export function unlessRefused<Value>(
  decode: () => Value,
  judge: (error: unknown) => void = expectRefusal,
): Value | undefined {
  try {
    return decode();
  } catch (error) {
    judge(error);
    return undefined;
  }
}
