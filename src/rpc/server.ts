import type { Readable } from "node:stream";
import type {
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type * as grpc from "@grpc/grpc-js";
import { CairnError, type CairnErrorCode } from "../base/errors.js";
import { type Tracing, tracingOf } from "../base/telemetry/tracing.js";
import { type AnswerPlace, type CallContext, ServerCallContext } from "./call_context.js";
import { type AnyMessage, decodeMessage, EncodedMessage, encodeMessage, methodName, methodPath } from "./codec.js";
import { IncomingMessages } from "./incoming_messages.js";
import { OutgoingMessages } from "./outgoing_messages.js";
import { serverSpan } from "./spans/unary_spans.js";
import { statusFromError, statusOfCode } from "./status.js";

// Serves protobuf services from typed handlers.

/** The methods of a service, as functions. A missing method answers UNIMPLEMENTED. */
export type ServiceImplementation<Service extends DescService> = {
  [Name in keyof Service["method"]]?: MethodImplementation<Service["method"][Name]>;
};

/**
 * Implements a method. A thrown CairnError becomes the call's status; any other error becomes
 * INTERNAL.
 */
export type MethodImplementation<Method extends DescMethod> =
  Method extends DescMethodUnary<infer Request, infer Response>
    ? (request: MessageShape<Request>, context: CallContext) => Promise<MessageInitShape<Response>>
    : Method extends DescMethodServerStreaming<infer Request, infer Response>
      ? (
          request: MessageShape<Request>,
          context: CallContext,
        ) => AsyncIterable<MessageInitShape<Response> | EncodedMessage>
      : Method extends DescMethodClientStreaming<infer Request, infer Response>
        ? (requests: AsyncIterable<MessageShape<Request>>, context: CallContext) => Promise<MessageInitShape<Response>>
        : Method extends DescMethodBiDiStreaming<infer Request, infer Response>
          ? (
              requests: AsyncIterable<MessageShape<Request>>,
              context: CallContext,
            ) => AsyncIterable<MessageInitShape<Response>>
          : never;

/** Learns of the calls of one method. */
export interface CallObserver {
  /** A call begins. Returns its time, for {@link ended}. */
  begun(): number;
  /** It has ended, with an error of this code, or without. */
  ended(begunMs: number, code: CairnErrorCode | undefined): void;
}

export interface AddServiceOptions {
  /**
   * When it is aborted, every stream of requests fails with its reason, a CairnError, after the
   * requests that have arrived.
   */
  readonly stopping?: AbortSignal | undefined;
  /**
   * Called with every error of a handler that is no CairnError: a bug. The caller gets INTERNAL.
   */
  readonly onUnexpectedError?: (error: unknown, method: string) => void;
  /** Returns the observer of a method's calls. */
  readonly observe?: ((method: DescMethod) => CallObserver) | undefined;
  /**
   * Called once before the handler of every call, which fails with the CairnError that it throws.
   * It may set `context.access`.
   */
  readonly guard?: ((method: DescMethod, context: ServerCallContext) => void) | undefined;
  /** Calls with one answer are spans, when the application has @opentelemetry/api. */
  readonly isTraced?: boolean;
  /** Leaves methods without an implementation to somebody else. */
  readonly isPartial?: boolean;
}

/**
 * Makes a grpc-js server answer the methods of a service.
 *
 * `streamBufferBytes` bounds the waiting messages in both directions. When a call is cancelled,
 * runs out of time or loses its connection, `context.signal` is aborted, the stream of requests
 * ends with that error, and the stream of answers is return()ed. A handler of a stream may end
 * before its requests do: the rest of them is dropped.
 */
export function addService<Service extends DescService>(
  server: Pick<grpc.Server, "addService">,
  service: Service,
  implementation: ServiceImplementation<Service>,
  options: AddServiceOptions = {},
): void {
  const definition: Record<string, grpc.MethodDefinition<Buffer, Buffer>> = {};
  const handlers: Record<string, grpc.UntypedHandleCall> = {};
  for (const method of service.methods) {
    const name = method.localName as keyof Service["method"] & string;
    if (options.isPartial && implementation[name] === undefined) continue;
    definition[name] = methodDefinition(method);
    const handler = implementation[name]?.bind(implementation) as Handler | undefined;
    handlers[name] = handleCall(new ServedMethod(method, handler ?? notImplemented(method), options));
  }
  server.addService(definition, handlers);
}

/** A method's implementation without its types. */
type Handler = (input: never, context: CallContext) => Promise<AnyMessage> | AsyncIterable<AnyMessage>;

/**
 * Defines a method whose messages stay bytes inside grpc-js, which would otherwise report errors of
 * encoding and decoding in its own way.
 */
function methodDefinition(method: DescMethod): grpc.MethodDefinition<Buffer, Buffer> {
  const asItIs = (bytes: Buffer) => bytes;
  return {
    path: methodPath(method),
    requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    requestSerialize: asItIs,
    requestDeserialize: asItIs,
    responseSerialize: asItIs,
    responseDeserialize: asItIs,
  };
}

function notImplemented(method: DescMethod): Handler {
  return () => {
    throw new CairnError("UNIMPLEMENTED", `${methodName(method)} is not implemented yet`);
  };
}

function handleCall(method: ServedMethod): grpc.UntypedHandleCall {
  switch (method.kind) {
    case "unary":
      return (call: grpc.ServerUnaryCall<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
        const context = new ServerCallContext(call);
        void method.answerOnce(() => method.decode(call.request), context, callback);
      };
    case "client_streaming":
      return (call: grpc.ServerReadableStream<Buffer, Buffer>, callback: grpc.sendUnaryData<Buffer>) => {
        const context = new ServerCallContext(call);
        const { requests, ended } = incomingRequests(call, context, method);
        void method.answerOnce(() => requests, context, callback).finally(ended);
      };
    case "server_streaming":
      return (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
        const context = new ServerCallContext(call);
        void method.answerMany(() => method.decode(call.request), context, call);
      };
    case "bidi_streaming":
      return (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
        const context = new ServerCallContext(call);
        const { requests, ended } = incomingRequests(call, context, method);
        void method.answerMany(() => requests, context, call).finally(ended);
      };
  }
}

/** A method and its handler: answers the calls of the method. */
class ServedMethod {
  readonly kind: DescMethod["methodKind"];
  readonly #method: DescMethod;
  readonly #handler: Handler;
  readonly #onUnexpectedError: AddServiceOptions["onUnexpectedError"];
  readonly #observer: CallObserver | undefined;
  readonly #guard: AddServiceOptions["guard"];
  /** Undefined without @opentelemetry/api, and for calls that are not traced. */
  readonly #tracing: Tracing | undefined;
  readonly stopping: AbortSignal | undefined;

  constructor(method: DescMethod, handler: Handler, options: AddServiceOptions) {
    this.kind = method.methodKind;
    this.stopping = options.stopping;
    this.#method = method;
    this.#handler = handler;
    this.#onUnexpectedError = options.onUnexpectedError;
    this.#observer = options.observe?.(method);
    this.#guard = options.guard;
    this.#tracing = options.isTraced === true ? tracingOf() : undefined;
  }

  readonly decode = (bytes: Buffer): MessageShape<DescMessage> => {
    try {
      return decodeMessage(this.#method.input, bytes);
    } catch (error) {
      const text = `${methodName(this.#method)}: the request is not a valid ${this.#method.input.typeName}: ${String(error)}`;
      throw new CairnError("INVALID_ARGUMENT", text, { cause: error });
    }
  };

  /** Answers with one message. Never rejects. */
  async answerOnce(input: () => unknown, context: ServerCallContext, callback: grpc.sendUnaryData<Buffer>) {
    const begunMs = this.#observer?.begun() ?? 0;
    const span = this.#tracing && serverSpan(this.#tracing, this.#method, context);
    try {
      this.#guard?.(this.#method, context);
      const running = span === undefined ? this.#run(input(), context) : span.run(() => this.#run(input(), context));
      const answer = await (running as Promise<AnyMessage>);
      const bytes = encodeMessage(this.#method.output, answer);
      context.answered();
      this.#observer?.ended(begunMs, undefined);
      span?.end(0);
      callback(null, bytes);
    } catch (error) {
      const failure = this.#failure(error, context, begunMs);
      span?.end(statusOfCode(failure.code), failure);
      context.answered(failure);
      callback(statusFromError(failure));
    }
  }

  /** Answers with a stream. Never rejects. */
  async answerMany(input: () => unknown, context: ServerCallContext, call: AnswerStream): Promise<void> {
    const begunMs = this.#observer?.begun() ?? 0;
    const outgoing = outgoingAnswers(call);
    context.onCancelled((error) => {
      outgoing.fail(error);
      if (context.isRevoked) call.emit("error", statusFromError(error));
    });
    try {
      this.#guard?.(this.#method, context);
      const answers = this.#run(input(), context) as AsyncIterable<AnyMessage | EncodedMessage>;
      await this.#sendAll(answers, outgoing, context);
      this.#observer?.ended(begunMs, context.cancellation?.code);
      if (context.isRevoked) return;
      context.answered();
      outgoing.end(() => call.end());
    } catch (error) {
      const failure = this.#failure(error, context, begunMs);
      if (context.isRevoked) return;
      context.answered(failure);
      // grpc-js takes this event for the call's status.
      outgoing.end(() => call.emit("error", statusFromError(failure)));
    }
  }

  #run(input: unknown, context: CallContext): Promise<AnyMessage> | AsyncIterable<AnyMessage> {
    return this.#handler(input as never, context);
  }

  async #sendAll(
    answers: AsyncIterable<AnyMessage | EncodedMessage>,
    outgoing: OutgoingMessages,
    context: ServerCallContext,
  ) {
    const iterator = answers[Symbol.asyncIterator]();
    // Not awaited: a generator that is waiting sees this only when it resumes, and the signal makes
    // it resume.
    const stop = () => void iterator.return?.()?.then(undefined, () => {});
    context.onCancelled(stop);
    while (await this.#sendNext(iterator, outgoing, context, stop)) {
      // Each answer has a frame of its own: see there.
    }
  }

  /**
   * Sends the next answer. Returns false when it was the last. It is no part of the loop, because a
   * loop that waits keeps the last answer in memory until the next one comes.
   */
  async #sendNext(
    iterator: AsyncIterator<AnyMessage | EncodedMessage>,
    outgoing: OutgoingMessages,
    context: ServerCallContext,
    stop: () => void,
  ): Promise<boolean> {
    const { answers: place } = context;
    const room = place?.answerRoom();
    if (room !== undefined && !(await hasRoom(place!, room))) {
      stop();
      return false;
    }
    const { done, value } = await iterator.next();
    if (done === true || context.cancellation !== undefined) return false;
    try {
      if (!(value instanceof EncodedMessage)) await outgoing.send(encodeMessage(this.#method.output, value));
      else {
        // One change is the answer of many watches, each of which found room before it came.
        const shared = place?.answerRoom();
        if (shared !== undefined && !(await hasRoom(place!, shared))) {
          stop();
          return false;
        }
        await outgoing.send(value.bytes, value.written);
      }
      return true;
    } catch (error) {
      stop();
      throw error;
    }
  }

  #failure(error: unknown, context: ServerCallContext, begunMs: number): CairnError {
    if (!(error instanceof CairnError) && !isAbort(error, context)) {
      this.#onUnexpectedError?.(error, methodName(this.#method));
    }
    const failure = CairnError.from(error);
    this.#observer?.ended(begunMs, failure.code);
    return failure;
  }
}

/** Waits for room until there is some; returns false when nobody can get an answer any longer. */
async function hasRoom(place: AnswerPlace, room: Promise<void>): Promise<boolean> {
  for (let next: Promise<void> | undefined = room; next !== undefined; next = place.answerRoom()) {
    await next;
    if (place.isGone) return false;
  }
  return true;
}

/** The writable side of a grpc-js server stream. */
interface AnswerStream {
  write(bytes: Buffer, written: (error?: Error | null) => void): boolean;
  end(): void;
  emit(event: "error", status: object): boolean;
}

/** Sends the answers of a streaming call. */
export function outgoingAnswers(call: Pick<AnswerStream, "write">): OutgoingMessages {
  return new OutgoingMessages((bytes, written) => {
    call.write(bytes, (error?: Error | null) => {
      // A failed write ends the call, and that fails everything that waits.
      if (error === undefined || error === null) written();
    });
  });
}

/** Reads the requests of one method. */
interface RequestReader<Request> {
  readonly decode: (bytes: Buffer) => Request;
  /** See {@link AddServiceOptions.stopping}. */
  readonly stopping?: AbortSignal | undefined;
}

/** The readable side of a grpc-js server stream. */
type RequestStream = Pick<Readable, "_read" | "on">;

/**
 * Reads the requests of a streaming call. A grpc-js stream reads up to 16 messages ahead, whatever
 * their size. Its `_read` asks the network for one more; in its place, the number of waiting bytes
 * decides.
 */
export function incomingRequests<Request>(
  call: RequestStream,
  context: ServerCallContext,
  { decode, stopping }: RequestReader<Request>,
): { requests: IncomingMessages<Request>; ended: () => void } {
  const read = call._read.bind(call);
  const { answers: served } = context;
  const requests = new IncomingMessages<Request>({
    startRead: () => read(1),
    decode(bytes) {
      served?.consumed(bytes.byteLength);
      return decode(bytes);
    },
    // The stream is still read, and arriving messages are dropped: the client must not wait for
    // room that never comes.
    abandoned: () => {},
  });
  call._read = () => requests.readNext();
  call.on("data", (bytes: Buffer) => requests.push(bytes));
  call.on("end", () => endUnlessCancelled(requests, () => read(1)));
  context.onCancelled((error) => requests.abort(error));
  const onStop = () => requests.fail(stopping?.reason);
  if (stopping?.aborted) onStop();
  else stopping?.addEventListener("abort", onStop, { once: true });
  const ended = () => {
    stopping?.removeEventListener("abort", onStop);
    void requests.return();
  };
  return { requests, ended };
}

/**
 * Ends the requests, unless the client has reset the call. A Node client that cancels sends the end
 * of its stream right before the reset, and grpc-js reports the two one after the other: half a
 * stream of requests would look like a whole one. So this waits until everything that the socket
 * has read is processed; `look` then makes grpc-js notice a reset, which it reports in the next
 * tick.
 */
function endUnlessCancelled(requests: IncomingMessages<unknown>, look: () => void): void {
  setImmediate(() => {
    look();
    process.nextTick(() => requests.end());
  });
}

/** Returns whether a handler stopped because its signal told it to. */
function isAbort(error: unknown, context: ServerCallContext): boolean {
  return context.cancellation !== undefined && error instanceof Error && error.name === "AbortError";
}
