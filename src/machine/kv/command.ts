import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type Command,
  type CommandOutcome,
  type CommandResult,
  CommandResultSchema,
  CommandSchema,
  type CompareAndSetOperation,
  type LoadOperation,
  type RequestId,
} from "../../../gen/cairn/v1/storage_pb.js";
import { counterProblem } from "../../base/counters.js";
import { type Problem, problemError, problemOfKey, problemOfValue, tooLong } from "../../base/key_checks.js";
import { limits } from "../../base/limits.js";
import { overLimit } from "../../base/telemetry/refusals.js";
import { hotCommand } from "./hot/hot_commands.js";
import { hotResultBytes, plainResult } from "./hot/hot_results.js";
import { needsLeases, problemOfLeaseId, problemOfLeaseOperation } from "./leases/lease_problem.js";
import { ANSWER_RULES, sessionRules } from "./session_limits.js";
import { problemOfTxn } from "./txn/txn_problem.js";

// Encodes, decodes and judges the commands of the key-value machine.

/**
 * Encodes a command for the log. The server calls this before it proposes; every replica can carry
 * out the returned bytes. Throws CairnError LIMIT_EXCEEDED, naming the limit, or INVALID_ARGUMENT.
 */
export function encodeCommand(init: MessageInitShape<typeof CommandSchema>): Uint8Array {
  const command = create(CommandSchema, init);
  const rules = rulesOf(command.operation);
  command.rules = command.requestId === undefined ? rules : Math.max(rules, ANSWER_RULES);
  const problem = problemOf(command);
  if (problem !== undefined) throw problemError(problem);
  // A field that this version does not know would have a meaning for newer replicas only, and may
  // be nested deeper than a replica decodes.
  const bytes = toBinary(CommandSchema, command, { writeUnknownFields: false });
  if (bytes.byteLength + limits.entryAllowanceBytes > limits.entryBytes) {
    throw overLimit(
      "LIMIT_EXCEEDED",
      "entryBytes",
      `the command takes ${bytes.byteLength} bytes; the limit entryBytes is ${limits.entryBytes}, of which ` +
        `${limits.entryAllowanceBytes} are set aside for the entry around it: split it up`,
    );
  }
  return bytes;
}

/**
 * Decodes the command in an entry; undefined when the bytes hold no valid command. Byte fields
 * point into `data`.
 */
export function decodeCommand(data: Uint8Array): Command | undefined {
  return hotCommand(data) ?? decodeAnyCommand(data);
}

/** Decodes a command as {@link decodeCommand} does, with the generated decoder. */
export function decodeAnyCommand(data: Uint8Array): Command | undefined {
  try {
    const command = fromBinary(CommandSchema, data);
    return problemOf(command) === undefined ? command : undefined;
  } catch {
    return undefined;
  }
}

/** Makes a command's result. `value` and `version` stay empty when the outcome has none. */
export function commandResult(
  outcome: CommandOutcome,
  index: number,
  value: Uint8Array = NO_BYTES,
  version = 0,
): CommandResult {
  return plainResult(outcome, index, value, version);
}

/** Returns the result as it is remembered when its value is too long to keep. */
export function withoutValue({ outcome, index, version }: CommandResult): CommandResult {
  return create(CommandResultSchema, { outcome, index, version, valueForgotten: true });
}

/** Encodes a result for a session to keep; the bytes are the same on every replica. */
export function encodeResult(result: CommandResult): Uint8Array {
  return hotResultBytes(result) ?? toBinary(CommandResultSchema, result);
}

/** Decodes the result in a session's answer. Its value points into `bytes`. */
export function decodeResult(bytes: Uint8Array): CommandResult {
  return fromBinary(CommandResultSchema, bytes);
}

const NO_BYTES = new Uint8Array(0);

/**
 * Judges a command for the server and for every replica: no replica calls a command invalid that
 * the server let pass.
 */
function problemOf(command: Command): Problem | undefined {
  const { requestId, operation, rules } = command;
  if (requestId !== undefined) {
    const problem = problemOfRequestId(requestId);
    if (problem !== undefined) return problem;
  }
  if (rules < rulesOf(operation)) {
    return invalid(`a ${operation.case} like this must name version ${rulesOf(operation)} of the rules`);
  }
  switch (operation.case) {
    case "put": {
      const { key, value, leaseId } = operation.value;
      return problemOfKey(key) ?? problemOfValue(value) ?? problemOfLeaseId(leaseId);
    }
    case "delete":
    case "get":
      return problemOfKey(operation.value.key);
    case "compareAndSet":
      return problemOfCompareAndSet(operation.value);
    case "load":
      return problemOfLoad(operation.value);
    case "txn":
      return problemOfTxn(operation.value);
    case "leaseGrant":
    case "leaseKeepAlive":
    case "leaseRevoke":
    case "leaseExpire":
      return problemOfLeaseOperation(operation, requestId !== undefined);
    case "store":
      return requestId === undefined ? undefined : invalid("a flush point takes no request_id");
    default:
      return invalid("the command has no operation: set one");
  }
}

/**
 * Returns the version of the rules that a command with this operation must name: a replica that
 * does not know them would apply it as another command, and drift apart.
 */
export function rulesOf(operation: Command["operation"]): number {
  if (operation.case === "store") return sessionRules.stored;
  if (needsLeases(operation)) return sessionRules.leased;
  const isOfThird =
    operation.case === "txn" || (operation.case === "delete" && operation.value.ifVersion !== undefined);
  return isOfThird ? sessionRules.wide : 0;
}

function problemOfRequestId({ clientId, sequence, acknowledgedThrough, since }: RequestId): Problem | undefined {
  const bytes = Buffer.byteLength(clientId);
  if (bytes === 0) return invalid("request_id.client_id is empty: choose one at random");
  if (bytes > limits.clientIdBytes) return tooLong("request_id.client_id", bytes, "clientIdBytes");
  const wrong = counterProblem(sequence, "sequenceMax", 1);
  if (wrong !== undefined) return invalid(`request_id.sequence is ${wrong}: number requests from 1`);
  const wrongSince = counterProblem(since, "indexMax");
  if (wrongSince !== undefined) {
    return invalid(`request_id.since is ${wrongSince}: give an index that the cluster has named, or 0`);
  }
  if (acknowledgedThrough >= sequence) {
    return invalid(
      `request_id.acknowledged_through ${acknowledgedThrough} is not below the request's own sequence ${sequence}: ` +
        "acknowledge only requests that have their answer",
    );
  }
  return undefined;
}

function problemOfCompareAndSet({ key, expected, newValue, leaseId }: CompareAndSetOperation): Problem | undefined {
  const problem = problemOfKey(key) ?? problemOfValue(newValue) ?? problemOfLeaseId(leaseId);
  if (problem !== undefined) return problem;
  if (expected.case === undefined) return invalid("expected is missing: give the value or the version to compare with");
  return expected.case === "value" ? problemOfValue(expected.value) : undefined;
}

function problemOfLoad({ pairs }: LoadOperation): Problem | undefined {
  let before: Uint8Array | undefined;
  for (const { key, value } of pairs) {
    const problem = problemOfKey(key) ?? problemOfValue(value);
    if (problem !== undefined) return problem;
    if (before !== undefined && Buffer.compare(before, key) >= 0) {
      return invalid("the pairs to load are not in ascending order of key: sort them, each key once");
    }
    before = key;
  }
  return undefined;
}

function invalid(text: string): Problem {
  return { code: "INVALID_ARGUMENT", text };
}
