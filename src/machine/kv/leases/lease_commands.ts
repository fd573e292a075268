import { create } from "@bufbuild/protobuf";
import {
  CommandOutcome,
  type CommandResult,
  CommandResultSchema,
  type ExpiredLease,
  type LeaseRecord,
  LeaseRecordSchema,
} from "../../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../base/limits.js";
import { commandResult } from "../command.js";
import type { ListedChange } from "../effects/effects.js";
import type { NotedState } from "../noted_state.js";
import { endLease, type LeaseRefusal } from "./lease_keys.js";
import type { LeaseStore, StoredLease } from "./lease_store.js";

// Carries out the commands about leases. They must have passed problemOfLeaseOperation.

/** Makes a lease whose id is the index of its entry. */
export function grantLease(ttlMs: number, index: number, leases: LeaseStore): CommandResult {
  if (leases.count >= limits.leases) return limitExceeded("leases", index);
  leases.put({ id: index, ttlMs, keepAlives: 0, keys: 0 });
  return commandResult(CommandOutcome.OK, index);
}

/** Counts a keep-alive of each lease that exists, and returns these leases. */
export function keepLeasesAlive(ids: readonly bigint[], index: number, leases: LeaseStore): CommandResult {
  const result = commandResult(CommandOutcome.OK, index);
  for (const id of ids) {
    const lease = leases.get(Number(id));
    if (lease === undefined) continue;
    const kept = { ...lease, keepAlives: lease.keepAlives + 1 };
    leases.put(kept);
    result.leases.push(recordOf(kept));
  }
  return result;
}

/** Ends a lease, and removes its keys. */
export function revokeLease(id: number, index: number, state: NotedState): CommandResult {
  const lease = state.leases.get(id);
  if (lease === undefined) return commandResult(CommandOutcome.LEASE_NOT_FOUND, index);
  const result = commandResult(CommandOutcome.OK, index);
  const removed = endLease(lease, "revoked", state);
  noteRemoved(removed, state);
  result.deleted = BigInt(removed.length);
  return result;
}

/**
 * Ends those of the leases that were not kept alive since the leader's decision, and removes their
 * keys. Stops before a lease with which it would remove more than limits.expiryKeys keys, unless
 * that is the first one: the leader decides about the rest again. Returns the leases that have
 * ended.
 */
export function expireLeases(decided: readonly ExpiredLease[], index: number, state: NotedState): CommandResult {
  const result = commandResult(CommandOutcome.OK, index);
  const removed: ListedChange[] = [];
  for (const { leaseId, keepAlives } of decided) {
    const lease = state.leases.get(Number(leaseId));
    if (lease === undefined || BigInt(lease.keepAlives) !== keepAlives) continue;
    if (removed.length > 0 && removed.length + lease.keys > limits.expiryKeys) break;
    for (const change of endLease(lease, "expired", state)) removed.push(change);
    result.leases.push(recordOf(lease));
  }
  noteRemoved(removed, state);
  return result;
}

function noteRemoved(changes: readonly ListedChange[], { notes }: NotedState): void {
  if (changes.length > 0) notes.note({ type: "removed", changes });
}

/** Returns the result of a write whose key cannot be attached to its lease. */
export function refusedLease(refusal: LeaseRefusal, index: number): CommandResult {
  return refusal === "lease not found"
    ? commandResult(CommandOutcome.LEASE_NOT_FOUND, index)
    : limitExceeded("leaseKeys", index);
}

function limitExceeded(limit: "leases" | "leaseKeys", index: number): CommandResult {
  return create(CommandResultSchema, { outcome: CommandOutcome.LIMIT_EXCEEDED, index: BigInt(index), limit });
}

function recordOf({ id, ttlMs, keepAlives, keys }: StoredLease): LeaseRecord {
  return create(LeaseRecordSchema, { leaseId: BigInt(id), ttlMs, keepAlives: BigInt(keepAlives), keys });
}
