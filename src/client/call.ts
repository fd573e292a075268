import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SessionAnswer, SessionCallSchema, SessionError } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError, type CairnErrorCode, errorCodeOf } from "../base/errors.js";
import type { Place } from "./call_queue.js";

export type CallRequest = NonNullable<MessageInitShape<typeof SessionCallSchema>["call"]>;
export type CallAnswer = Exclude<SessionAnswer["answer"], { case: "error" } | { case: undefined }>;

/** A turn of the event loop in which calls are made. They are sent when it ends. */
export interface Turn {
  endedAt: number | undefined;
}

const NOTHING_TO_CANCEL = () => {};

/** One call of a session, from the moment it is made until its caller has the answer. */
export class Call {
  readonly isWrite: boolean;
  /** Its number within the client; 0 until it gets its turn. */
  sequence = 0;
  /**
   * When the leader last answered any call, as of this one's begin; undefined while it waits behind
   * others.
   */
  answeredBefore: number | undefined;
  /** Where it waits. */
  place: Place<Call> | undefined;
  /** Whoever holds it back for a while before it is sent again can be called off here. */
  cancelPause: () => void = NOTHING_TO_CANCEL;
  /**
   * Times that it was sent and neither answered, nor refused with the word that nothing happened.
   */
  #openSends = 0;
  #isSettled = false;
  #cancelTimer: (() => void) | undefined;
  #stopWatching: (() => void) | undefined;

  constructor(
    readonly request: CallRequest,
    /** About how many bytes it takes in a message. */
    readonly bytes: number,
    readonly turn: Turn,
    private readonly onAnswer: (answer: CallAnswer) => void,
    private readonly onError: (error: CairnError) => void,
    /** Called before either. */
    private readonly onEnd: (call: Call) => void,
  ) {
    this.isWrite = request.case !== "get";
  }

  /** Says how to call off what may end the call: its timer, and its caller's signal. */
  watch(cancelTimer: () => void, stopWatching: (() => void) | undefined): void {
    this.#cancelTimer = cancelTimer;
    this.#stopWatching = stopWatching;
  }

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
    if (this.#end()) this.onAnswer(answer);
  }

  /**
   * `error` says that nothing happened; when that is not known, because the call was sent, its
   * caller is told so.
   */
  reject(error: CairnError): void {
    if (this.#end()) this.onError(this.mayHappen ? outcomeUnknown(error) : error);
  }

  /** `error` holds whatever became of the call. */
  rejectAsItIs(error: CairnError): void {
    if (this.#end()) this.onError(error);
  }

  #end(): boolean {
    if (this.#isSettled) return false;
    this.#isSettled = true;
    this.cancelPause();
    this.#cancelTimer?.();
    this.#stopWatching?.();
    this.onEnd(this);
    return true;
  }
}

function outcomeUnknown(cause: CairnError): CairnError {
  const { leaderHint, leaderAddress } = cause;
  const text = `the write was sent, and may or may not take effect: ${cause.text}`;
  return new CairnError("OUTCOME_UNKNOWN", text, { cause, leaderHint, leaderAddress });
}

/**
 * What a node answered to one call, as the error that its caller gets. A code that this version
 * does not know is INTERNAL.
 */
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
