import {
  type Command,
  CommandOutcome,
  type CommandResult,
  type CompareAndSetOperation,
  type DeleteOperation,
  type LoadPair,
  type PutOperation,
} from "../../../gen/cairn/v1/storage_pb.js";
import type { Existed } from "../../store/reads.js";
import { commandResult } from "./command.js";
import { CREATED, NOTHING } from "./effects/effect_notes.js";
import { expireLeases, grantLease, keepLeasesAlive, refusedLease, revokeLease } from "./leases/lease_commands.js";
import { moveKey } from "./leases/lease_keys.js";
import type { NotedState } from "./noted_state.js";
import { copyOf, type KeyRecord } from "./record_store.js";
import { transact } from "./txn/transaction.js";

// Carries out the operations of the key-value store.

/**
 * Carries out the command of the entry at `index`, and notes its effects. This is the one place
 * that defines put, delete, compare-and-set, get and load; `txn/` adds transactions, `leases/`
 * leases. {@link decodeCommand} must have let the command pass.
 */
export function evaluate(operation: Command["operation"], index: number, state: NotedState): CommandResult {
  switch (operation.case) {
    case "put":
      return put(operation.value, index, state);
    case "delete":
      return remove(operation.value, index, state);
    case "compareAndSet":
      return compareAndSet(operation.value, index, state);
    case "get":
      return get(operation.value.key, index, state);
    case "load":
      return load(operation.value.pairs, index, state);
    case "txn":
      return transact(operation.value, index, state);
    case "leaseGrant":
      return grantLease(operation.value.ttlMs, index, state.leases);
    case "leaseKeepAlive":
      return keepLeasesAlive(operation.value.leaseIds, index, state.leases);
    case "leaseRevoke":
      return revokeLease(Number(operation.value.leaseId), index, state);
    case "leaseExpire":
      return expireLeases(operation.value.leases, index, state);
    case "store":
      return commandResult(CommandOutcome.OK, index);
    default:
      return commandResult(CommandOutcome.INVALID, index);
  }
}

function put({ key, value, leaseId }: PutOperation, index: number, state: NotedState): CommandResult {
  // The bytes of a store depend on the way of writing, so it must not depend on what was read.
  if (state.leases.count === 0 && leaseId === 0n && state.records.putBlind !== undefined) {
    return putBlind(key, value, index, state);
  }
  return set(key, value, Number(leaseId), index, state.records.get(key), state);
}

/** Writes a key without looking at it. Without leases no key has one to be detached from. */
function putBlind(key: Uint8Array, value: Uint8Array, index: number, { records, notes }: NotedState): CommandResult {
  let existed: Existed | undefined;
  if (notes.keepsRecords) {
    const present = records.get(key);
    existed = present === undefined ? "no" : "yes";
    notes.before(present && copyOf(present));
  }
  const told = records.putBlind!(key, value, index);
  existed ??= told;
  if (existed === "no") notes.note(CREATED);
  else if (existed === "unknown") notes.open(key);
  return commandResult(CommandOutcome.OK, index);
}

/** Writes a key over its present record, and attaches it to the lease; 0 detaches it. */
function set(
  key: Uint8Array,
  value: Uint8Array,
  lease: number,
  index: number,
  present: KeyRecord | undefined,
  { records, leases, notes }: NotedState,
): CommandResult {
  const createVersion = present?.createVersion ?? index;
  // The record is only lent until the next call of the store.
  const before = notes.keepsRecords && present !== undefined ? copyOf(present) : undefined;
  const refusal = moveKey(key, present?.lease ?? 0, lease, leases);
  if (refusal !== undefined) {
    notes.note(NOTHING);
    return refusedLease(refusal, index);
  }
  if (present === undefined) notes.note(CREATED);
  if (notes.keepsRecords) notes.before(before);
  const record = { createVersion, version: index, value };
  records.put(key, lease === 0 ? record : { ...record, lease });
  return commandResult(CommandOutcome.OK, index);
}

function remove({ key, ifVersion }: DeleteOperation, index: number, state: NotedState): CommandResult {
  const { records, leases, notes } = state;
  // Without leases no key has one, and need not be looked at.
  const isRead = ifVersion !== undefined || leases.count > 0 || notes.keepsRecords;
  const present = isRead ? records.get(key) : undefined;
  if (ifVersion !== undefined && present !== undefined && BigInt(present.version) !== ifVersion) {
    notes.note(NOTHING);
    return withPresent(CommandOutcome.MISMATCH, index, present);
  }
  if (notes.keepsRecords && present !== undefined) notes.before(copyOf(present));
  if (present?.lease !== undefined) moveKey(key, present.lease, 0, leases);
  if (records.delete(key)) return commandResult(CommandOutcome.OK, index);
  notes.note(NOTHING);
  return commandResult(CommandOutcome.NOT_FOUND, index);
}

function get(key: Uint8Array, index: number, { records }: NotedState): CommandResult {
  const present = records.get(key);
  return present === undefined
    ? commandResult(CommandOutcome.NOT_FOUND, index)
    : withPresent(CommandOutcome.OK, index, present);
}

function compareAndSet(operation: CompareAndSetOperation, index: number, state: NotedState): CommandResult {
  const { key, expected, newValue, createIfMissing, leaseId } = operation;
  const present = state.records.get(key);
  if (present === undefined) {
    const expectsNone = expected.case === "version" && expected.value === 0n;
    if (!createIfMissing && !expectsNone) {
      state.notes.note(NOTHING);
      return commandResult(CommandOutcome.NOT_FOUND, index);
    }
  } else if (!isExpected(present, expected)) {
    state.notes.note(NOTHING);
    return withPresent(CommandOutcome.MISMATCH, index, present);
  }
  return set(key, newValue, Number(leaseId), index, present, state);
}

function isExpected(present: KeyRecord, expected: CompareAndSetOperation["expected"]): boolean {
  return expected.case === "value"
    ? Buffer.compare(present.value, expected.value) === 0
    : expected.value === BigInt(present.version);
}

/** Replaces all keys; the leases end with theirs. */
function load(pairs: readonly LoadPair[], index: number, { records, leases, notes }: NotedState): CommandResult {
  notes.replacedAll();
  records.clear();
  leases.clear();
  for (const { key, value } of pairs) records.put(key, { createVersion: index, version: index, value });
  return commandResult(CommandOutcome.OK, index);
}

/** Returns a result with the present value, copied because the record is only lent. */
function withPresent(outcome: CommandOutcome, index: number, present: KeyRecord): CommandResult {
  return commandResult(outcome, index, Uint8Array.prototype.slice.call(present.value), present.version);
}
