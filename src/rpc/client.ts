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
import { CairnError } from "../base/errors.js";
import { tracingOf } from "../base/telemetry/tracing.js";
import { type CallSettings, Channel, type ChannelSettings, type ClientCall, cancelledByCaller } from "./channel.js";
import { type AnyMessage, decodeMessage, encodeMessage, methodName } from "./codec.js";
import { IncomingMessages } from "./incoming_messages.js";
import { OutgoingMessages } from "./outgoing_messages.js";
import { asClientSpan } from "./spans/unary_spans.js";

// Makes typed clients of protobuf services.

/**
 * The methods of a service, as functions. They fail with CairnErrors only. The error of a stream
 * may overtake messages that were sent before it and are not read yet; the good end of a stream
 * never does.
 */
export type Client<Service extends DescService> = {
  [Name in keyof Service["method"]]: ClientMethod<Service["method"][Name]>;
};

export type ClientMethod<Method extends DescMethod> =
  Method extends DescMethodUnary<infer Request, infer Response>
    ? (request: MessageInitShape<Request>, settings?: CallSettings) => Promise<MessageShape<Response>>
    : Method extends DescMethodServerStreaming<infer Request, infer Response>
      ? (request: MessageInitShape<Request>, settings?: CallSettings) => AsyncIterable<MessageShape<Response>>
      : Method extends DescMethodClientStreaming<infer Request, infer Response>
        ? (settings?: CallSettings) => ClientStream<MessageInitShape<Request>, MessageShape<Response>>
        : Method extends DescMethodBiDiStreaming<infer Request, infer Response>
          ? (settings?: CallSettings) => BidiStream<MessageInitShape<Request>, MessageShape<Response>>
          : never;

/** The sending half of a call. */
export interface RequestSender<Request> {
  /**
   * Sends a message. Resolves when there is room for the next one, which does not mean that this
   * one has arrived; rejects when the call has failed or the server has ended it.
   */
  send(request: Request): Promise<void>;
  /**
   * Sends a message that is encoded already. Its memory is free again when `written` is called,
   * which a broken call never does.
   */
  sendEncoded(request: Buffer, written?: () => void): Promise<void>;
  /** Ends the sending: no more messages follow. */
  end(): void;
  /** Ends the call with CANCELLED, at both sides. */
  cancel(): void;
}

/** A call with many requests and one response. */
export interface ClientStream<Request, Response> extends RequestSender<Request> {
  readonly response: Promise<Response>;
}

/** A call with many requests and many responses. */
export interface BidiStream<Request, Response> extends RequestSender<Request> {
  /** Responses for one consumer. Leaving the loop early cancels both halves of the call. */
  readonly responses: AsyncIterable<Response>;
}

/** A connection to one node, for clients of several services. */
export interface SharedChannel {
  /** host:port */
  readonly address: string;
  /** Makes a client of a service. */
  client<Service extends DescService>(service: Service): Client<Service>;
  /**
   * Ends all running calls with CANCELLED, and closes the connection. May be called more than once.
   */
  close(): void;
}

/**
 * Opens a channel to host:port. It connects when the first call needs it, and again whenever the
 * connection broke.
 */
export function openChannel(address: string, settings: ChannelSettings = {}): SharedChannel {
  const channel = new Channel(address, settings);
  return {
    address,
    client: (service) => clientOf(service, channel),
    close: () => channel.close(),
  };
}

/** Makes a client of one service with its own channel, which close() ends. */
export function createClient<Service extends DescService>(
  service: Service,
  address: string,
  settings: ChannelSettings = {},
): Client<Service> & { close(): void } {
  const channel = openChannel(address, settings);
  return Object.assign(channel.client(service), { close: () => channel.close() });
}

/** Makes a client of a service over a channel. */
export function clientOf<Service extends DescService>(service: Service, channel: Channel): Client<Service> {
  const methods = service.methods.map((method) => [method.localName, clientMethod(method, channel)]);
  return Object.fromEntries(methods) as Client<Service>;
}

/** An answer of any type. */
type AnyAnswer = MessageShape<DescMessage>;

function clientMethod(method: DescMethod, channel: Channel): unknown {
  switch (method.methodKind) {
    case "unary":
      return (request: AnyMessage, settings?: CallSettings) => callUnary(channel, method, request, settings);
    case "server_streaming":
      return (request: AnyMessage, settings?: CallSettings) => callServerStreaming(channel, method, request, settings);
    case "client_streaming":
      return (settings?: CallSettings) => callClientStreaming(channel, method, settings);
    case "bidi_streaming":
      return (settings?: CallSettings) => callBidi(channel, method, settings);
  }
}

async function callUnary(channel: Channel, method: DescMethod, request: AnyMessage, settings: CallSettings = {}) {
  const bytes = encodeMessage(method.input, request);
  const sending = { started: (call: ClientCall) => sendOnly(call, bytes), ended: () => {} };
  const tracing = tracingOf();
  const service = method.parent.typeName;
  if (tracing === undefined || service === UNTRACED) return oneAnswer(channel, method, settings, sending);
  return asClientSpan(tracing, { service, method: method.name, address: channel.address }, (headers) =>
    oneAnswer(channel, method, { ...settings, metadata: { ...settings.metadata, ...headers } }, sending),
  );
}

/** Calls between members, which are no part of a client's trace. */
const UNTRACED = "cairn.v1.RaftService";

function callServerStreaming(channel: Channel, method: DescMethod, request: AnyMessage, settings: CallSettings = {}) {
  return manyAnswers(channel, method, settings, {
    started: (call) => sendOnly(call, encodeMessage(method.input, request)),
    ended: () => {},
  });
}

function callClientStreaming(channel: Channel, method: DescMethod, settings: CallSettings = {}) {
  const sender = new Sender(method);
  const response = oneAnswer(channel, method, settings, sender);
  // Covers a call that cannot start, too. The sender learns of a failure from send(), and may never
  // look at the response.
  response.catch((error) => sender.ended(error));
  return { ...sender.methods(), response } satisfies ClientStream<AnyMessage, AnyAnswer>;
}

function callBidi(channel: Channel, method: DescMethod, settings: CallSettings = {}) {
  const sender = new Sender(method);
  const responses = manyAnswers(channel, method, settings, sender);
  return { ...sender.methods(), responses } satisfies BidiStream<AnyMessage, AnyAnswer>;
}

/** The sending half of a call, as its receiving half sees it. */
interface SendingHalf {
  started(call: ClientCall): void;
  ended(error: CairnError | undefined): void;
}

/** Sends the one request of a call. */
function sendOnly(call: ClientCall, bytes: Buffer): void {
  call.write(bytes, () => {});
  call.halfClose();
}

/** Starts a call with one answer, and waits for it. */
function oneAnswer(
  channel: Channel,
  method: DescMethod,
  settings: CallSettings,
  sending: SendingHalf,
): Promise<AnyAnswer> {
  return new Promise((resolve, reject) => {
    let answer: Buffer | undefined;
    const call = channel.startCall(method, settings, {
      message(bytes) {
        answer = bytes;
        // The status comes behind the message, and only another read shows it.
        call.startRead();
      },
      ended(error) {
        sending.ended(error);
        if (error !== undefined) reject(error);
        else settle(() => decodeAnswer(method, answer), resolve, reject);
      },
    });
    sending.started(call);
    call.startRead();
  });
}

/** Resolves with what `value` returns, or rejects with what it throws. */
function settle<Value>(value: () => Value, resolve: (value: Value) => void, reject: (error: unknown) => void): void {
  try {
    resolve(value());
  } catch (error) {
    reject(error);
  }
}

/** Starts a call with a stream of answers. An error at the start becomes the stream's error. */
function manyAnswers(channel: Channel, method: DescMethod, settings: CallSettings, sending: SendingHalf) {
  let call: ClientCall | undefined;
  const answers = new IncomingMessages<AnyAnswer>({
    startRead: () => call?.startRead(),
    decode: (bytes) => decodeAnswer(method, bytes),
    abandoned: () => call?.cancel(cancelledByCaller(method)),
  });
  const ended = (error: CairnError | undefined) => {
    sending.ended(error);
    if (error === undefined) answers.end();
    else answers.fail(error);
  };
  try {
    call = channel.startCall(method, settings, {
      message(bytes) {
        answers.push(bytes);
        answers.readNext();
      },
      ended,
    });
    sending.started(call);
    answers.readNext();
  } catch (error) {
    const failure = CairnError.from(error);
    if (call === undefined) ended(failure);
    else call.cancel(failure);
  }
  return answers;
}

function decodeAnswer(method: DescMethod, bytes: Buffer | undefined): AnyAnswer {
  const name = methodName(method);
  if (bytes === undefined) throw new CairnError("INTERNAL", `${name}: the server said OK without an answer`);
  try {
    return decodeMessage(method.output, bytes);
  } catch (error) {
    const text = `${name}: the answer is not a valid ${method.output.typeName}: ${String(error)}`;
    throw new CairnError("INTERNAL", text, { cause: error });
  }
}

/** The sending half of a call with a stream of requests. */
class Sender implements SendingHalf {
  readonly #method: DescMethod;
  readonly #outgoing: OutgoingMessages;
  #call: ClientCall | undefined;
  #halfClosed = false;

  constructor(method: DescMethod) {
    this.#method = method;
    this.#outgoing = new OutgoingMessages((bytes, written) => this.#call?.write(bytes, written));
  }

  started(call: ClientCall): void {
    this.#call = call;
  }

  ended(error: CairnError | undefined): void {
    const name = methodName(this.#method);
    this.#outgoing.fail(error ?? new CairnError("FAILED_PRECONDITION", `${name}: the server has ended the call`));
  }

  methods(): RequestSender<AnyMessage> {
    return {
      send: (request) => this.#send(() => encodeMessage(this.#method.input, request)),
      sendEncoded: (request, written) => this.#send(() => request, written),
      end: () => this.#end(),
      cancel: () => this.#call?.cancel(cancelledByCaller(this.#method)),
    };
  }

  async #send(encode: () => Buffer, written?: () => void): Promise<void> {
    if (this.#halfClosed) {
      throw new CairnError("FAILED_PRECONDITION", `${methodName(this.#method)}: nothing can be sent after end()`);
    }
    return this.#outgoing.send(encode(), written);
  }

  #end(): void {
    if (this.#halfClosed) return;
    this.#halfClosed = true;
    this.#outgoing.end(() => this.#call?.halfClose());
  }
}
