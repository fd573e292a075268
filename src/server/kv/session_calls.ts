import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GetRequest, SessionAnswerSchema, SessionCall } from "../../../gen/cairn/v1/kv_pb.js";
import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../base/errors.js";
import { checkKey } from "../../base/key_checks.js";
import { tracingOf } from "../../base/telemetry/tracing.js";
import { messageBytes } from "../../rpc/call_batches.js";
import { toCallError } from "../../rpc/status.js";
import { type CheckedCall, requireLeasesOf, requireRequest } from "../access/checks.js";
import { explained } from "../leader_hint.js";
import { CallSpans } from "./call_spans.js";
import {
  type CommandInit,
  execute,
  failureOf,
  getAnswer,
  type Header,
  readable,
  type WriteMapping,
  writes,
} from "./key_value_calls.js";
import type { KeyValueNode } from "./key_value_node.js";

// Carries out the calls of a Session stream.

export type SessionAnswer = MessageInitShape<typeof SessionAnswerSchema>;
type SessionAnswerBody = NonNullable<SessionAnswer["answer"]>;

/** Identifies the client that makes the calls. */
export interface SessionIdentity {
  /**
   * Undefined: a member or an ingress process passes calls of its clients on, and each call has its
   * own request id.
   */
  readonly clientId: string | undefined;
  readonly isIngress: boolean;
}

/** Common part of the request ids of one message's writes. */
export interface WriteIdentity {
  readonly clientId: string;
  readonly acknowledgedThrough: bigint;
  readonly since: bigint;
}

/** An answer that is ready to be sent. */
export interface PendingAnswer {
  /** Header of the node that answered; undefined: this node. */
  readonly header?: Header | undefined;
  /**
   * Makes the answer. A read is carried out here and not before, so that values that wait for a
   * slow client take no memory.
   */
  take(): SessionAnswer;
}

/** A write, and the answer for its result. */
interface Write {
  readonly operation: NonNullable<CommandInit["operation"]>;
  /** The request id that came with the call. */
  readonly requestId: CommandInit["requestId"];
  readonly answerOf: (result: CommandResult) => SessionAnswerBody;
}

/**
 * Carries out the calls of one Session stream. Passes exactly one answer for each call to
 * `onAnswer`, whatever happens.
 */
export class SessionCalls {
  readonly #spans = new CallSpans();

  constructor(
    private readonly node: KeyValueNode,
    /** The stream. Its signal ends waiting reads; writes continue, since they are in the log. */
    private readonly stream: CheckedCall & { readonly signal: AbortSignal },
    private readonly onAnswer: (answer: PendingAnswer) => void,
  ) {}

  /**
   * Starts the calls of one message. Proposes its writes in their order before it returns. Without
   * a session, each write has the request id that its client gave, if any.
   */
  start(calls: readonly SessionCall[], session: WriteIdentity | undefined): void {
    const reads: SessionCall[] = [];
    for (const call of calls) {
      if (tracingOf() === undefined) this.#startOne(call, session, reads);
      else this.#spans.begin(call, () => this.#startOne(call, session, reads));
    }
    if (reads.length > 0) this.#read(reads, this.node.linearizableRead(this.stream.signal));
  }

  /** Starts a call, or adds it to those that are read together. */
  #startOne(call: SessionCall, session: WriteIdentity | undefined, reads: SessionCall[]): void {
    if (!this.#isAllowed(call)) return;
    if (call.call.case === "readIndex") {
      this.#readIndex(call.sequence, session);
      return;
    }
    const write = writeOf(call);
    if (write instanceof CairnError) this.#failed(call.sequence, write);
    else if (write !== undefined) this.#begin(call.sequence, write, session);
    else if (requestOf(call).stale) this.#readStale(call);
    else reads.push(call);
  }

  /** Returns whether the caller may make a call; else answers it. */
  #isAllowed(call: SessionCall): boolean {
    if (this.stream.access === undefined) return true;
    try {
      const checked = this.#checkedCall(call);
      requireRequest(checked, call.call);
      if (this.node.raft.role === "leader") requireLeasesOf(checked, call.call, this.node.machine);
      return true;
    } catch (error) {
      this.#failed(call.sequence, error);
      return false;
    }
  }

  /** Returns a call with its caller: that of the stream, or one that a member names. */
  #checkedCall({ caller, call }: SessionCall): CheckedCall {
    const { access, path, peer } = this.stream;
    if (access?.kind !== "member" || call.case === "readIndex") return this.stream;
    return { access: access.vouched(caller, this.stream), path, peer };
  }

  #begin(sequence: bigint, write: Write, session: WriteIdentity | undefined): void {
    const { requestId } = write;
    if (session === undefined) this.#write(sequence, write, requestId === undefined ? {} : { requestId });
    else if (requestId !== undefined) this.#failed(sequence, doubleId());
    else this.#write(sequence, write, { requestId: { ...session, sequence } });
  }

  #write(sequence: bigint, { operation, answerOf }: Write, identity: Pick<CommandInit, "requestId">): void {
    execute(this.node, { operation, ...identity }).then(
      (result) => {
        const problem = failureOf(result);
        if (problem !== undefined) this.#failed(sequence, problem);
        else this.#answered(sequence, () => ({ sequence, answer: answerOf(result) }));
      },
      // Whatever became of the write, the client can send it again under its sequence.
      (error) => this.#failed(sequence, error, isUnknown(error)),
    );
  }

  #readStale(call: SessionCall): void {
    const request = requestOf(call);
    if (request.minAppliedIndex === 0n) this.#answered(call.sequence, () => this.#readAnswer(call));
    else this.#read([call], readable(this.node, request, this.stream.signal));
  }

  /** Answers a member's question, once this node is confirmed to lead after it has come. */
  #readIndex(sequence: bigint, session: WriteIdentity | undefined): void {
    if (session !== undefined) {
      this.#failed(sequence, membersOnly());
      return;
    }
    this.node.readIndex(this.stream.signal).then(
      (index) =>
        this.onAnswer({ take: () => ({ sequence, answer: { case: "readIndex", value: { index: BigInt(index) } } }) }),
      (error) => this.#failed(sequence, error),
    );
  }

  /** Answers reads once the node's state may be read. */
  #read(calls: readonly SessionCall[], confirmed: Promise<unknown>): void {
    confirmed.then(
      () => {
        for (const call of calls) this.#answered(call.sequence, () => this.#readAnswer(call));
      },
      (error) => {
        for (const { sequence } of calls) this.#failed(sequence, error);
      },
    );
  }

  #readAnswer(call: SessionCall): SessionAnswer {
    const { sequence } = call;
    const { key } = requestOf(call);
    try {
      checkKey(key);
      // The rules may have changed while the answer waited.
      if (this.stream.access !== undefined) requireRequest(this.#checkedCall(call), call.call);
      return { sequence, answer: { case: "get", value: getAnswer(this.node, key) } };
    } catch (error) {
      return { sequence, answer: this.#errorAnswer(error) };
    }
  }

  #answered(sequence: bigint, take: () => SessionAnswer): void {
    this.#spans.end(sequence);
    this.onAnswer({ take });
  }

  #failed(sequence: bigint, error: unknown, retryable?: boolean): void {
    const answer = this.#errorAnswer(error, retryable);
    this.#spans.end(sequence, error);
    this.onAnswer({ take: () => ({ sequence, answer }) });
  }

  #errorAnswer(cause: unknown, retryable?: boolean): SessionAnswerBody {
    const error = CairnError.from(explained(cause, this.node));
    const value = { ...toCallError(error), retryable: retryable ?? error.retryable };
    return { case: "error", value };
  }
}

/** Returns about how many bytes the values of a call have; a read has none. */
export function callBytes({ call }: SessionCall): number {
  switch (call.case) {
    case "put":
      return call.value.value.byteLength;
    case "compareAndSet":
    case "txn":
      return messageBytes(call.value);
    default:
      return 0;
  }
}

/** Returns about how many bytes an answer takes in a message. */
export function sessionAnswerBytes({ answer }: SessionAnswer): number {
  switch (answer?.case) {
    case "get":
      return ANSWER_BYTES + keyValueBytes(answer.value.kv);
    case "compareAndSet":
    case "put":
    case "delete":
      return ANSWER_BYTES + keyValueBytes(answer.value.current);
    case "txn":
      return ANSWER_BYTES + messageBytes(answer.value.results);
    case "error":
      return ANSWER_BYTES + 3 * (answer.value.message ?? "").length;
    default:
      return ANSWER_BYTES;
  }
}

/** Allowance for everything but keys, values and texts. */
const ANSWER_BYTES = 64;

function keyValueBytes(kv: { key?: Uint8Array; value?: Uint8Array } | undefined): number {
  return (kv?.key?.byteLength ?? 0) + (kv?.value?.byteLength ?? 0);
}

/** Returns the write that a call asks for; undefined for a read, an error for an invalid call. */
function writeOf({ call }: SessionCall): Write | CairnError | undefined {
  switch (call.case) {
    case "get":
      return undefined;
    case "put":
      return writeAs(call.case, writes.put, call.value);
    case "delete":
      return writeAs(call.case, writes.delete, call.value);
    case "compareAndSet":
      return writeAs(call.case, writes.compareAndSet, call.value);
    case "txn":
      return writeAs(call.case, writes.txn, call.value);
    default:
      return new CairnError("INVALID_ARGUMENT", "the call is missing, or of a kind that this version does not know");
  }
}

function writeAs<Name extends keyof typeof writes, Request extends Pick<CommandInit, "requestId">>(
  name: Name,
  { operationOf, answerOf }: WriteMapping<Request, SessionAnswerBody["value"] & object>,
  request: Request,
): Write {
  return {
    operation: operationOf(request),
    requestId: request.requestId,
    answerOf: (result) => ({ case: name, value: answerOf(request, result) }) as SessionAnswerBody,
  };
}

/** Returns the request of a call for which {@link writeOf} says that it is a read. */
function requestOf({ call }: SessionCall): GetRequest {
  return call.value as GetRequest;
}

function doubleId(): CairnError {
  return new CairnError(
    "INVALID_ARGUMENT",
    "request_id must be absent within a session: the stream's client_id and the call's sequence are in its place",
  );
}

function membersOnly(): CairnError {
  return new CairnError("INVALID_ARGUMENT", "read_index is for members, whose streams have forwarded_by");
}

function isUnknown(error: unknown): boolean | undefined {
  return error instanceof CairnError && error.code === "OUTCOME_UNKNOWN" ? true : undefined;
}
