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
import { CairnError, errorCodeOf } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { BidiStream, SharedChannel } from "../../rpc/client.js";

// Passes unary calls that reach a follower on to the leader, over one Session stream.

type CallInit = MessageInitShape<typeof SessionCallSchema>;
/** A call that is passed on. */
export type ForwardedRequest = NonNullable<CallInit["call"]>;

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
  #unsent: PassedCall[] = [];
  #last = 0n;
  #hasGreeted = false;
  #isFlushing = false;
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
        if (this.#isRetired && this.#calls.size === 0) this.#stream.end();
      };
      const call: PassedCall = {
        sequence,
        request,
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
      this.#unsent.push(call);
      this.#flushSoon();
    });
  }

  /** Ends the stream when the calls under way are answered; no further call may be made. */
  retire(): void {
    this.#isRetired = true;
    if (this.#calls.size === 0) this.#stream.end();
  }

  #flushSoon(): void {
    if (this.#isFlushing || !this.#hasGreeted || this.#unsent.length === 0) return;
    this.#isFlushing = true;
    setImmediate(() => void this.#flush());
  }

  async #flush(): Promise<void> {
    while (this.#unsent.length > 0 && this.isOpen) {
      // A broken stream is reported by its receiving half.
      await this.#stream.send({ calls: this.#nextCalls() }).catch(() => {});
    }
    this.#isFlushing = false;
  }

  /** Takes as many calls as one message holds; callers that gave up are left out. */
  #nextCalls(): CallInit[] {
    const calls: CallInit[] = [];
    let bytes = 0;
    let taken = 0;
    for (const call of this.#unsent) {
      bytes += bytesOf(call.request);
      if (calls.length > 0 && (bytes > limits.sessionMessageBytes || calls.length === limits.sessionMessageCalls))
        break;
      taken++;
      if (!this.#calls.has(call.sequence)) continue;
      call.isSent = true;
      calls.push({ sequence: call.sequence, call: call.request });
    }
    this.#unsent = taken === this.#unsent.length ? [] : this.#unsent.slice(taken);
    return calls;
  }

  async #receive(): Promise<void> {
    try {
      for await (const { header, answers } of this.#stream.responses) {
        if (!this.#hasGreeted) {
          this.#hasGreeted = true;
          this.#flushSoon();
        }
        for (const answer of answers) this.#answered(header, answer);
      }
      this.#ended(new CairnError("UNREACHABLE", `${this.channel.address} has ended the stream`));
    } catch (error) {
      const { code, text } = CairnError.from(error);
      // The RPC layer reports OUTCOME_UNKNOWN for every broken stream; here the outcome of each
      // call is known more precisely.
      this.#ended(new CairnError(code === "OUTCOME_UNKNOWN" ? "UNREACHABLE" : code, text, { cause: error }));
    }
  }

  #answered(header: ResponseHeader | undefined, { sequence, answer }: SessionAnswer): void {
    const call = this.#calls.get(sequence);
    if (call === undefined) return;
    if (answer.case !== "error") {
      call.resolve({ header, answer });
      return;
    }
    const { code, message, leaderId, leaderAddress, retryAfterMs, since } = answer.value;
    const error = new CairnError(errorCodeOf(code) ?? "INTERNAL", message, {
      leaderHint: leaderId || undefined,
      leaderAddress: leaderAddress || undefined,
      retryAfterMs: retryAfterMs || undefined,
      since: since === 0n ? undefined : Number(since),
    });
    call.reject(error);
  }

  #ended(error: CairnError): void {
    this.#end = error;
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
function bytesOf({ value }: ForwardedRequest): number {
  const { key, value: stored, newValue } = value as { key?: Uint8Array; value?: Uint8Array; newValue?: Uint8Array };
  return 64 + (key?.byteLength ?? 0) + (stored?.byteLength ?? 0) + (newValue?.byteLength ?? 0);
}
