import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  CompareAndSetRequest,
  DeleteRequest,
  KeyValueSchema,
  PutRequest,
  ResponseHeaderSchema,
  TxnRequest,
} from "../../../gen/cairn/v1/kv_pb.js";
import { CommandOutcome, type CommandResult, type CommandSchema } from "../../../gen/cairn/v1/storage_pb.js";
import type { CancelSignal } from "../../base/cancel_signal.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { isLimitName, overLimit } from "../../base/telemetry/refusals.js";
import { encodeCommand } from "../../machine/kv/command.js";
import type { KeyRecord } from "../../machine/kv/record_store.js";
import { toIndex } from "../../rpc/message_counters.js";
import { addressOf } from "../leader_hint.js";
import type { KeyValueNode } from "./key_value_node.js";
import { assertRulesKnown } from "./known_rules.js";

// Carries out key-value operations on a node, and makes their answers without the header. Unary
// calls and the calls of a session share this.

export type KeyValueInit = MessageInitShape<typeof KeyValueSchema>;
export type CommandInit = MessageInitShape<typeof CommandSchema>;
export type Header = MessageInitShape<typeof ResponseHeaderSchema>;

/**
 * Carries a command out through consensus: on return it is applied, and durable on a majority.
 * @throws CairnError the errors of {@link encodeCommand} and of the node's propose()
 */
export async function execute(node: KeyValueNode, command: CommandInit, signal?: CancelSignal): Promise<CommandResult> {
  assertRulesKnown(node, command);
  const { result } = await node.propose(encodeCommand(command), signal);
  return result;
}

/**
 * Returns the error for a result without an answer: the cluster has forgotten the answer or the
 * client, the write would have exceeded a limit, or its lease does not exist.
 */
export function failureOf({ outcome, index, limit }: CommandResult): CairnError | undefined {
  if (outcome === CommandOutcome.LIMIT_EXCEEDED) {
    const advice = limit.startsWith("lease") ? "" : ": split it up";
    const text = `the write would exceed a limit, and nothing was changed; the limit ${limit}`;
    // A newer member may have proposed it, with a limit that this version does not know.
    if (!isLimitName(limit)) return new CairnError("LIMIT_EXCEEDED", `${text}${advice}`);
    return overLimit("LIMIT_EXCEEDED", limit, `${text} is ${limits[limit]}${advice}`);
  }
  if (outcome === CommandOutcome.LEASE_NOT_FOUND) {
    return new CairnError("LEASE_NOT_FOUND", "the lease does not exist, or has ended; nothing was changed");
  }
  if (outcome === CommandOutcome.RETRY_TOO_OLD) {
    return new CairnError(
      "OUTCOME_UNKNOWN",
      "the answer to this request_id is forgotten: it was carried out before, or acknowledged. Use a new sequence for a new request",
    );
  }
  if (outcome !== CommandOutcome.SESSION_EXPIRED) return undefined;
  return new CairnError(
    "SESSION_EXPIRED",
    "the cluster does not know this client_id, and has forgotten clients, perhaps this one. Nothing happened now. If the request was " +
      `never sent before, choose a new client_id, with since ${index}, and send it again; else it may have taken effect`,
    { since: Number(index) },
  );
}

/**
 * Maps one kind of write: its request to the store's operation, and the result to the answer,
 * without its header.
 */
export interface WriteMapping<Request, Answer> {
  operationOf(request: Request): NonNullable<CommandInit["operation"]>;
  answerOf(request: Request, result: CommandResult): Answer;
}

/** A put with a condition is a compare-and-set in the log: all versions of the rules know that. */
const put: WriteMapping<PutRequest, ConditionalAnswer & { readonly version?: bigint }> = {
  operationOf: ({ key, value, ifVersion, leaseId }) =>
    ifVersion === undefined
      ? { case: "put", value: { key, value, leaseId } }
      : {
          case: "compareAndSet",
          value: { key, expected: { case: "version", value: ifVersion }, newValue: value, leaseId },
        },
  answerOf: ({ key }, result) =>
    result.outcome === CommandOutcome.OK
      ? { version: result.index }
      : { conditionFailed: true, ...presentIn(key, result) },
};

const deletion: WriteMapping<DeleteRequest, ConditionalAnswer & { readonly deleted: boolean }> = {
  operationOf: ({ key, ifVersion }) => ({
    case: "delete",
    value: ifVersion === undefined ? { key } : { key, ifVersion },
  }),
  answerOf({ key, ifVersion }, result) {
    const { outcome } = result;
    if (outcome === CommandOutcome.OK) return { deleted: true };
    // Without a version, or with 0, a missing key is what the caller expects.
    const isExpected = outcome === CommandOutcome.NOT_FOUND && (ifVersion ?? 0n) === 0n;
    return isExpected ? { deleted: false } : { deleted: false, conditionFailed: true, ...presentIn(key, result) };
  },
};

/** Part of the answer to a write whose condition did not hold. */
interface ConditionalAnswer {
  readonly conditionFailed?: boolean;
  readonly current?: KeyValueInit;
  readonly currentForgotten?: boolean;
}

/** Returns the present record of a key that was not as expected. */
function presentIn(key: Uint8Array, { outcome, value, version, valueForgotten }: CommandResult) {
  return outcome === CommandOutcome.NOT_FOUND
    ? {}
    : { current: { key, value, version }, currentForgotten: valueForgotten };
}

const txn: WriteMapping<TxnRequest, TxnAnswer> = {
  operationOf: ({ compare, then, otherwise }) => ({
    case: "txn",
    value: {
      compare: compare.map(({ key, keys, expected, operator }) => ({
        key,
        expected,
        operator,
        ...(keys !== undefined && { keys }),
      })),
      then: then.map(({ operation }) => ({ operation })),
      otherwise: otherwise.map(({ operation }) => ({ operation })),
    },
  }),
  answerOf: (_request, { index, succeeded, results, valueForgotten }) => ({
    succeeded,
    results,
    version: index,
    resultsForgotten: valueForgotten,
  }),
};

interface TxnAnswer {
  readonly succeeded: boolean;
  readonly results: CommandResult[];
  readonly version: bigint;
  readonly resultsForgotten: boolean;
}

const compareAndSet: WriteMapping<CompareAndSetRequest, CompareAndSetAnswer> = {
  operationOf: ({ key, expected, newValue, createIfMissing, leaseId }) => ({
    case: "compareAndSet",
    value: { key, expected, newValue, createIfMissing, leaseId },
  }),
  answerOf: ({ key }, result) =>
    result.outcome === CommandOutcome.OK
      ? { swapped: true, version: result.index }
      : { swapped: false, ...presentIn(key, result) },
};

interface CompareAndSetAnswer {
  readonly swapped: boolean;
  readonly version?: bigint;
  readonly current?: KeyValueInit;
  readonly currentForgotten?: boolean;
}

/** The writes, by the names that methods and the calls of a session share. */
export const writes = { put, delete: deletion, compareAndSet, txn } as const;

/** Returns the answer to a get, from the node's present state, which must be {@link readable}. */
export function getAnswer(node: KeyValueNode, key: Uint8Array): { kv?: KeyValueInit } {
  const record = node.machine.get(key);
  return record === undefined ? {} : { kv: keyValue(key, record) };
}

/** Resolves when the node's state may be read. */
export async function readable(
  node: KeyValueNode,
  { stale, minAppliedIndex }: { readonly stale: boolean; readonly minAppliedIndex: bigint },
  signal: CancelSignal,
): Promise<void> {
  if (stale) await node.waitApplied(toIndex(minAppliedIndex, "min_applied_index"), signal);
  else await node.linearizableRead(signal);
}

export function keyValue(key: Uint8Array, { value, version, createVersion, lease }: KeyRecord): KeyValueInit {
  const kv = { key, value, version: BigInt(version), createVersion: BigInt(createVersion) };
  return lease === undefined ? kv : { ...kv, leaseId: BigInt(lease) };
}

export function headerOf(node: KeyValueNode): Header {
  const { leader, term } = node.raft;
  return {
    clusterId: node.clusterId,
    nodeId: node.id,
    term: BigInt(term),
    appliedIndex: BigInt(node.machine.appliedIndex),
    leaderId: leader ?? "",
    leaderAddress: addressOf(node, leader) ?? "",
  };
}
