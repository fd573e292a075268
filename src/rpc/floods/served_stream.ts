import { constants, type ServerHttp2Stream } from "node:http2";
import type * as grpc from "@grpc/grpc-js";
import type { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { sharedFrame } from "../codec.js";
import { statusFromError } from "../status.js";
import type { AnswerRoom } from "./answer_room.js";
import type { Connection } from "./connection.js";
import type { BudgetShare, RequestBudget } from "./request_budget.js";
import { type Admission, type MessageAdmission, RequestDecoder } from "./request_decoder.js";

/** Parts of a grpc-js server call that are not in its interface. */
export interface InsideCall extends grpc.ServerInterceptingCallInterface {
  readonly stream?: ServerHttp2Stream;
  decoder?: unknown;
  handleDataFrame?(data: Buffer): void;
  serializeMessage?(message: unknown): Buffer;
}

/** The room that a server's calls share. */
export interface Shared {
  readonly answers: AnswerRoom;
  /** Has room for a message, perhaps after others were refused; returns whether it took it. */
  takeRequest(stream: ServedStream, bytes: number): boolean;
  /** A message waits for room: {@link ServedStream.tryAgain} when there may be some. */
  held(stream: ServedStream): void;
  /** There is more room for requests. */
  released(): void;
  /** Returns the error for a message that has no room. */
  tooManyBytes(stream: ServedStream): CairnError;
}

/** A message of which fewer bytes come in this many milliseconds stalls. */
const STALL_MS = 2_000;
const STALL_BYTES = 4_096;

const SERVED = Symbol("the server's view of an HTTP/2 stream");

/** A stream of HTTP/2, which keeps the server's view of it. */
interface WithServed {
  [SERVED]?: ServedStream;
}

/** Returns what the server knows of a stream, if it guards its streams. */
export function servedStream(stream: object | undefined): ServedStream | undefined {
  return (stream as WithServed | undefined)?.[SERVED];
}

/**
 * One call or stream at a server, from its headers to the end of its HTTP/2 stream: what it holds
 * of the memory for requests and for answers.
 */
export class ServedStream implements MessageAdmission {
  readonly #shared: Shared;
  readonly #budget: RequestBudget;
  readonly #share: BudgetShare;
  readonly #decoder = new RequestDecoder(this);
  #call: InsideCall | undefined;
  #method: Pick<grpc.ServerMethodDefinition<unknown, unknown>, "requestStream" | "responseStream"> | undefined;
  /** Bytes of the budget that the call has. */
  #taken = 0;
  /** Messages that have arrived, and that nobody has taken. */
  #untaken = 0;
  #hasMessage = false;
  #hasAnswered = false;
  #isClosed = false;
  /** When the call began, or the message that is arriving. */
  #messageSince: number;
  /** The last note about that message: when it was, and the bytes that had come. */
  #notedAt: number;
  #notedBytes = 0;
  #stalls = false;
  /** Bytes of answers that the network has not taken, and since when it has taken none. */
  #unsent = 0;
  #unsentSince = 0;
  /** Room that was taken for answers which are not sent yet, in their order. */
  #promises: number[] | undefined;
  /** When a look found that all is sent, and that the caller's half is still open. */
  #lingersSince: number | undefined;

  constructor(
    readonly stream: ServerHttp2Stream,
    readonly connection: Connection,
    readonly isPeer: boolean,
    /** The call may take its time: an operator's. */
    private readonly isPatient: boolean,
    readonly openedAt: number,
    budget: RequestBudget,
    shared: Shared,
  ) {
    this.#budget = budget;
    this.#shared = shared;
    this.#share = isPeer ? connection.peerShare : connection.clientShare;
    this.#messageSince = openedAt;
    this.#notedAt = openedAt;
    (stream as WithServed)[SERVED] = this;
  }

  get share(): BudgetShare {
    return this.#share;
  }

  get budget(): RequestBudget {
    return this.#budget;
  }

  get unsent(): number {
    return this.#unsent;
  }

  /** Counts what a call of grpc-js receives and sends. */
  attach(call: InsideCall, method: grpc.ServerMethodDefinition<unknown, unknown>): void {
    this.#call = call;
    this.#method = method;
    call.decoder = this.#decoder;
    if (method.responseStream && call.serializeMessage !== undefined) {
      const serialize = call.serializeMessage.bind(call);
      // grpc-js makes a copy for each stream.
      call.serializeMessage = (message) => sharedFrame(message) ?? serialize(message);
    }
    const send = call.sendMessage.bind(call);
    call.sendMessage = (message: unknown, written) => {
      // Messages of health and reflection, which other libraries define, are no bytes yet.
      const { byteLength } = Buffer.isBuffer(message) ? message : method.responseSerialize(message);
      this.#add(byteLength);
      send(message, () => {
        this.#written(byteLength);
        written();
      });
    };
  }

  begins(bytes: number, isCompressed: boolean): Admission {
    const most = isCompressed ? this.#inflatedMost(bytes) : bytes;
    this.#messageSince = Date.now();
    if (isCompressed) (this.#call as { maxReceiveMessageSize?: number }).maxReceiveMessageSize = most;
    if (this.#shared.takeRequest(this, most)) {
      this.#taken += most;
      return "taken";
    }
    if (this.#method?.requestStream === true) {
      // A stream waits: its sender would have to send again all that it has under way.
      this.stream.pause();
      this.#shared.held(this);
      return "held";
    }
    this.refuse(this.#shared.tooManyBytes(this));
    return "refused";
  }

  /** Whether a message of the stream waits for room. */
  get isHeld(): boolean {
    return this.#decoder.isHeld;
  }

  /** Reads a message that was held, if there is room now. */
  tryAgain(): void {
    if (!this.#decoder.isHeld) return;
    const since = this.#messageSince;
    this.#call?.handleDataFrame?.(this.#decoder.takeHeld());
    if (this.#decoder.isHeld) this.#messageSince = since;
    else if (this.#decoder.expected !== undefined) this.stream.resume();
  }

  arrived(): void {
    this.#hasMessage = true;
    this.#untaken++;
  }

  /** The handler has a message of a stream of requests, which no longer counts. */
  consumed(bytes: number): void {
    if (this.#isClosed) return;
    this.#untaken--;
    const isLast = this.#untaken === 0 && this.#decoder.expected === undefined;
    this.#release(isLast ? this.#taken : Math.min(bytes, this.#taken));
  }

  /** Ends the call with an error. What it held is free again. */
  refuse(error: CairnError): void {
    this.#decoder.refuse();
    this.#release(this.#taken);
    this.#call?.sendStatus(statusFromError(error));
    // Behind the status: the caller must not go on with a message that nobody takes.
    this.stream.close(constants.NGHTTP2_NO_ERROR);
  }

  get isGone(): boolean {
    return this.#isClosed || this.stream.destroyed || this.stream.closed;
  }

  /** Whether there is room for another answer. */
  get hasRoom(): boolean {
    return this.#isClosed || this.#shared.answers.hasRoom(this);
  }

  /**
   * Lets a read wait until what it answers may wait to be sent. Undefined: there is room now.
   */
  answerRoom(): Promise<void> | undefined {
    if (this.hasRoom) return undefined;
    return this.#shared.answers.wait(this);
  }

  /** Takes room for the next answer. Every answer of a call has a promise, or none has. */
  promise(bytes: number): void {
    if (this.#isClosed) return;
    if (this.#promises === undefined) this.#promises = [bytes];
    else this.#promises.push(bytes);
    this.#shared.answers.add(this.connection, bytes);
  }

  /** The HTTP/2 stream is gone. */
  closed(): void {
    this.#isClosed = true;
    this.#decoder.refuse();
    this.#release(this.#taken);
    const promised = this.#promises?.reduce((sum, bytes) => sum + bytes, 0) ?? 0;
    this.#shared.answers.release(this.connection, this.#unsent + promised);
    this.#unsent = 0;
  }

  /**
   * Whether a message should have arrived by now, at this rate in bytes a second. A message that
   * the handler itself holds back is not late.
   */
  isLate(now: number, graceMs: number, rate: number): boolean {
    if (this.#isAnswered) return false;
    this.#noteProgress(now);
    const { expected = 0 } = this.#decoder;
    const isWaited = expected > 0 || this.isHeld || !this.#hasMessage;
    if (!isWaited) return false;
    if (this.stream.isPaused() && this.#hasMessage && !this.isHeld) this.#messageSince = now;
    return now - this.#messageSince > graceMs + (expected * 1_000) / rate;
  }

  /** Whether hardly anything of a large message has come for a while, although it might. */
  get isStalling(): boolean {
    return this.#stalls && (this.#decoder.expected ?? 0) > limits.smallRequestBytes;
  }

  /** Notes how much of a message has come, from time to time. */
  #noteProgress(now: number): void {
    if (now - this.#notedAt < STALL_MS) return;
    const { expected, received } = this.#decoder;
    const isSame = expected !== undefined && this.#messageSince < this.#notedAt;
    this.#stalls = isSame && !this.stream.isPaused() && received - this.#notedBytes < STALL_BYTES;
    this.#notedAt = now;
    this.#notedBytes = received;
  }

  /** Whether an answer to a whole request is overdue. */
  isUnanswered(now: number, { callMs, callMsMax }: { readonly callMs: number; readonly callMsMax: number }): boolean {
    if (!this.#hasMessage || this.#hasAnswered || this.isPeer || this.isPatient) return false;
    if (this.#isAnswered) return false;
    if (this.#method === undefined || this.#method.requestStream) return false;
    const deadline = Number(this.#call?.getDeadline());
    return now - this.openedAt > (deadline === Number.POSITIVE_INFINITY ? callMs : callMsMax);
  }

  /** For how long an answer has waited while the network has taken none of the call's, in ms. */
  stalledMs(now: number): number {
    return this.#unsent === 0 ? 0 : now - this.#unsentSince;
  }

  /** Closes a stream whose answer has been sent, and whose caller keeps its own half open. */
  closeIfLingering(now: number, graceMs: number): void {
    if (!this.stream.writableFinished || this.stream.closed) return;
    this.#lingersSince ??= now;
    if (now - this.#lingersSince > graceMs) this.stream.close(constants.NGHTTP2_NO_ERROR);
  }

  /** Ends the stream at once: its caller reads too slowly to be told why. */
  cutOff(): void {
    this.stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }

  /** Whether the answer is complete, or was refused. */
  get #isAnswered(): boolean {
    return this.stream.writableEnded;
  }

  #add(bytes: number): void {
    this.#hasAnswered = true;
    if (this.#isClosed) return;
    const promised = this.#promises?.shift() ?? 0;
    if (this.#unsent === 0) this.#unsentSince = Date.now();
    this.#unsent += bytes;
    this.#shared.answers.add(this.connection, bytes - promised);
  }

  #written(bytes: number): void {
    if (this.#isClosed) return;
    this.#unsent -= bytes;
    this.#unsentSince = Date.now();
    this.#shared.answers.release(this.connection, bytes);
  }

  /** Returns how large a compressed message may become. */
  #inflatedMost(bytes: number): number {
    // Messages of a stream are inflated at the same time, under one bound.
    if (this.#method?.requestStream === true) return limits.messageBytes;
    return Math.min(limits.messageBytes, Math.max(limits.smallRequestBytes, bytes * limits.inflateFactor));
  }

  #release(bytes: number): void {
    if (bytes === 0) return;
    this.#taken -= bytes;
    this.#budget.release(this.#share, bytes);
    this.#shared.released();
  }
}
