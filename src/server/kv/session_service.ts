import { setMaxListeners } from "node:events";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SessionRequest, SessionResponseSchema } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { answerWithRoom, type CallContext } from "../../rpc/call_context.js";
import { IncomingMessages } from "../../rpc/incoming_messages.js";
import type { CallerAccess } from "../../rpc/security/caller_access.js";
import { Places } from "../places.js";
import { IngressCalls, isSameSource } from "./ingress_calls.js";
import { type Header, headerOf } from "./key_value_calls.js";
import type { KeyValueNode } from "./key_value_node.js";
import type { UnaryCalls } from "./kv_service.js";
import {
  callBytes,
  type PendingAnswer,
  SessionCalls,
  type SessionIdentity,
  sessionAnswerBytes,
} from "./session_calls.js";
import { SessionLoad } from "./session_load.js";

type SessionResponseInit = MessageInitShape<typeof SessionResponseSchema>;

/** Serves the Session streams of a node. */
export class Sessions {
  readonly #streams = new Set<SessionStream>();
  readonly #places = new Places("sessionStreams", "sessions");
  readonly #load = new SessionLoad();

  constructor(
    private readonly node: KeyValueNode,
    private readonly unary: UnaryCalls,
  ) {}

  /** Number of open streams. */
  get count(): number {
    return this.#streams.size;
  }

  /** Answers one stream until its client ends it, or {@link stop} does. */
  serve(requests: AsyncIterable<SessionRequest>, context: CallContext): AsyncIterable<SessionResponseInit> {
    return this.#places.serve(() => this.#serve(requests, context));
  }

  async *#serve(
    requests: AsyncIterable<SessionRequest>,
    context: CallContext,
  ): AsyncGenerator<SessionResponseInit, void> {
    const stream = new SessionStream(this.node, this.unary, requests, context, this.#load);
    this.#streams.add(stream);
    try {
      yield* stream.responses();
    } finally {
      this.#streams.delete(stream);
    }
  }

  /** Stops reading calls. Each stream ends once the calls that it has read are answered. */
  stop(): void {
    for (const stream of this.#streams) stream.stopReading();
  }
}

/**
 * Serves one stream: reads calls, with a bounded number of unsent answers, and gathers the answers
 * that are ready.
 */
class SessionStream {
  readonly #requests: AsyncIterator<SessionRequest>;
  readonly #signal: AbortSignal;
  readonly #calls: SessionCalls;
  /** The calls of an ingress process; those of anybody else are {@link #calls}. */
  readonly #ingress: IngressCalls;
  /** Answers that are ready and not sent, in the order in which they became ready. */
  #ready: PendingAnswer[] = [];
  /** Number of answers in the message that is being sent. */
  #leaving = 0;
  /** Number of calls that were read and whose answers are not sent. */
  #inFlight = 0;
  /** About how many bytes these calls have. */
  #bytes = 0;
  /** True while the client waits for the answer to its first message. */
  #greet = false;
  #readingEnded = false;
  /** Known from the first message on. */
  #identity: SessionIdentity | undefined;
  #failure: unknown;
  /** Wakes the writer, which waits for an answer or for the end. */
  #wakeWriter: (() => void) | undefined;
  /** Wakes the reader, which waits until answers are sent. */
  #wakeReader: (() => void) | undefined;

  constructor(
    private readonly node: KeyValueNode,
    unary: UnaryCalls,
    private readonly requests: AsyncIterable<SessionRequest>,
    private readonly context: CallContext,
    private readonly load: SessionLoad,
  ) {
    const { signal } = context;
    this.#signal = signal;
    this.#requests = requests[Symbol.asyncIterator]();
    // Every waiting read listens to this signal, and Node takes more than ten listeners for a leak.
    setMaxListeners(0, signal);
    const answered = (answer: PendingAnswer) => {
      this.#ready.push(answer);
      this.#wakeWriter?.();
    };
    this.#calls = new SessionCalls(node, context, answered);
    const events = { answered, abandoned: (calls: number) => this.#leftFlight(calls) };
    this.#ingress = new IngressCalls(node.id, unary, events, context);
  }

  /**
   * Yields the responses. Ends when there are no more calls and all are answered, or when the call
   * is cancelled.
   */
  async *responses(): AsyncGenerator<SessionResponseInit, void, undefined> {
    const onAbort = () => {
      this.stopReading();
      this.#ingress.abandonAll();
    };
    this.#signal.addEventListener("abort", onAbort, { once: true });
    void this.#read();
    try {
      for (;;) {
        await this.#untilSomethingIsReady();
        if (this.#signal.aborted || this.#isDone) break;
        // Answers that become ready in this turn of the event loop go into the same message.
        await new Promise<void>((resolve) => setImmediate(resolve));
        // Nothing here keeps a message while the next one is waited for.
        yield await this.#nextResponse();
        this.#leftFlight(this.#leaving);
      }
      if (this.#failure !== undefined) throw this.#failure;
    } finally {
      this.#signal.removeEventListener("abort", onAbort);
      this.stopReading();
      this.#weigh(-this.#bytes);
    }
  }

  async #nextResponse(): Promise<SessionResponseInit> {
    const taken = await answerWithRoom(
      this.context,
      () => this.#takeAnswers(),
      ({ bytes }) => bytes,
    );
    const { header = headerOf(this.node), answers } = taken;
    const rememberedWrites = this.#greet ? limits.sessionAnswers : 0;
    this.#greet = false;
    this.#leaving = answers.length;
    return { header, answers, rememberedWrites };
  }

  stopReading(): void {
    if (this.#readingEnded) return;
    this.#endReading();
    // Not awaited: a reader that waits for room notices the end without it.
    this.#requests.return?.().then(undefined, () => {});
  }

  /** Whether the calls under way are so large that others must wait until some are answered. */
  get #isHeavy(): boolean {
    if (this.#bytes === 0) return false;
    return this.#bytes > limits.sessionStreamBytes || this.load.isFull;
  }

  #weigh(bytes: number): void {
    this.#bytes += bytes;
    this.load.add(bytes);
  }

  get #isDone(): boolean {
    return this.#readingEnded && this.#inFlight === 0 && !this.#greet;
  }

  async #read(): Promise<void> {
    try {
      while (await this.#readMessage()) {
        // Each message has a frame of its own: see there.
      }
      this.#endReading();
    } catch (error) {
      this.#failure ??= error;
      this.stopReading();
    }
  }

  /**
   * Reads one message, and starts its calls. Returns false when there is none. It is no part of the
   * loop, because a loop that waits keeps the last message in memory until the next one comes:
   * megabytes for each stream that is idle.
   */
  async #readMessage(): Promise<boolean> {
    if (this.#identity?.clientId !== undefined) await this.#turn();
    const { done, value: request } = await this.#requests.next();
    if (done === true || this.#readingEnded) return false;
    if (this.#identity === undefined) {
      this.#identity = this.#identify(request);
      this.#greet = true;
      this.#wakeWriter?.();
    }
    checkSame(request, this.#identity);
    await this.#start(request, this.#identity);
    return true;
  }

  /**
   * Resolves when it is a client's turn to have its next message taken. The message has arrived by
   * then, and counts among the requests that the server holds: else all streams that wait for their
   * next message would have had their turn long before it comes.
   */
  async #turn(): Promise<void> {
    if (this.requests instanceof IncomingMessages) {
      const arrival = this.requests.arrival();
      if (arrival !== undefined) await arrival;
    }
    const turn = this.load.turn();
    if (turn !== undefined) await turn;
  }

  /**
   * Starts the calls of a message: at once if there is room for all of them, otherwise as room
   * comes.
   */
  async #start(request: SessionRequest, { clientId, isIngress }: SessionIdentity): Promise<void> {
    const { calls, acknowledgedThrough, since } = request;
    if (isIngress) this.#ingress.abandon(request.abandoned);
    const most = limits.sessionCallsInFlight;
    for (let at = 0; at < calls.length; at += most) {
      const some = calls.length <= most ? calls : calls.slice(at, at + most);
      while ((this.#inFlight + some.length > most || this.#isHeavy) && !this.#readingEnded) {
        await this.#untilSomethingIsSent();
      }
      if (this.#readingEnded) return;
      this.#inFlight += some.length;
      this.#weigh(some.reduce((sum, call) => sum + callBytes(call), 0));
      if (isIngress) this.#ingress.start(some);
      else this.#calls.start(some, clientId === undefined ? undefined : { clientId, acknowledgedThrough, since });
    }
  }

  /**
   * Reads the client's identity from the first message, or that of the member or ingress process
   * that passes calls on.
   * @throws CairnError INVALID_ARGUMENT, WRONG_CLUSTER, PERMISSION_DENIED
   */
  #identify({ clientId, clusterId, forwardedBy, ingress }: SessionRequest): SessionIdentity {
    checkKind(this.context, ingress ? "ingress" : forwardedBy === "" ? "client" : "member");
    if (clusterId !== "" && clusterId !== this.node.clusterId) {
      const what = forwardedBy === "" ? "cluster_id is" : "the call was passed on within cluster";
      const text = `${what} ${JSON.stringify(clusterId)}, but this node belongs to ${this.node.clusterId}`;
      throw new CairnError("WRONG_CLUSTER", text);
    }
    if ((ingress || forwardedBy !== "") && clientId === "") return { clientId: undefined, isIngress: ingress };
    const bytes = Buffer.byteLength(clientId);
    if (bytes === 0 || bytes > limits.clientIdBytes) {
      const text = `client_id has ${bytes} bytes: the first message must have one of 1 to ${limits.clientIdBytes} (clientIdBytes)`;
      throw new CairnError("INVALID_ARGUMENT", text);
    }
    return { clientId, isIngress: false };
  }

  /** Takes as many ready answers as one message holds, all from one node, with its header. */
  #takeAnswers() {
    const answers = [];
    let header: Header | undefined;
    let bytes = 0;
    for (const pending of this.#ready) {
      if (answers.length === limits.sessionMessageCalls) break;
      if (answers.length > 0 && !isSameSource(header, pending.header)) break;
      // Of one node, a later header has at least the applied index of an earlier one.
      header = pending.header;
      const answer = pending.take();
      const size = sessionAnswerBytes(answer);
      if (answers.length > 0 && bytes + size > limits.sessionMessageBytes) break;
      bytes += size;
      answers.push(answer);
    }
    this.#ready = answers.length === this.#ready.length ? [] : this.#ready.slice(answers.length);
    return { header, answers, bytes };
  }

  /** Notes that calls have left: their answers are sent, or nobody waits for them. */
  #leftFlight(calls: number): void {
    // Calls of one stream are taken to be equally large.
    this.#weigh(calls >= this.#inFlight ? -this.#bytes : -Math.floor((this.#bytes * calls) / this.#inFlight));
    this.#inFlight -= calls;
    this.#wakeReader?.();
    if (this.#isDone) this.#wakeWriter?.();
  }

  #endReading(): void {
    this.#readingEnded = true;
    this.#wakeWriter?.();
    this.#wakeReader?.();
  }

  async #untilSomethingIsReady(): Promise<void> {
    while (this.#ready.length === 0 && !this.#greet && !this.#isDone && !this.#signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wakeWriter = resolve;
      });
    }
  }

  #untilSomethingIsSent(): Promise<void> {
    return new Promise((resolve) => {
      this.#wakeReader = resolve;
    });
  }
}

/**
 * Checks that a stream comes from the kind of caller that it claims.
 * @throws CairnError PERMISSION_DENIED
 */
function checkKind(context: CallContext, claimed: CallerAccess["kind"]): void {
  const { access } = context;
  if (access === undefined || access.kind === claimed) return;
  throw access.refusal(context, `the place of a ${claimed} that the first message of the session claims`);
}

function checkSame({ clientId }: SessionRequest, identity: SessionIdentity): void {
  if (clientId === "" || clientId === identity.clientId) return;
  const text = `client_id is ${JSON.stringify(clientId)}, but the stream belongs to ${JSON.stringify(identity.clientId)}`;
  throw new CairnError("INVALID_ARGUMENT", text);
}
