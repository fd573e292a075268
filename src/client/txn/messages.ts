import { isUint8Array } from "node:util/types";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ComparisonSchema, OperationSchema, TxnResponse } from "../../../gen/cairn/v1/kv_pb.js";
import { CommandOutcome, type CommandResult, ComparisonOperator } from "../../../gen/cairn/v1/storage_pb.js";
import { checkFlag, checkObject, checkOneOf, checkWholeNumber, invalid } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import { checkKey, checkValue } from "../../base/key_checks.js";
import { leaseIdOf } from "../options.js";
import { type Key, KeyValue, keyToBytes, spanToBytes, type Value, valueToBytes } from "../values.js";
import type { Condition, Relation } from "./conditions.js";
import type { StepResult, TxnStep } from "./steps.js";

// Makes the messages of transactions from what callers pass in, and reads the answers.

export type ComparisonMessage = MessageInitShape<typeof ComparisonSchema>;
export type OperationMessage = MessageInitShape<typeof OperationSchema>;

const OPERATORS: Readonly<Record<Relation, ComparisonOperator>> = {
  "=": ComparisonOperator.EQUAL,
  "!=": ComparisonOperator.NOT_EQUAL,
  "<": ComparisonOperator.LESS,
  ">": ComparisonOperator.GREATER,
};
const RELATIONS = Object.keys(OPERATORS) as Relation[];
const EQUALITIES: readonly Relation[] = ["=", "!="];

/** @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED */
export function comparisonOf(condition: Condition): ComparisonMessage {
  const { on, property, relation } = checkObject("a condition", condition);
  const isNumber = property === "version" || property === "createVersion";
  const operator =
    OPERATORS[checkOneOf<Relation>(`the relation of ${property}`, relation, isNumber ? RELATIONS : EQUALITIES)];
  const target = typeof on === "string" || isUint8Array(on) ? { key: keyBytes(on) } : { keys: spanToBytes(on) };
  return { ...target, operator, expected: expectedOf(condition) };
}

function expectedOf({ property, expected }: Condition): NonNullable<ComparisonMessage["expected"]> {
  switch (property) {
    case "value":
      return { case: property, value: valueBytes(expected) };
    case "version":
    case "createVersion":
      return { case: property, value: BigInt(checkWholeNumber(`the expected ${property}`, expected, 0)) };
    case "exists":
      return { case: property, value: checkFlag("the expected exists", expected) };
    default:
      throw invalid("the property of a condition", "value, version, createVersion or exists", property);
  }
}

/** @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED */
export function operationOf(step: TxnStep): OperationMessage {
  checkObject("a step", step);
  switch (step.type) {
    case "put": {
      const value = { key: keyBytes(step.key), value: valueBytes(step.value), leaseId: leaseIdOf(step.lease) };
      return { operation: { case: "put", value } };
    }
    case "delete":
    case "get":
      return { operation: { case: step.type, value: { key: keyBytes(step.key) } } };
    case "deleteRange":
      return { operation: { case: "deleteRange", value: { keys: spanToBytes(step.keys) } } };
    case "range": {
      const { keys, limit, keysOnly } = step;
      const most = limit === undefined ? 0n : BigInt(checkWholeNumber("limit", limit, 1));
      const value = { keys: spanToBytes(keys), limit: most, keysOnly: checkFlag("keysOnly", keysOnly) };
      return { operation: { case: "range", value } };
    }
    default:
      throw invalid("the type of a step", "put, delete, deleteRange, get or range", (step as { type: unknown }).type);
  }
}

/**
 * Returns the results of the steps that were carried out.
 * @throws CairnError INTERNAL when they are not the results of these steps
 */
export function resultsOf(steps: readonly OperationMessage[], { results, version }: TxnResponse): StepResult[] {
  if (results.length === steps.length)
    return results.map((result, at) => resultOf(steps[at]!, result, Number(version)));
  const text = `the transaction took effect with version ${version}, but the answer has ${results.length} results`;
  throw new CairnError("INTERNAL", `${text} for ${steps.length} steps`);
}

/** Tells whether an answer lacks what steps have read, and the transaction changed nothing. */
export function canBeReadAgain(
  steps: readonly OperationMessage[],
  { results, resultsForgotten }: TxnResponse,
): boolean {
  const isForgotten = resultsForgotten || results.some(({ valueForgotten }) => valueForgotten);
  return isForgotten && steps.every(({ operation }) => operation?.case === "get" || operation?.case === "range");
}

function resultOf({ operation }: OperationMessage, result: CommandResult, version: number): StepResult {
  if (result.valueForgotten) return { type: "forgotten" };
  const { outcome, deleted, records, more } = result;
  switch (operation?.case) {
    case "put":
      return { type: "put", version };
    case "delete":
      return { type: "delete", deleted: outcome === CommandOutcome.OK };
    case "deleteRange":
      return { type: "deleteRange", deleted: Number(deleted) };
    case "range":
      return { type: "range", found: records.map((record) => foundIn(record.key, record)), more };
    default: {
      const isFound = outcome === CommandOutcome.OK;
      return { type: "get", found: isFound ? foundIn(operation!.value!.key!, result) : undefined };
    }
  }
}

interface Found {
  readonly value: Uint8Array;
  readonly version: bigint;
  readonly createVersion: bigint;
}

/** Copies the bytes, which are views of the whole message. */
function foundIn(key: Uint8Array, { value, version, createVersion }: Found): KeyValue {
  return new KeyValue(Buffer.from(key), Buffer.from(value), Number(version), Number(createVersion));
}

function keyBytes(key: Key): Uint8Array {
  const bytes = keyToBytes(key);
  checkKey(bytes);
  return bytes;
}

function valueBytes(value: Value): Uint8Array {
  const bytes = valueToBytes(value);
  checkValue(bytes);
  return bytes;
}
