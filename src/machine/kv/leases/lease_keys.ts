import { assert } from "../../../base/assert.js";
import { limits } from "../../../base/limits.js";
import type { ListedChange } from "../effects/effects.js";
import type { NotedState } from "../noted_state.js";
import { copyOf } from "../record_store.js";
import type { LeaseStore, StoredLease } from "./lease_store.js";

// Attaches keys to leases, and removes them together.

/** Reason why a key cannot be attached to a lease. */
export type LeaseRefusal = "lease not found" | "too many keys";

/**
 * Moves a key from one lease to another; 0 stands for no lease. The caller then writes or removes
 * the key's record. Returns the reason when the key cannot be attached: nothing is changed then.
 */
export function moveKey(key: Uint8Array, from: number, to: number, leases: LeaseStore): LeaseRefusal | undefined {
  if (from === to) return undefined;
  if (to !== 0) {
    const lease = leases.get(to);
    if (lease === undefined) return "lease not found";
    if (lease.keys >= limits.leaseKeys) return "too many keys";
    leases.addKey(to, key);
    leases.put({ ...lease, keys: lease.keys + 1 });
  }
  if (from !== 0) {
    const lease = leases.get(from);
    assert(lease !== undefined, "the lease of a key exists", { lease: from });
    leases.removeKey(from, key);
    leases.put({ ...lease, keys: lease.keys - 1 });
  }
  return undefined;
}

/** Cause of a lease's end. */
export type LeaseEnd = "expired" | "revoked";

/**
 * Ends a lease and removes its keys, in ascending order of their bytes. This is the one place where
 * a key goes with its lease. Returns the changes, for the caller to note.
 */
export function endLease(
  { id, keys: expected }: StoredLease,
  end: LeaseEnd,
  { records, leases, notes }: NotedState,
): ListedChange[] {
  const keys = leases.keysOf(id);
  assert(keys.length === expected, "a lease counts its keys", { lease: id, keys: keys.length, expected });
  const changes = keys.map((key): ListedChange => {
    const present = notes.keepsRecords ? records.get(key) : undefined;
    if (present !== undefined) notes.before(copyOf(present));
    leases.removeKey(id, key);
    assert(records.delete(key), "an attached key exists", { lease: id });
    return { type: "deleted", key, lease: id, isExpired: end === "expired" };
  });
  leases.delete(id);
  return changes;
}
