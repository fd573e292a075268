import {
  type Command,
  CommandOutcome,
  type CommandResult,
  type CompareAndSetOperation,
  type DeleteOperation,
  type LoadPair,
} from "../../../gen/cairn/v1/storage_pb.js";
import { commandResult } from "./command.js";
import { CREATED, type EffectNotes, NOTHING } from "./effects/effect_notes.js";
import type { KeyRecord, RecordStore } from "./record_store.js";
import { transact } from "./txn/transaction.js";

// Carries out the operations of the key-value store.

/**
 * Carries out the command of the entry at `index`, and notes its effects. This is the one place that defines put, delete,
 * compare-and-set, get and load; `txn/` adds transactions. {@link decodeCommand} must have let the
 * command pass.
 */
export function evaluate(
  operation: Command["operation"],
  index: number,
  records: RecordStore,
  notes: EffectNotes,
): CommandResult {
  switch (operation.case) {
    case "put":
      return put(operation.value.key, operation.value.value, index, { records, notes });
    case "delete":
      return remove(operation.value, index, { records, notes });
    case "compareAndSet":
      return compareAndSet(operation.value, index, { records, notes });
    case "get":
      return get(operation.value.key, index, records);
    case "load":
      return load(operation.value.pairs, index, { records, notes });
    case "txn":
      return transact(operation.value, index, records, notes);
    default:
      return commandResult(CommandOutcome.INVALID, index);
  }
}

/** The keys, and the notes about what is done to them. */
interface Noted {
  readonly records: RecordStore;
  readonly notes: EffectNotes;
}

function put(key: Uint8Array, value: Uint8Array, index: number, { records, notes }: Noted): CommandResult {
  const present = records.get(key);
  if (present === undefined) notes.note(CREATED);
  if (notes.keepsRecords) notes.before(present);
  const createVersion = present?.createVersion ?? index;
  records.put(key, { createVersion, version: index, value });
  return commandResult(CommandOutcome.OK, index);
}

function remove({ key, ifVersion }: DeleteOperation, index: number, { records, notes }: Noted): CommandResult {
  if (ifVersion !== undefined || notes.keepsRecords) {
    const present = records.get(key);
    if (present !== undefined && ifVersion !== undefined && BigInt(present.version) !== ifVersion) {
      notes.note(NOTHING);
      return withPresent(CommandOutcome.MISMATCH, index, present);
    }
    if (present !== undefined && notes.keepsRecords) notes.before(present);
  }
  if (records.delete(key)) return commandResult(CommandOutcome.OK, index);
  notes.note(NOTHING);
  return commandResult(CommandOutcome.NOT_FOUND, index);
}

function get(key: Uint8Array, index: number, records: RecordStore): CommandResult {
  const present = records.get(key);
  return present === undefined
    ? commandResult(CommandOutcome.NOT_FOUND, index)
    : withPresent(CommandOutcome.OK, index, present);
}

function compareAndSet(operation: CompareAndSetOperation, index: number, { records, notes }: Noted): CommandResult {
  const { key, expected, newValue, createIfMissing } = operation;
  const present = records.get(key);
  if (present === undefined) {
    const expectsNone = expected.case === "version" && expected.value === 0n;
    if (!createIfMissing && !expectsNone) {
      notes.note(NOTHING);
      return commandResult(CommandOutcome.NOT_FOUND, index);
    }
    notes.note(CREATED);
    if (notes.keepsRecords) notes.before(undefined);
    records.put(key, { createVersion: index, version: index, value: newValue });
    return commandResult(CommandOutcome.OK, index);
  }
  if (!isExpected(present, expected)) {
    notes.note(NOTHING);
    return withPresent(CommandOutcome.MISMATCH, index, present);
  }
  if (notes.keepsRecords) notes.before(present);
  records.put(key, { createVersion: present.createVersion, version: index, value: newValue });
  return commandResult(CommandOutcome.OK, index);
}

function isExpected(present: KeyRecord, expected: CompareAndSetOperation["expected"]): boolean {
  return expected.case === "value"
    ? Buffer.compare(present.value, expected.value) === 0
    : expected.value === BigInt(present.version);
}

function load(pairs: readonly LoadPair[], index: number, { records, notes }: Noted): CommandResult {
  notes.replacedAll();
  records.clear();
  for (const { key, value } of pairs) records.put(key, { createVersion: index, version: index, value });
  return commandResult(CommandOutcome.OK, index);
}

/** Returns a result with the present value, copied because the record is only lent. */
function withPresent(outcome: CommandOutcome, index: number, present: KeyRecord): CommandResult {
  return commandResult(outcome, index, Uint8Array.prototype.slice.call(present.value), present.version);
}
