import {
  type Command,
  CommandOutcome,
  type CommandResult,
  type CompareAndSetOperation,
  type DeleteOperation,
  type LoadPair,
} from "../../../gen/cairn/v1/storage_pb.js";
import { commandResult } from "./command.js";
import type { KeyRecord, RecordStore } from "./record_store.js";
import { transact } from "./txn/transaction.js";

// Carries out the operations of the key-value store.

/**
 * Carries out the command of the entry at `index`. This is the one place that defines put, delete,
 * compare-and-set, get and load; `txn/` adds transactions. {@link decodeCommand} must have let the
 * command pass.
 */
export function evaluate(operation: Command["operation"], index: number, records: RecordStore): CommandResult {
  switch (operation.case) {
    case "put":
      return put(operation.value.key, operation.value.value, index, records);
    case "delete":
      return remove(operation.value, index, records);
    case "compareAndSet":
      return compareAndSet(operation.value, index, records);
    case "get":
      return get(operation.value.key, index, records);
    case "load":
      return load(operation.value.pairs, index, records);
    case "txn":
      return transact(operation.value, index, records);
    default:
      return commandResult(CommandOutcome.INVALID, index);
  }
}

function put(key: Uint8Array, value: Uint8Array, index: number, records: RecordStore): CommandResult {
  const createVersion = records.get(key)?.createVersion ?? index;
  records.put(key, { createVersion, version: index, value });
  return commandResult(CommandOutcome.OK, index);
}

function remove({ key, ifVersion }: DeleteOperation, index: number, records: RecordStore): CommandResult {
  if (ifVersion !== undefined) {
    const present = records.get(key);
    if (present !== undefined && BigInt(present.version) !== ifVersion) {
      return withPresent(CommandOutcome.MISMATCH, index, present);
    }
  }
  return commandResult(records.delete(key) ? CommandOutcome.OK : CommandOutcome.NOT_FOUND, index);
}

function get(key: Uint8Array, index: number, records: RecordStore): CommandResult {
  const present = records.get(key);
  return present === undefined
    ? commandResult(CommandOutcome.NOT_FOUND, index)
    : withPresent(CommandOutcome.OK, index, present);
}

function compareAndSet(operation: CompareAndSetOperation, index: number, records: RecordStore): CommandResult {
  const { key, expected, newValue, createIfMissing } = operation;
  const present = records.get(key);
  if (present === undefined) {
    const expectsNone = expected.case === "version" && expected.value === 0n;
    if (!createIfMissing && !expectsNone) return commandResult(CommandOutcome.NOT_FOUND, index);
    records.put(key, { createVersion: index, version: index, value: newValue });
    return commandResult(CommandOutcome.OK, index);
  }
  if (!isExpected(present, expected)) return withPresent(CommandOutcome.MISMATCH, index, present);
  records.put(key, { createVersion: present.createVersion, version: index, value: newValue });
  return commandResult(CommandOutcome.OK, index);
}

function isExpected(present: KeyRecord, expected: CompareAndSetOperation["expected"]): boolean {
  return expected.case === "value"
    ? Buffer.compare(present.value, expected.value) === 0
    : expected.value === BigInt(present.version);
}

function load(pairs: readonly LoadPair[], index: number, records: RecordStore): CommandResult {
  records.clear();
  for (const { key, value } of pairs) records.put(key, { createVersion: index, version: index, value });
  return commandResult(CommandOutcome.OK, index);
}

/** Returns a result with the present value, copied because the record is only lent. */
function withPresent(outcome: CommandOutcome, index: number, present: KeyRecord): CommandResult {
  return commandResult(outcome, index, Uint8Array.prototype.slice.call(present.value), present.version);
}
