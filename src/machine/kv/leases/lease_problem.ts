import type {
  Command,
  LeaseExpireOperation,
  LeaseKeepAliveOperation,
  TxnStep,
} from "../../../../gen/cairn/v1/storage_pb.js";
import { counterProblem } from "../../../base/counters.js";
import type { Problem } from "../../../base/key_checks.js";
import { limits } from "../../../base/limits.js";

// Judges the commands about leases, and the leases that writes name.

/** The operations about leases. */
export type LeaseOperation = Extract<
  Command["operation"],
  { case: "leaseGrant" | "leaseKeepAlive" | "leaseRevoke" | "leaseExpire" }
>;

/** Describes why an operation about leases must not be carried out; undefined when it may. */
export function problemOfLeaseOperation(operation: LeaseOperation, hasRequestId: boolean): Problem | undefined {
  switch (operation.case) {
    case "leaseGrant":
      return problemOfTtl(operation.value.ttlMs);
    case "leaseRevoke":
      return problemOfLeaseId(operation.value.leaseId, 1);
    // Their results may be long, and so are not remembered: to repeat them does no harm.
    case "leaseKeepAlive":
      return hasRequestId ? invalid("a keep-alive takes no request_id") : problemOfKeepAlive(operation.value);
    case "leaseExpire":
      return hasRequestId ? invalid("an expiry takes no request_id") : problemOfExpiry(operation.value);
  }
}

/** Describes why a write must not name a lease; undefined when it may. 0: it names none. */
export function problemOfLeaseId(leaseId: bigint, least: 0 | 1 = 0): Problem | undefined {
  if (leaseId === 0n && least === 0) return undefined;
  const wrong = counterProblem(leaseId, "indexMax", least);
  return wrong === undefined ? undefined : invalid(`lease_id is ${wrong}: give the id of a lease`);
}

/** Returns whether an operation needs the version of the rules that has leases. */
export function needsLeases(operation: Command["operation"]): boolean {
  switch (operation.case) {
    case "put":
    case "compareAndSet":
      return operation.value.leaseId !== 0n;
    case "txn":
      return operation.value.then.some(putsWithLease) || operation.value.otherwise.some(putsWithLease);
    case "leaseGrant":
    case "leaseKeepAlive":
    case "leaseRevoke":
    case "leaseExpire":
      return true;
    default:
      return false;
  }
}

function putsWithLease({ operation }: TxnStep): boolean {
  return operation.case === "put" && operation.value.leaseId !== 0n;
}

function problemOfTtl(ttlMs: number): Problem | undefined {
  if (ttlMs < limits.leaseTtlMs) return outside(`ttl_ms is ${ttlMs}`, "leaseTtlMs", "give at least that");
  if (ttlMs > limits.leaseTtlMsMax) return outside(`ttl_ms is ${ttlMs}`, "leaseTtlMsMax", "give at most that");
  return undefined;
}

/** Describes why a request must not keep these leases alive; undefined when it may. */
export function problemOfKeptLeases(leaseIds: readonly bigint[]): Problem | undefined {
  if (leaseIds.length > limits.keepAliveLeases) {
    return outside(`the keep-alive names ${leaseIds.length} leases`, "keepAliveLeases", "split it up");
  }
  return problemOfIds(leaseIds);
}

function problemOfKeepAlive({ leaseIds }: LeaseKeepAliveOperation): Problem | undefined {
  return problemOfKeptLeases(leaseIds) ?? problemOfOrder(leaseIds);
}

function problemOfExpiry({ leases }: LeaseExpireOperation): Problem | undefined {
  if (leases.length > limits.expiryLeases) {
    return outside(`the expiry names ${leases.length} leases`, "expiryLeases", "split it up");
  }
  const ids = leases.map(({ leaseId }) => leaseId);
  return problemOfIds(ids) ?? problemOfOrder(ids);
}

function problemOfIds(ids: readonly bigint[]): Problem | undefined {
  if (ids.length === 0) return invalid("no lease is named: give at least one");
  for (const id of ids) {
    const problem = problemOfLeaseId(id, 1);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** Ids must ascend: so no lease is named twice. */
function problemOfOrder(ids: readonly bigint[]): Problem | undefined {
  const isAscending = ids.every((id, at) => at === 0 || ids[at - 1]! < id);
  return isAscending ? undefined : invalid("the leases are not in ascending order of id: sort them, each once");
}

function outside(
  what: string,
  limit: "leaseTtlMs" | "leaseTtlMsMax" | "keepAliveLeases" | "expiryLeases",
  advice: string,
): Problem {
  return { code: "LIMIT_EXCEEDED", limit, text: `${what}; the limit ${limit} is ${limits[limit]}: ${advice}` };
}

function invalid(text: string): Problem {
  return { code: "INVALID_ARGUMENT", text };
}
