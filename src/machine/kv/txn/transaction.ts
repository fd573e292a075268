import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  CommandOutcome,
  type CommandResult,
  CommandResultSchema,
  ComparisonOperator,
  type RangeOperation,
  RangeRecordSchema,
  type TxnComparison,
  type TxnOperation,
  type TxnStep,
} from "../../../../gen/cairn/v1/storage_pb.js";
import type { NotedState } from "../noted_state.js";
import type { KeyRecord } from "../record_store.js";
import { TxnLeaseNotFound, TxnLimitExceeded, TxnRecords } from "./txn_records.js";

/**
 * Carries out the transaction of the entry at `index`: all of it, or nothing when it would exceed a
 * limit or names a lease that does not exist. It must have passed {@link problemOfTxn}.
 */
export function transact(
  { compare, then, otherwise }: TxnOperation,
  index: number,
  { records: store, leases, notes }: NotedState,
): CommandResult {
  const records = new TxnRecords(store, leases);
  try {
    const succeeded = compare.every((comparison) => holds(comparison, records));
    const results = (succeeded ? then : otherwise).map((step, at) => carryOut(step, { at, index }, records));
    records.noteInto(notes, succeeded ? "then" : "otherwise");
    return resultOf({ outcome: CommandOutcome.OK, index: BigInt(index), succeeded, results });
  } catch (error) {
    const isRefusal = error instanceof TxnLimitExceeded || error instanceof TxnLeaseNotFound;
    if (!isRefusal) throw error;
    records.undo();
    if (error instanceof TxnLeaseNotFound) {
      return resultOf({ outcome: CommandOutcome.LEASE_NOT_FOUND, index: BigInt(index) });
    }
    return resultOf({ outcome: CommandOutcome.LIMIT_EXCEEDED, index: BigInt(index), limit: error.limit });
  }
}

function holds(comparison: TxnComparison, records: TxnRecords): boolean {
  const { key, keys, expected, operator } = comparison;
  if (keys === undefined) return matches(records.get(key), comparison);
  if (expected.case === "exists") {
    const [first] = records.within(keys);
    return isEqualAs(operator, (first !== undefined) === expected.value);
  }
  for (const entry of records.within(keys)) {
    records.walked(entry);
    if (!matches(entry, comparison)) return false;
  }
  return true;
}

/** Returns whether a comparison holds for the record of one key. */
function matches(record: KeyRecord | undefined, { expected, operator }: TxnComparison): boolean {
  switch (expected.case) {
    case "value":
      return isEqualAs(operator, record !== undefined && Buffer.compare(record.value, expected.value) === 0);
    case "exists":
      return isEqualAs(operator, (record !== undefined) === expected.value);
    case "version":
      return isOrderedAs(operator, BigInt(record?.version ?? 0), expected.value);
    default:
      return isOrderedAs(operator, BigInt(record?.createVersion ?? 0), expected.value!);
  }
}

function isEqualAs(operator: ComparisonOperator, isEqual: boolean): boolean {
  return operator === ComparisonOperator.NOT_EQUAL ? !isEqual : isEqual;
}

function isOrderedAs(operator: ComparisonOperator, present: bigint, expected: bigint): boolean {
  if (operator === ComparisonOperator.LESS) return present < expected;
  if (operator === ComparisonOperator.GREATER) return present > expected;
  return isEqualAs(operator, present === expected);
}

function carryOut(
  { operation }: TxnStep,
  { at, index }: { readonly at: number; readonly index: number },
  records: TxnRecords,
): CommandResult {
  switch (operation.case) {
    case "put":
      records.put(operation.value, { step: at, index });
      return resultOf({ outcome: CommandOutcome.OK });
    case "delete":
      return resultOf({ outcome: records.delete(operation.value.key) ? CommandOutcome.OK : CommandOutcome.NOT_FOUND });
    case "deleteRange":
      return resultOf({
        outcome: CommandOutcome.OK,
        deleted: BigInt(records.deleteAll(operation.value.keys!)),
      });
    case "range":
      return range(operation.value, records);
    default:
      return get(operation.value!.key, records);
  }
}

function get(key: Uint8Array, records: TxnRecords): CommandResult {
  const record = records.get(key);
  if (record === undefined) return resultOf({ outcome: CommandOutcome.NOT_FOUND });
  records.returned(record.value.byteLength);
  return resultOf({ outcome: CommandOutcome.OK, ...found(record, false) });
}

function range({ keys, limit, keysOnly }: RangeOperation, records: TxnRecords): CommandResult {
  const most = limit === 0n ? Number.POSITIVE_INFINITY : Number(limit);
  const result = resultOf({ outcome: CommandOutcome.OK });
  for (const entry of records.within(keys!)) {
    if (result.records.length === most) {
      result.more = true;
      break;
    }
    records.walked(entry);
    records.returned(entry.key.byteLength + (keysOnly ? 0 : entry.value.byteLength));
    result.records.push(create(RangeRecordSchema, { key: entry.key, ...found(entry, keysOnly) }));
  }
  return result;
}

/** Returns the content of a record, copied because the record is only lent. */
function found({ value, version, createVersion, lease }: KeyRecord, keysOnly: boolean) {
  return {
    version: BigInt(version),
    createVersion: BigInt(createVersion),
    ...(lease !== undefined && { leaseId: BigInt(lease) }),
    ...(!keysOnly && { value: Uint8Array.prototype.slice.call(value) }),
  };
}

function resultOf(init: MessageInitShape<typeof CommandResultSchema>): CommandResult {
  return create(CommandResultSchema, init);
}
