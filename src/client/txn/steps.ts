import type { LeaseRef } from "../options.js";
import type { Key, KeyValue, Span, Value } from "../values.js";

/** Sets a key. */
export interface PutStep {
  readonly type: "put";
  readonly key: Key;
  readonly value: Value;
  /** Attach the key to this lease. Default: to none. */
  readonly lease?: LeaseRef | undefined;
}

/** Removes a key, if it exists. */
export interface DeleteStep {
  readonly type: "delete";
  readonly key: Key;
}

/** Removes all keys of a span. */
export interface DeleteRangeStep {
  readonly type: "deleteRange";
  readonly keys: Span;
}

/** Reads a key. */
export interface GetStep {
  readonly type: "get";
  readonly key: Key;
}

/** Reads the keys of a span, in the order of their bytes. */
export interface RangeStep extends RangeStepOptions {
  readonly type: "range";
  readonly keys: Span;
}

export interface RangeStepOptions {
  /** Largest number of keys, 1 or more. Default: all; more than 1,000 fail the transaction. */
  readonly limit?: number | undefined;
  /** Leave the values out: they are empty. Default false. */
  readonly keysOnly?: boolean | undefined;
}

/** A step of a transaction; {@link op} makes it. */
export type TxnStep = PutStep | DeleteStep | DeleteRangeStep | GetStep | RangeStep;

/** The key is set. */
export interface PutStepResult {
  readonly type: "put";
  /** The key's new version, which is that of the transaction. */
  readonly version: number;
}

export interface DeleteStepResult {
  readonly type: "delete";
  /** Whether the key existed. */
  readonly deleted: boolean;
}

export interface DeleteRangeStepResult {
  readonly type: "deleteRange";
  /** Number of keys that were removed. */
  readonly deleted: number;
}

export interface GetStepResult {
  readonly type: "get";
  /** Undefined: the key does not exist. */
  readonly found: KeyValue | undefined;
}

export interface RangeStepResult {
  readonly type: "range";
  readonly found: readonly KeyValue[];
  /** Further keys exist beyond the limit. */
  readonly more: boolean;
}

/**
 * The transaction took effect, and the cluster has forgotten what this step read: the connection
 * broke before the answer, which had more than 1 KiB. Read the key again if you need it. Steps that
 * change keys always have their result, and so have the steps of a transaction that only reads.
 */
export interface ForgottenStepResult {
  readonly type: "forgotten";
}

/** The result of any step. */
export type StepResult = ResultsByType[TxnStep["type"]];

/** The results of steps, by the steps' types. */
export interface ResultsByType {
  readonly put: PutStepResult;
  readonly delete: DeleteStepResult;
  readonly deleteRange: DeleteRangeStepResult;
  readonly get: GetStepResult | ForgottenStepResult;
  readonly range: RangeStepResult | ForgottenStepResult;
}

/** The result of a step of this type. */
export type ResultOf<Of extends TxnStep> = ResultsByType[Of["type"]];

/** The results of these steps, in their order. */
export type ResultsOf<Steps extends readonly TxnStep[]> = { readonly [At in keyof Steps]: ResultOf<Steps[At]> };

/** Makes the steps of a transaction, for {@link Txn.then} and {@link Txn.else}. */
export const op = {
  put: (key: Key, value: Value, { lease }: { readonly lease?: LeaseRef | undefined } = {}): PutStep =>
    lease === undefined ? { type: "put", key, value } : { type: "put", key, value, lease },
  delete: (key: Key): DeleteStep => ({ type: "delete", key }),
  deleteRange: (keys: Span): DeleteRangeStep => ({ type: "deleteRange", keys }),
  get: (key: Key): GetStep => ({ type: "get", key }),
  range: (keys: Span, options: RangeStepOptions = {}): RangeStep => ({ ...options, type: "range", keys }),
} as const;
