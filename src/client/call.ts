import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SessionAnswer, SessionCallSchema, SessionError } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError, type CairnErrorCode, errorCodeOf } from "../errors.js";

export type CallRequest = NonNullable<MessageInitShape<typeof SessionCallSchema>["call"]>;
export type CallAnswer = Exclude<SessionAnswer["answer"], { case: "error" } | { case: undefined }>;

/** One call of a session, from the moment it is made until its caller has the answer. */
export class Call {
  /** Its number within the client; 0 until it gets its turn. */
  sequence = 0;
  /** Whoever holds it back for a while before it is sent again can be called off here. */
  cancelPause: () => void = () => {};
  /** Times that it was sent and neither answered, nor refused with the word that nothing happened. */
  #openSends = 0;
  #isSettled = false;

  constructor(
    readonly request: CallRequest,
    readonly isWrite: boolean,
    /** About how many bytes it takes in a message. */
    readonly bytes: number,
    private readonly settle: {
      resolve(answer: CallAnswer): void;
      reject(error: CairnError): void;
      /** Called before either. */
      ended(): void;
    },
  ) {}

  /** It is a write that was sent, and whether it takes effect is not known. */
  get mayHappen(): boolean {
    return this.isWrite && this.#openSends > 0;
  }

  sent(): void {
    this.#openSends++;
  }

  /** A node has refused it: nothing happened there. */
  refused(): void {
    this.#openSends--;
  }

  resolve(answer: CallAnswer): void {
    if (this.#end()) this.settle.resolve(answer);
  }

  /** `error` says that nothing happened; when that is not known, because the call was sent, its caller is told so. */
  reject(error: CairnError): void {
    if (this.#end()) this.settle.reject(this.mayHappen ? outcomeUnknown(error) : error);
  }

  /** `error` holds whatever became of the call. */
  rejectAsItIs(error: CairnError): void {
    if (this.#end()) this.settle.reject(error);
  }

  #end(): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.cancelPause();
    this.settle.ended();
    return true;
  }
}

function outcomeUnknown(cause: CairnError): CairnError {
  const { leaderHint, leaderAddress } = cause;
  const text = `the write was sent, and may or may not take effect: ${cause.text}`;
  return new CairnError("OUTCOME_UNKNOWN", text, { cause, leaderHint, leaderAddress });
}

/** What a node answered to one call, as the error that its caller gets. A code that this version does not know is INTERNAL. */
export function errorOf({
  code: word,
  message,
  leaderId,
  leaderAddress,
  retryAfterMs,
  since,
}: SessionError): CairnError {
  const known = errorCodeOf(word);
  const code: CairnErrorCode = known ?? "INTERNAL";
  return new CairnError(code, known === undefined ? `${word}: ${message}` : message, {
    leaderHint: leaderId || undefined,
    leaderAddress: leaderAddress || undefined,
    retryAfterMs: retryAfterMs || undefined,
    since: code === "SESSION_EXPIRED" ? Number(since) : undefined,
  });
}

/** The error of a write whose session was forgotten after it had been sent before. */
export function sentByForgotten(cause: CairnError): CairnError {
  const text = `the write was sent, and the cluster no longer knows what became of it: ${cause.text}`;
  return new CairnError("OUTCOME_UNKNOWN", text, { cause });
}

export function clientIsClosed(): CairnError {
  return new CairnError("FAILED_PRECONDITION", "the client is closed");
}

export function closedDuringCall(): CairnError {
  return new CairnError("CANCELLED", "the client was closed during the call");
}

/** The error of a call whose caller gave up. */
export function gaveUp(signal: AbortSignal): CairnError {
  return new CairnError("CANCELLED", "the caller gave up", { cause: signal.reason });
}
