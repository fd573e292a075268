import type { SessionCall, TxnRequest } from "../../../gen/cairn/v1/kv_pb.js";
import type { KeySpan } from "../../../gen/cairn/v1/storage_pb.js";
import { keyName } from "../../base/key_name.js";
import { behindPrefix, boundsOf } from "../../machine/kv/txn/key_span.js";
import type { AccessedCall, CallerAccess, KeyRole } from "../../rpc/security/caller_access.js";

// Checks the keys of a call. Each check passes without an access file, and else throws
// PERMISSION_DENIED when the caller lacks a role for the keys.

/** A call whose keys are checked. */
export interface CheckedCall extends AccessedCall {
  readonly access: CallerAccess | undefined;
}

/** The state that says which keys are attached to a lease. */
export interface LeaseState {
  leaseKeys(id: number): readonly Uint8Array[];
}

/** @throws CairnError PERMISSION_DENIED */
export function requireKey(call: CheckedCall, role: KeyRole, key: Uint8Array): void {
  const { access } = call;
  if (access === undefined || access.hasKey(role, key)) return;
  throw access.refusal(call, `the role ${role} for keys with the prefix ${shownPrefix(key)}`);
}

/**
 * Checks all keys with a prefix; an empty one stands for all keys.
 * @throws CairnError PERMISSION_DENIED
 */
export function requirePrefix(call: CheckedCall, role: KeyRole, prefix: Uint8Array): void {
  requireBounds(call, role, prefix, behindPrefix(prefix));
}

/** @throws CairnError PERMISSION_DENIED */
export function requireSpan(call: CheckedCall, role: KeyRole, span: KeySpan): void {
  const { start, end } = boundsOf(span);
  requireBounds(call, role, start, end);
}

/** Checks the keys from `start` on and below `end`. @throws CairnError PERMISSION_DENIED */
export function requireBounds(call: CheckedCall, role: KeyRole, start: Uint8Array, end: Uint8Array | undefined): void {
  const { access } = call;
  if (access === undefined || access.hasSpan(role, start, end)) return;
  const which = start.byteLength === 0 ? "all keys" : `all keys of a range that begins with ${shownPrefix(start)}`;
  throw access.refusal(call, `the role ${role} for ${which}: a range must lie within one prefix of a grant`);
}

/**
 * Checks all keys of a request of the store: of a unary call, or of one within a session.
 * @throws CairnError PERMISSION_DENIED
 */
export function requireRequest(call: CheckedCall, request: SessionCall["call"]): void {
  if (call.access === undefined) return;
  switch (request.case) {
    case "get":
      requireKey(call, "reader", request.value.key);
      break;
    case "put":
    case "delete":
    case "compareAndSet":
      requireKey(call, "writer", request.value.key);
      break;
    case "txn":
      requireTxn(call, request.value);
      break;
    case "readIndex":
      // For members, as the session itself checks. It tells nothing of any key.
      if (call.access.kind !== "member") throw call.access.refusal(call, "the role peer");
      break;
    case undefined:
      // The caller gets INVALID_ARGUMENT.
      break;
    default:
      throw call.access.refusal(call, "a rule for this kind of call: nobody may make it");
  }
}

/** Checks every comparison of a transaction, and every operation of either branch. */
function requireTxn(call: CheckedCall, { compare, then, otherwise }: TxnRequest): void {
  for (const { key, keys } of compare) {
    if (keys !== undefined) requireSpan(call, "reader", keys);
    if (keys === undefined || key.byteLength > 0) requireKey(call, "reader", key);
  }
  for (const { operation } of [...then, ...otherwise]) {
    switch (operation.case) {
      case "get":
        requireKey(call, "reader", operation.value.key);
        break;
      case "range":
        requireOptionalSpan(call, "reader", operation.value.keys);
        break;
      case "put":
      case "delete":
        requireKey(call, "writer", operation.value.key);
        break;
      case "deleteRange":
        requireOptionalSpan(call, "writer", operation.value.keys);
        break;
      case undefined:
        break;
      default:
        throw call.access?.refusal(call, "a rule for this kind of operation: nobody may use it");
    }
  }
}

/** A missing span is refused later, as an invalid argument. */
function requireOptionalSpan(call: CheckedCall, role: KeyRole, span: KeySpan | undefined): void {
  if (span !== undefined) requireSpan(call, role, span);
}

/**
 * Returns whether the caller has a role for all keys that are attached to a lease. A lease without
 * keys is anybody's who has the role for some keys.
 */
export function hasLease({ access }: CheckedCall, role: KeyRole, leaseId: number, state: LeaseState): boolean {
  if (access === undefined || access.hasAll(role)) return true;
  if (!access.has(role)) return false;
  return state.leaseKeys(leaseId).every((key) => access.hasKey(role, key));
}

/** @throws CairnError PERMISSION_DENIED */
export function requireLease(call: CheckedCall, role: KeyRole, leaseId: number, state: LeaseState): void {
  if (hasLease(call, role, leaseId, state)) return;
  throw call.access?.refusal(call, `the role ${role} for all keys that are attached to lease ${leaseId}`);
}

/**
 * Checks the leases to which a request attaches keys: whoever joins a lease has a part in its life,
 * so all its keys must be the caller's to write.
 * @throws CairnError PERMISSION_DENIED
 */
export function requireLeasesOf(call: CheckedCall, request: SessionCall["call"], state: LeaseState): void {
  if (call.access === undefined || call.access.hasAll("writer")) return;
  for (const id of leasesOf(request)) {
    if (id > 0n && id <= BigInt(Number.MAX_SAFE_INTEGER)) requireLease(call, "writer", Number(id), state);
  }
}

function leasesOf(request: SessionCall["call"]): bigint[] {
  if (request.case === "put" || request.case === "compareAndSet") return [request.value.leaseId];
  if (request.case !== "txn") return [];
  const { then, otherwise } = request.value;
  const ids = [...then, ...otherwise].flatMap(({ operation }) =>
    operation.case === "put" ? [operation.value.leaseId] : [],
  );
  return [...new Set(ids)];
}

/** Longest part of a key that a refusal and the audit show, in bytes. */
const SHOWN_BYTES = 32;

/** Returns the beginning of a key, to its last slash if it has one, as text. */
function shownPrefix(key: Uint8Array): string {
  const start = keyName(key.subarray(0, SHOWN_BYTES));
  const slash = start.lastIndexOf("/");
  const prefix = slash >= 0 ? start.slice(0, slash + 1) : start.slice(0, SHOWN_BYTES / 4);
  return JSON.stringify(prefix);
}
