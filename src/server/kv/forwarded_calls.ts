import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  KeyValueService,
  type ResponseHeader,
  type SessionAnswer,
  type SessionCallSchema,
  type SessionRequestSchema,
  type SessionResponse,
} from "../../../gen/cairn/v1/kv_pb.js";
import type { CancelSignal } from "../../base/cancel_signal.js";
import { CairnError } from "../../base/errors.js";
import { CallBatches, messageBytes } from "../../rpc/call_batches.js";
import type { BidiStream, SharedChannel } from "../../rpc/client.js";
import { fromCallError, streamFailure } from "../../rpc/status.js";

// Passes unary calls that reach a follower on to the leader, over one Session stream.

/** A call that is passed on. */
export type ForwardedRequest = NonNullable<MessageInitShape<typeof SessionCallSchema>["call"]>;

/** The leader's answer. */
export interface ForwardedAnswer {
  readonly header: ResponseHeader | undefined;
  readonly answer: SessionAnswer["answer"];
}

/** The member that passes calls on. */
export interface ForwardingMember {
  readonly id: string;
  readonly clusterId: string;
}

/** A call under way. */
interface PassedCall {
  readonly sequence: bigint;
  readonly request: ForwardedRequest;
  /** About how many bytes the call takes in a message. */
  readonly bytes: number;
  isSent: boolean;
  readonly resolve: (answer: ForwardedAnswer) => void;
  readonly reject: (error: unknown) => void;
}

/** The leader does not take calls over a stream: it is of an earlier version. */
export const NO_STREAM = Symbol("the leader takes no calls over a stream");

/**
 * One stream to one leader. The calls of one turn of the event loop go in one message, and so do
 * those that gather while the network is busy.
 */
export class ForwardedCalls {
  readonly #stream: BidiStream<MessageInitShape<typeof SessionRequestSchema>, SessionResponse>;
  readonly #calls = new Map<bigint, PassedCall>();
  readonly #batches = new CallBatches<PassedCall>(
    (calls) => this.#sendCalls(calls),
    (run) => setImmediate(run),
  );
  #last = 0n;
  #hasGreeted = false;
  #isRetired = false;
  #end: CairnError | undefined;

  constructor(
    member: ForwardingMember,
    private readonly channel: SharedChannel,
  ) {
    this.#stream = channel.client(KeyValueService).session();
    this.#stream.send({ forwardedBy: member.id, clusterId: member.clusterId }).catch(() => {});
    void this.#receive();
  }

  /** False when the stream has ended: further calls need another one. */
  get isOpen(): boolean {
    return this.#end === undefined;
  }

  /**
   * Passes a call on. Resolves with {@link NO_STREAM} when the leader does not know such streams:
   * nothing was sent then.
   * @throws CairnError the leader's, or UNREACHABLE; OUTCOME_UNKNOWN for a write that was sent and
   * has no answer
   */
  call(request: ForwardedRequest, cancel: CancelSignal): Promise<ForwardedAnswer | typeof NO_STREAM> {
    return new Promise((resolve, reject) => {
      if (cancel.aborted) return reject(cancel.reason);
      const sequence = ++this.#last;
      const onAbort = () => this.#failed(call, cancel.reason as CairnError);
      const settled = () => {
        cancel.removeEventListener("abort", onAbort);
        this.#calls.delete(sequence);
        this.#batches.drop(call);
        if (this.#isRetired && this.#calls.size === 0) this.#stream.end();
      };
      const call: PassedCall = {
        sequence,
        request,
        bytes: bytesOf(request),
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

  /** Ends the stream when the calls under way are answered; no further call may be made. */
  retire(): void {
    this.#isRetired = true;
    if (this.#calls.size === 0) this.#stream.end();
  }

  /** A broken stream is reported by its receiving half. */
  #sendCalls(calls: readonly PassedCall[]): Promise<void> {
    for (const call of calls) call.isSent = true;
    return this.#stream
      .send({ calls: calls.map(({ sequence, request }) => ({ sequence, call: request })) })
      .catch(() => {});
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
    // A leader that did not greet, and found fault with the first message, does not know it.
    const isUnknown = !this.#hasGreeted && (error.code === "INVALID_ARGUMENT" || error.code === "UNIMPLEMENTED");
    for (const call of [...this.#calls.values()]) {
      if (isUnknown) call.reject(NO_STREAM);
      else this.#failed(call, error);
    }
  }

  /** Fails a call: a write that was sent may still take effect. */
  #failed(call: PassedCall, error: CairnError): void {
    const { code, text } = error;
    if (call.isSent && call.request.case !== "get") {
      call.reject(
        new CairnError("OUTCOME_UNKNOWN", `the write was passed on to the leader: ${text}`, { cause: error }),
      );
    } else call.reject(new CairnError(code, text, { cause: error }));
  }
}

/** Returns about how many bytes a call takes in a message. */
function bytesOf({ case: kind, value }: ForwardedRequest): number {
  if (kind === "txn") return messageBytes(value);
  const { key, value: stored, newValue } = value as { key?: Uint8Array; value?: Uint8Array; newValue?: Uint8Array };
  return 64 + (key?.byteLength ?? 0) + (stored?.byteLength ?? 0) + (newValue?.byteLength ?? 0);
}
