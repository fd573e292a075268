import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  CompareAndSetRequest,
  DeleteRequest,
  KeyValueSchema,
  PutRequest,
  ResponseHeaderSchema,
} from "../../../gen/cairn/v1/kv_pb.js";
import { CommandOutcome, type CommandResult, type CommandSchema } from "../../../gen/cairn/v1/storage_pb.js";
import type { CancelSignal } from "../../base/cancel_signal.js";
import { CairnError } from "../../base/errors.js";
import { encodeCommand } from "../../machine/kv/command.js";
import type { KeyRecord } from "../../machine/kv/evaluate.js";
import { toIndex } from "../../rpc/message_counters.js";
import { addressOf } from "../leader_hint.js";
import type { KeyValueNode } from "./key_value_node.js";

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
  const { result } = await node.propose(encodeCommand(command), signal);
  return result;
}

/**
 * Returns the error for a result without an answer: the cluster has forgotten the answer or the
 * client.
 */
export function forgotten({ outcome, index }: CommandResult): CairnError | undefined {
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

const put: WriteMapping<PutRequest, { version: bigint }> = {
  operationOf: ({ key, value }) => ({ case: "put", value: { key, value } }),
  answerOf: (_request, { index }) => ({ version: index }),
};

const deletion: WriteMapping<DeleteRequest, { deleted: boolean }> = {
  operationOf: ({ key }) => ({ case: "delete", value: { key } }),
  answerOf: (_request, { outcome }) => ({ deleted: outcome === CommandOutcome.OK }),
};

const compareAndSet: WriteMapping<CompareAndSetRequest, CompareAndSetAnswer> = {
  operationOf: ({ key, expected, newValue, createIfMissing }) => ({
    case: "compareAndSet",
    value: { key, expected, newValue, createIfMissing },
  }),
  answerOf({ key }, { outcome, index, value, version, valueForgotten }) {
    if (outcome === CommandOutcome.OK) return { swapped: true, version: index };
    return outcome === CommandOutcome.NOT_FOUND
      ? { swapped: false }
      : { swapped: false, current: { key, value, version }, currentForgotten: valueForgotten };
  },
};

interface CompareAndSetAnswer {
  readonly swapped: boolean;
  readonly version?: bigint;
  readonly current?: KeyValueInit;
  readonly currentForgotten?: boolean;
}

/** The writes, by the names that methods and the calls of a session share. */
export const writes = { put, delete: deletion, compareAndSet } as const;

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

export function keyValue(key: Uint8Array, { value, version, createVersion }: KeyRecord): KeyValueInit {
  return { key, value, version: BigInt(version), createVersion: BigInt(createVersion) };
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
