import { checkObject, checkWholeNumber, invalid } from "../base/arguments.js";
import { CairnError } from "../base/errors.js";
import { checkValue } from "../base/key_checks.js";
import type { CallOptions, LeaseRef } from "./options.js";
import { type StoredValue, type Value, valueToBytes } from "./values.js";

// The condition and the answer of a compare-and-set.

/** The condition under which {@link CairnClient.compareAndSet} sets a key. */
export type Expected = { readonly value: Value } | { readonly version: number } | { readonly absent: true };

export interface CompareAndSetOptions extends CallOptions {
  /** A missing key counts as expected, and is created. Default false. */
  readonly createIfMissing?: boolean | undefined;
  /** Attach the key to this lease, as in {@link PutOptions}. Default: to none. */
  readonly lease?: LeaseRef | undefined;
}

/**
 * Swapped, with the key's new version; or not swapped, with the current value (undefined: the key
 * does not exist).
 */
export type CompareAndSetResult =
  | { readonly swapped: true; readonly version: number }
  | { readonly swapped: false; readonly current: StoredValue | undefined };

/** Returns the condition as its message has it. @throws CairnError INVALID_ARGUMENT */
export function expectation(expected: Expected) {
  const { value, version, absent } = checkObject("expected", expected) as Partial<Record<string, unknown>>;
  if ([value, version, absent].filter((each) => each !== undefined).length !== 1) {
    throw new CairnError("INVALID_ARGUMENT", "expected must have one of value, version and absent");
  }
  if (value !== undefined) {
    const bytes = valueToBytes(value as Value, "expected.value");
    checkValue(bytes);
    return { case: "value", value: bytes } as const;
  }
  if (version !== undefined) {
    return { case: "version", value: BigInt(checkWholeNumber("expected.version", version as number, 0)) } as const;
  }
  if (absent !== true) throw invalid("expected.absent", "true", absent);
  return { case: "version", value: 0n } as const;
}
