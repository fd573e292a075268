import type * as grpc from "@grpc/grpc-js";
import type { CancelSignal } from "../base/cancel_signal.js";
import { CairnError } from "../base/errors.js";
import { type InsideCall, type ServedStream, servedStream } from "./floods/served_stream.js";
import type { CallerAccess } from "./security/caller_access.js";
import type { CallerCertificate } from "./security/caller_certificate.js";
import { closeConnectionOf, connectionOf } from "./security/connections.js";
import { textValue } from "./status.js";

// Tracks a call on the server until it is answered or cancelled.

/** Describes a call to the handler that answers it. */
export interface CallContext {
  /**
   * Aborted when the client has stopped waiting; its reason is a CairnError, CANCELLED or TIMEOUT.
   */
  readonly signal: AbortSignal;
  /** The same, for one wait: cheaper than {@link signal}. */
  readonly cancel: CancelSignal;
  /** Metadata that the client sent; of several values of one key, the first. */
  readonly metadata: { get(key: string): string | undefined };
  /** Time at which the client stops waiting, in ms since 1970; undefined when it never does. */
  readonly deadlineMs: number | undefined;
  /** Address and port of the client; "unknown" when its connection is gone. */
  readonly peer: string;
  /** Room for the answers of the call's connection; undefined where nothing bounds it. */
  readonly answers?: AnswerPlace | undefined;
  /** The client's certificate; undefined without TLS, and when the client gave none. */
  readonly certificate: CallerCertificate | undefined;
  /**
   * True when the call came from one of the node's own ingress processes, by a way that nobody else
   * has: it may vouch for the caller that it serves.
   */
  readonly isIngress: boolean;
  /** The caller and its rights; undefined without an access file: it may do everything. */
  readonly access: CallerAccess | undefined;
  /** /package.Service/Method */
  readonly path: string;
  /**
   * Runs a check now, and again whenever the rules of access change while the call is open. A check
   * that throws then ends the call with its error.
   */
  keepChecking(check: () => void): void;
}

/** Bounds what waits until callers read it. */
export interface AnswerPlace {
  /** Whether there is room for another answer now. */
  readonly hasRoom: boolean;
  /** Resolves when there may be room, to be asked again; undefined: there is room now. */
  answerRoom(): Promise<void> | undefined;
  /** Nobody can get an answer any longer; the call's cancellation may follow. */
  readonly isGone: boolean;
  /** Takes room for an answer of this size, which is sent later. */
  promise(bytes: number): void;
}

/**
 * Makes an answer once there is room for it, and takes that room at once: many calls may make their
 * answers in one turn of the event loop. `make` must be synchronous.
 * @throws CairnError the reason of `cancel`, when the caller is gone
 */
export async function answerWithRoom<Answer>(
  { answers, cancel }: Pick<CallContext, "answers" | "cancel">,
  make: () => Answer,
  bytesOf: (answer: Answer) => number,
): Promise<Answer> {
  for (let room = answers?.answerRoom(); room !== undefined; room = answers?.answerRoom()) {
    await room;
    if (cancel.aborted) throw cancel.reason;
    // The calls of a connection end one after the other: none may make its answer meanwhile.
    if (answers?.isGone === true) throw new CairnError("CANCELLED", "the client is gone");
  }
  const answer = make();
  answers?.promise(bytesOf(answer));
  return answer;
}

/** Common part of every kind of grpc-js server call. */
export interface ServerCall {
  /** The call as interceptors see it; not in grpc-js's interface. */
  readonly call?: InsideCall;
  readonly metadata: grpc.Metadata;
  getPath(): string;
  getPeer(): string;
  getDeadline(): Date | number;
  on(event: "cancelled", listener: () => void): unknown;
}

/** A timer may fire this many ms before the clock shows its time. */
const TIMER_SLACK_MS = 2;

/**
 * One call on the server, from its arrival until its answer is handed over or its client is gone.
 */
export class ServerCallContext implements CallContext, CancelSignal {
  readonly #call: ServerCall;
  #listeners: ((error: CairnError) => void)[] = [];
  /** Made on first use: most unary handlers never need it. */
  #controller: AbortController | undefined;
  #cancellation: CairnError | undefined;
  #answered = false;
  #isRevoked = false;
  #checks: (() => void)[] | undefined;
  #enders: ((error: CairnError | undefined) => void)[] | undefined;
  /** Set by the guard of the service, before the handler runs. */
  access: CallerAccess | undefined;
  /** Set by the guard for a call of an ingress process: the address of its client. */
  clientAddress: string | undefined;

  constructor(call: ServerCall) {
    this.#call = call;
    // Also emitted after every answer; see answered().
    call.on("cancelled", () => this.#cancel());
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#cancellation !== undefined) this.#controller.abort(this.#cancellation);
    return this.#controller.signal;
  }

  get cancel(): CancelSignal {
    return this;
  }

  get aborted(): boolean {
    return this.#cancellation !== undefined;
  }

  get reason(): CairnError | undefined {
    return this.#cancellation;
  }

  addEventListener(_type: "abort", listener: () => void): void {
    this.#listeners.push(listener);
  }

  removeEventListener(_type: "abort", listener: () => void): void {
    const at = this.#listeners.lastIndexOf(listener);
    if (at >= 0) this.#listeners.splice(at, 1);
  }

  get answers(): ServedStream | undefined {
    return servedStream(this.#call.call?.stream);
  }

  get metadata(): { get(key: string): string | undefined } {
    return { get: (key) => textValue(this.#call.metadata, key) };
  }

  get deadlineMs(): number | undefined {
    const deadline = Number(this.#call.getDeadline());
    return deadline === Number.POSITIVE_INFINITY ? undefined : deadline;
  }

  get peer(): string {
    return this.clientAddress ?? this.#call.getPeer();
  }

  get certificate(): CallerCertificate | undefined {
    return connectionOf(this.#call).certificate;
  }

  get isIngress(): boolean {
    return connectionOf(this.#call).isIngress;
  }

  get path(): string {
    return this.#call.getPath();
  }

  keepChecking(check: () => void): void {
    check();
    this.#checks ??= [];
    this.#checks.push(check);
  }

  /** Runs the checks of {@link keepChecking} again; the first that fails ends the call. */
  checkAgain(): void {
    try {
      for (const check of this.#checks ?? []) check();
    } catch (error) {
      if (this.#answered || this.#cancellation !== undefined) return;
      this.#isRevoked = true;
      this.#cancelWith(CairnError.from(error));
    }
  }

  /**
   * Lets no further call come on the call's connection, which closes when those under way have
   * ended.
   */
  closeConnection(): void {
    closeConnectionOf(this.#call);
  }

  /** Whether the call was ended because its caller no longer may make it. */
  get isRevoked(): boolean {
    return this.#isRevoked;
  }

  /** Calls the listener once, when the call has been answered or cancelled. */
  onEnd(listener: (error: CairnError | undefined) => void): void {
    this.#enders ??= [];
    this.#enders.push(listener);
  }

  /** Reason why the client no longer waits for the answer; undefined while it waits. */
  get cancellation(): CairnError | undefined {
    return this.#cancellation;
  }

  /** Notes that the answer is handed over: the end of the call is no cancellation from now on. */
  answered(error?: CairnError): void {
    this.#answered = true;
    this.#end(error);
  }

  /**
   * Calls the listener when the call is cancelled before it is answered; at once when it already
   * is.
   */
  onCancelled(listener: (error: CairnError) => void): void {
    if (this.#cancellation === undefined) this.#listeners.push(listener);
    else listener(this.#cancellation);
  }

  #cancel(): void {
    if (this.#answered || this.#cancellation !== undefined) return;
    const error = this.#deadlineHasPassed()
      ? new CairnError("TIMEOUT", "the call's deadline has passed")
      : new CairnError("CANCELLED", "the client has cancelled the call or is gone");
    this.#cancelWith(error);
  }

  #cancelWith(error: CairnError): void {
    this.#cancellation = error;
    this.#controller?.abort(error);
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) listener(error);
    this.#end(error);
  }

  #end(error: CairnError | undefined): void {
    const enders = this.#enders;
    if (enders === undefined) return;
    this.#enders = undefined;
    for (const listener of enders) listener(error);
  }

  #deadlineHasPassed(): boolean {
    const deadline = this.deadlineMs;
    return deadline !== undefined && Date.now() + TIMER_SLACK_MS >= deadline;
  }
}
