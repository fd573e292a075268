import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SessionAnswer, SessionCallSchema } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../base/errors.js";
import type { TraceHeaders } from "../base/telemetry/tracing.js";
import type { Place } from "./call_queue.js";

/** The request of one call that goes over a session. */
export type CallRequest = NonNullable<MessageInitShape<typeof SessionCallSchema>["call"]>;
/** The answer to such a call, if it is not an error. */
export type CallAnswer = Exclude<SessionAnswer["answer"], { case: "error" } | { case: undefined }>;

/** A turn of the event loop in which calls are made. The calls are sent when the turn ends. */
export interface EventLoopTurn {
  endedAt: number | undefined;
}

const NOTHING_TO_CANCEL = () => {};

/** One call of a session, from the moment it is made until its caller has the answer. */
export class Call {
  readonly isWrite: boolean;
  /** The call's number within the client; 0 while the call waits in a queue. */
  sequence = 0;
  /**
   * When the leader had last answered any call at the moment this call became active; undefined
   * while this call waits in a queue.
   */
  answeredBefore: number | undefined;
  /** The call's place in its queue. */
  place: Place<Call> | undefined;
  /** Cancels the pause before the call is sent again. */
  cancelPause: () => void = NOTHING_TO_CANCEL;
  /**
   * Number of times the call was sent without an answer and without a refusal that proves that
   * nothing happened.
   */
  #openSends = 0;
  #isSettled = false;
  #cancelTimer: (() => void) | undefined;
  #stopWatching: (() => void) | undefined;

  constructor(
    readonly request: CallRequest,
    /** Approximate number of bytes that the call takes in a message. */
    readonly bytes: number,
    readonly turn: EventLoopTurn,
    private readonly onAnswer: (answer: CallAnswer) => void,
    private readonly onError: (error: CairnError) => void,
    /** Called before `onAnswer` or `onError`. */
    private readonly onEnd: (call: Call) => void,
    /** Context of the trace that the call is part of. */
    readonly trace?: TraceHeaders,
  ) {
    this.isWrite = request.case !== "get";
  }

  /** Sets the functions that cancel the call's timer and its watch on the caller's signal. */
  watch(cancelTimer: () => void, stopWatching: (() => void) | undefined): void {
    this.#cancelTimer = cancelTimer;
    this.#stopWatching = stopWatching;
  }

  /** Tells whether this is a write that was sent and whose outcome is unknown. */
  get mayHappen(): boolean {
    return this.isWrite && this.#openSends > 0;
  }

  sent(): void {
    this.#openSends++;
  }

  /** A node refused the call, so nothing happened there. */
  refused(): void {
    this.#openSends--;
  }

  resolve(answer: CallAnswer): void {
    if (this.#end()) this.onAnswer(answer);
  }

  /**
   * Ends the call with an error which says that nothing happened. When the call is a write that may
   * have taken effect, its caller gets OUTCOME_UNKNOWN instead.
   */
  reject(error: CairnError): void {
    if (this.#end()) this.onError(this.mayHappen ? outcomeUnknown(error) : error);
  }

  /** Ends the call with an error that holds whether or not the call took effect. */
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

/** Returns the error for an answer that only a later version gives. */
export function unknownAnswer(): CairnError {
  return new CairnError("INTERNAL", "the answer is of a kind that this version does not know");
}

/**
 * Returns the error of a write that was sent more than once before the cluster forgot its session.
 */
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

/** Returns the error of a call whose caller gave up. */
export function gaveUp(signal: AbortSignal): CairnError {
  return new CairnError("CANCELLED", "the caller gave up", { cause: signal.reason });
}

type AnswerTo<Kind extends CallAnswer["case"]> = Extract<CallAnswer, { readonly case: Kind }>["value"];

/** Returns the content of an answer of this kind. */
export function answerTo<Kind extends CallAnswer["case"]>(kind: Kind, answer: CallAnswer): AnswerTo<Kind> {
  if (answer.case === kind) return answer.value as AnswerTo<Kind>;
  throw new CairnError("INTERNAL", `the node answered a ${kind} with a ${answer.case}`);
}
