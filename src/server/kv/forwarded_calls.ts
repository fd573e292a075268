import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type CompareAndSetRequest,
  KeyValueService,
  type ResponseHeader,
  type SessionAnswer,
  type SessionCallSchema,
  type SessionRequestSchema,
  type SessionResponse,
} from "../../../gen/cairn/v1/kv_pb.js";
import type { CancelSignal } from "../../base/cancel_signal.js";
import { CairnError, hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { type TraceHeaders, tracingOf } from "../../base/telemetry/tracing.js";
import { CallBatches, messageBytes } from "../../rpc/call_batches.js";
import type { BidiStream, SharedChannel } from "../../rpc/client.js";
import { toIndex } from "../../rpc/message_counters.js";
import { fromCallError, streamFailure } from "../../rpc/status.js";

// Passes unary calls on to the node that carries them out, over one Session stream: from a follower
// to its leader, and from an ingress process to its node. A follower also asks for read indexes.

/** A call that is passed on. */
export type ForwardedRequest = NonNullable<MessageInitShape<typeof SessionCallSchema>["call"]>;

/** The origin of a call; empty in a cluster without access files. */
export interface CallOrigin {
  /** Name of the caller for whom a member passes the call on. */
  readonly caller?: string | undefined;
  /** The `authorization` metadata that came to an ingress process with the call. */
  readonly authorization?: string | undefined;
  /** The client of an ingress process; see `clientText`. */
  readonly client?: string | undefined;
  /** The trace that came with the call. Default: that of the active span. */
  readonly trace?: TraceHeaders | undefined;
}

/** The answer of the node that carried the call out. */
export interface ForwardedAnswer {
  readonly header: ResponseHeader | undefined;
  readonly answer: SessionAnswer["answer"];
}

/** The sender of the calls: a member, or an ingress process of the node at the other end. */
export type CallSender = Pick<MessageInitShape<typeof SessionRequestSchema>, "forwardedBy" | "clusterId" | "ingress">;

/** A call under way. */
interface PassedCall {
  readonly sequence: bigint;
  readonly request: ForwardedRequest;
  readonly origin: CallOrigin;
  /** About how many bytes the call takes in a message. */
  readonly bytes: number;
  isSent: boolean;
  readonly resolve: (answer: ForwardedAnswer) => void;
  readonly reject: (error: unknown) => void;
}

/** The receiver does not take calls over a stream: it is of an earlier version. */
export const NO_STREAM = Symbol("the receiver takes no calls over a stream");

const NO_ORIGIN: CallOrigin = {};

/** Calls of a client that read. A call that is not here may have an unknown outcome. */
const READS: readonly (string | undefined)[] = ["get", "readIndex"] satisfies ForwardedRequest["case"][];

/**
 * One stream to one node. The calls of one turn of the event loop go in one message, and so do
 * those that gather while the network is busy.
 */
export class ForwardedCalls {
  readonly #stream: BidiStream<MessageInitShape<typeof SessionRequestSchema>, SessionResponse>;
  readonly #calls = new Map<bigint, PassedCall>();
  readonly #batches = new CallBatches<PassedCall>(
    (calls) => this.#sendCalls(calls),
    (run) => setImmediate(run),
    () => this.#room(),
  );
  /** Calls that were sent and have no answer. */
  #unanswered = 0;
  /** Calls that were sent and that nobody waits for any longer; the receiver is told soon. */
  #abandoned: bigint[] = [];
  #last = 0n;
  #hasGreeted = false;
  #knowsReadIndex = true;
  #isRetired = false;
  #end: CairnError | undefined;

  constructor(
    private readonly sender: CallSender,
    private readonly channel: SharedChannel,
    metadata?: Readonly<Record<string, string>>,
  ) {
    this.#stream = channel.client(KeyValueService).session({ metadata });
    this.#stream.send(sender).catch(() => {});
    void this.#receive();
  }

  /** False when the stream has ended: further calls need another one. */
  get isOpen(): boolean {
    return this.#end === undefined;
  }

  /**
   * Passes a call on. Resolves with {@link NO_STREAM} when the receiver does not know such streams:
   * nothing was sent then.
   * @throws CairnError the receiver's, or UNREACHABLE; OUTCOME_UNKNOWN for a write that was sent
   * and has no answer
   */
  call(
    request: ForwardedRequest,
    cancel: CancelSignal,
    origin: CallOrigin = NO_ORIGIN,
  ): Promise<ForwardedAnswer | typeof NO_STREAM> {
    return new Promise((resolve, reject) => {
      if (cancel.aborted) return reject(cancel.reason);
      const sequence = ++this.#last;
      const trace = origin.trace ?? tracingOf()?.activeHeaders;
      const onAbort = () => {
        if (call.isSent) this.#abandon(call);
        this.#failed(call, cancel.reason as CairnError);
      };
      const settled = () => {
        if (!this.#calls.delete(sequence)) return;
        if (call.isSent) this.#unanswered--;
        cancel.removeEventListener("abort", onAbort);
        this.#batches.drop(call);
        this.#batches.resume();
        if (this.#isRetired && this.#calls.size === 0) this.#stream.end();
      };
      const call: PassedCall = {
        sequence,
        request,
        origin: trace === undefined ? origin : { ...origin, trace },
        bytes: bytesOf(request) + (origin.authorization?.length ?? 0) + (origin.client?.length ?? 0),
        isSent: false,
        resolve: (answer) => {
          settled();
          resolve(answer);
        },
        reject: (error) => {
          settled();
          if (error === NO_STREAM) resolve(NO_STREAM);
          else reject(error);
        },
      };
      cancel.addEventListener("abort", onAbort, { once: true });
      this.#calls.set(sequence, call);
      this.#batches.push(call);
    });
  }

  /**
   * Asks for the leader's read index. "unknown": it is of an earlier version, which does not know
   * the question.
   * @throws CairnError the leader's, or UNREACHABLE
   */
  async readIndex(cancel: CancelSignal): Promise<number | "unknown"> {
    if (!this.#knowsReadIndex) return "unknown";
    try {
      const answered = await this.call({ case: "readIndex", value: {} }, cancel);
      if (answered !== NO_STREAM) return this.#indexOf(answered);
    } catch (error) {
      if (!hasCode(error, "INVALID_ARGUMENT")) throw error;
    }
    this.#knowsReadIndex = false;
    return "unknown";
  }

  /** Checks the answer of a leader, on which the state of this member will be read. */
  #indexOf({ header, answer }: ForwardedAnswer): number {
    if (header?.clusterId !== this.sender.clusterId || answer.case !== "readIndex") {
      const text = `${this.channel.address} answered for cluster ${JSON.stringify(header?.clusterId)} with ${answer.case}`;
      throw new CairnError("WRONG_CLUSTER", text);
    }
    return toIndex(answer.value.index, "index");
  }

  /** Ends the stream when the calls under way are answered; no further call may be made. */
  retire(): void {
    this.#isRetired = true;
    if (this.#calls.size === 0) this.#stream.end();
  }

  /** Sends calls. A broken stream is reported by its receiving half. */
  async #sendCalls(calls: readonly PassedCall[]): Promise<void> {
    for (const call of calls) call.isSent = true;
    this.#unanswered += calls.length;
    const sent = calls.map(
      ({ sequence, request, origin: { caller = "", authorization = "", client = "", trace } }) => ({
        sequence,
        call: request,
        caller,
        authorization,
        client,
        ...(trace !== undefined && { trace: { headers: trace } }),
      }),
    );
    try {
      await this.#stream.send({ calls: sent, abandoned: this.#takeAbandoned() });
    } catch (error) {
      // The call alone is larger than a message may be: it has not left.
      if (!hasCode(error, "LIMIT_EXCEEDED")) return;
      for (const call of calls) call.reject(error);
    }
  }

  /**
   * Returns how many calls may be sent now. An ingress process leaves its node room for all of
   * them, so that the node always reads on, and learns which calls are abandoned.
   */
  #room(): number {
    return this.sender.ingress ? limits.sessionCallsInFlight - this.#unanswered : Number.POSITIVE_INFINITY;
  }

  /** Tells the node that a call was abandoned: with the next calls, or at the end of this turn. */
  #abandon({ sequence }: PassedCall): void {
    if (!this.sender.ingress) return;
    if (this.#abandoned.length === 0) setImmediate(() => this.#sendAbandoned());
    this.#abandoned.push(sequence);
  }

  #sendAbandoned(): void {
    const abandoned = this.#takeAbandoned();
    if (abandoned.length > 0) this.#stream.send({ abandoned }).catch(() => {});
  }

  #takeAbandoned(): bigint[] {
    const abandoned = this.#abandoned;
    this.#abandoned = [];
    return abandoned;
  }

  async #receive(): Promise<void> {
    try {
      for await (const { header, answers } of this.#stream.responses) {
        this.#hasGreeted = true;
        this.#batches.open();
        for (const answer of answers) this.#answered(header, answer);
      }
      this.#ended(new CairnError("UNREACHABLE", `${this.channel.address} has ended the stream`));
    } catch (error) {
      this.#ended(streamFailure(error));
    }
  }

  #answered(header: ResponseHeader | undefined, { sequence, answer }: SessionAnswer): void {
    const call = this.#calls.get(sequence);
    if (call === undefined) return;
    if (answer.case === "error") call.reject(fromCallError(answer.value));
    else call.resolve({ header, answer });
  }

  #ended(error: CairnError): void {
    this.#end = error;
    this.#batches.stop();
    // A node that did not greet, and found fault with the first message, does not know it.
    const isUnknown = !this.#hasGreeted && (error.code === "INVALID_ARGUMENT" || error.code === "UNIMPLEMENTED");
    for (const call of [...this.#calls.values()]) {
      if (isUnknown) call.reject(NO_STREAM);
      else this.#failed(call, error);
    }
  }

  /** Fails a call: a write that was sent may still take effect. */
  #failed(call: PassedCall, error: CairnError): void {
    const { code, text } = error;
    if (call.isSent && !READS.includes(call.request.case)) {
      const to = this.sender.ingress ? "node" : "leader";
      call.reject(new CairnError("OUTCOME_UNKNOWN", `the write was passed on to the ${to}: ${text}`, { cause: error }));
    } else call.reject(new CairnError(code, text, { cause: error }));
  }
}

/** Returns about how many bytes a call takes in a message. */
function bytesOf({ case: kind, value }: ForwardedRequest): number {
  if (kind === "txn") return messageBytes(value);
  const { key, value: stored, newValue, expected } = value as CallFields;
  return 64 + size(key) + size(stored) + size(newValue) + (expected?.case === "value" ? size(expected.value) : 0);
}

/** The fields of all kinds of calls that may be large. */
interface CallFields {
  readonly key?: Uint8Array;
  readonly value?: Uint8Array;
  readonly newValue?: Uint8Array;
  readonly expected?: CompareAndSetRequest["expected"];
}

function size(bytes: Uint8Array | undefined): number {
  return bytes?.byteLength ?? 0;
}
