import { type DescMessage, type DescMethod, fromBinary, isMessage, type Message } from "@bufbuild/protobuf";
import {
  AddLearnerRequestSchema,
  PromoteLearnerRequestSchema,
  RemoveMemberRequestSchema,
} from "../../../../gen/cairn/v1/admin_pb.js";
import { CompareAndSetRequestSchema, DeleteRequestSchema, PutRequestSchema } from "../../../../gen/cairn/v1/kv_pb.js";
import {
  AppendEntriesRequestSchema,
  InstallSnapshotRequestSchema,
  IntroduceRequestSchema,
  JoinRequestSchema,
  RequestVoteRequestSchema,
  TimeoutNowRequestSchema,
} from "../../../../gen/cairn/v1/raft_pb.js";
import {
  DeleteOperationSchema,
  DeleteRangeOperationSchema,
  type KeySpan,
  PutOperationSchema,
} from "../../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../../src/base/limits.js";
import { type Facts, FUZZ_NODES, GUARDED, TERM_STEPS } from "./facts.js";

// Leaves out messages that may do harm by right: a valid order to remove a member, a delete of the keys that must stay, a forged message
// of a leader that a correct leader could have sent. Raft does not protect against a member that lies with care.

/** Whether a message may be sent although the cluster must be as good as before. */
export function isHarmless(method: DescMethod, bytes: Uint8Array, facts: Facts): boolean {
  let message: Message;
  try {
    message = fromBinary(method.input as DescMessage, bytes);
  } catch {
    // The server cannot read it either.
    return true;
  }
  return isHarmlessToCluster(message, facts) && everyPart(message, (part) => sparesGuarded(part));
}

function isHarmlessToCluster(message: Message, facts: Facts): boolean {
  const names = [...facts.incarnations.keys()];
  if (isMessage(message, AddLearnerRequestSchema)) {
    return isOwnNode(message.nodeId) && isNowhere(message.address);
  }
  if (isMessage(message, RemoveMemberRequestSchema) || isMessage(message, PromoteLearnerRequestSchema)) {
    // Promoted, a learner that does not exist would count in every majority.
    return (
      !names.includes(message.nodeId) && !(isMessage(message, PromoteLearnerRequestSchema) && isOwnNode(message.nodeId))
    );
  }
  if (isMessage(message, JoinRequestSchema)) return !names.includes(message.name) && isNowhere(message.address);
  if (isMessage(message, IntroduceRequestSchema)) return message.founders.every(({ address }) => isNowhere(address));
  if (isMessage(message, RequestVoteRequestSchema) || isMessage(message, TimeoutNowRequestSchema)) {
    return isNear(message.term, facts);
  }
  if (isMessage(message, AppendEntriesRequestSchema)) {
    const { term, prevLogIndex, acknowledgedIndex } = message;
    // What a leader says in its own term is the truth; a deposed one is refused. A later one may be believed, but not with entries.
    if (isRefused(term, facts)) return true;
    const isUnfit = prevLogIndex > 2n ** 32n && acknowledgedIndex === 0n;
    return term > facts.term && isNear(term, facts) && isUnfit;
  }
  if (isMessage(message, InstallSnapshotRequestSchema)) {
    return message.message.case !== "offer" || isNear(message.message.value.term, facts);
  }
  return true;
}

/** Whether a term raises nobody's far. */
function isNear(term: bigint, facts: Facts): boolean {
  return term <= facts.term + TERM_STEPS || term > BigInt(limits.termMax);
}

function isRefused(term: bigint, facts: Facts): boolean {
  return term < facts.term || term > BigInt(limits.termMax);
}

function isOwnNode(id: string): boolean {
  return (FUZZ_NODES as readonly string[]).includes(id);
}

/** Whether an address leads no connection off this machine, or to a node. */
function isNowhere(address: string): boolean {
  return !/^.+:\d+$/.test(address) || /^127\.0\.0\.1:\d{1,2}$/.test(address);
}

/** Whether each part of a message, at any depth, passes. */
function everyPart(part: unknown, passes: (part: Message) => boolean): boolean {
  if (typeof part !== "object" || part === null || part instanceof Uint8Array) return true;
  if ("$typeName" in part && !passes(part as Message)) return false;
  return Object.values(part).every((field) => everyPart(field, passes));
}

function sparesGuarded(part: Message): boolean {
  const writesKey =
    isMessage(part, PutRequestSchema) ||
    isMessage(part, PutOperationSchema) ||
    isMessage(part, DeleteRequestSchema) ||
    isMessage(part, DeleteOperationSchema) ||
    isMessage(part, CompareAndSetRequestSchema);
  if (writesKey) return !Buffer.from(part.key).toString("latin1").startsWith(GUARDED);
  return !isMessage(part, DeleteRangeOperationSchema) || !covers(part.keys);
}

/** Whether a span may hold guarded keys. */
function covers(span: KeySpan | undefined): boolean {
  const [prefix, start, end] = [span?.prefix, span?.start, span?.end].map((key) =>
    Buffer.from(key ?? []).toString("latin1"),
  );
  const behind = `${GUARDED}\xff`;
  const isPrefix = GUARDED.startsWith(prefix!) || prefix!.startsWith(GUARDED);
  return isPrefix && start! <= behind && (end === "" || end! > GUARDED);
}
