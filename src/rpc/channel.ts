import type { DescMethod } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { TIMER_MS_MAX } from "../base/arguments.js";
import { CairnError } from "../base/errors.js";
import { methodName, methodPath } from "./codec.js";
import { BackgroundCredentials } from "./credentials/background.js";
import { TimedCredentials } from "./credentials/connect_timeout.js";
import { channelOptions } from "./grpc_options.js";
import { BearerToken } from "./security/bearer_token.js";
import { errorFromStatus } from "./status.js";

// Starts gRPC calls to one node, on the level of bytes.

export interface ChannelSettings {
  /** Without credentials the connection is not encrypted. */
  readonly credentials?: grpc.ChannelCredentials;
  /** All options of the channel. Default {@link channelOptions}. */
  readonly options?: grpc.ChannelOptions;
  /**
   * Time for one attempt to connect, in ms; a slower attempt is abandoned and a new one begins.
   * Default: no limit.
   */
  readonly connectTimeoutMs?: number;
  /**
   * Returns the token to send with a call, as `authorization: Bearer TOKEN`. It is asked for each
   * call. Without encryption, a call to another machine fails instead, with FAILED_PRECONDITION.
   */
  readonly token?: (() => string) | undefined;
  /** The token is sent to other machines without encryption, too. Default false. */
  readonly tokenUnencrypted?: boolean | undefined;
  /** The connection never keeps the process alive, whatever runs on it. Default false. */
  readonly isBackground?: boolean;
}

/** Options of one call. */
export interface CallSettings {
  /** Ends the call with CANCELLED, or with the signal's reason when that is a CairnError. */
  readonly signal?: AbortSignal | undefined;
  /** Ends the call with TIMEOUT after this many ms, 0 to 2^31 - 1. */
  readonly timeoutMs?: number | undefined;
  /** Metadata to send. Keys are lower case. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Waits for a connection while there is none, rather than fail. Give such a call a timeout. */
  readonly waitForReady?: boolean | undefined;
}

/** Events of a call. */
export interface CallEvents {
  message(bytes: Buffer): void;
  /** Called exactly once, as the last event. */
  ended(error: CairnError | undefined): void;
}

const NO_METADATA = new grpc.Metadata();
const WAIT_FOR_READY = new grpc.Metadata({ waitForReady: true });

/**
 * A connection to one node. It is made when the first call needs it, and again whenever it broke.
 */
export class Channel {
  /** host:port */
  readonly address: string;
  readonly #channel: grpc.Channel;
  readonly #token: BearerToken | undefined;
  readonly #calls = new Set<ClientCall>();
  #closed = false;

  constructor(address: string, settings: ChannelSettings = {}) {
    this.address = address;
    const { token, tokenUnencrypted = false, credentials } = settings;
    const mayShowToken = tokenUnencrypted || (credentials?._isSecure() ?? false);
    this.#token = token && new BearerToken(token, address, mayShowToken);
    this.#channel = grpcChannel(address, settings);
  }

  /**
   * Starts a call; throws when it cannot. It bypasses grpc-js's own client, which adds a Node
   * stream with a buffer of 16 messages of any size to a call, and a stack trace to every unary
   * call.
   */
  startCall(method: DescMethod, settings: CallSettings, events: CallEvents): ClientCall {
    if (this.#closed) throw new CairnError("FAILED_PRECONDITION", `the channel to ${this.address} is closed`);
    const { signal } = settings;
    if (signal?.aborted) throw cancellation(signal, method);
    const metadata = this.#token?.addTo(grpcMetadata(settings)) ?? grpcMetadata(settings);
    const call = this.#channel.createCall(methodPath(method), deadline(settings), undefined, null, undefined);
    const running = new ClientCall(call, method, this.address, signal, {
      message: (bytes) => events.message(bytes),
      ended: (error) => {
        this.#calls.delete(running);
        events.ended(error);
      },
    });
    this.#calls.add(running);
    running.start(metadata);
    return running;
  }

  /**
   * Ends the running calls with CANCELLED, and closes the connection. May be called more than once.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const call of [...this.#calls]) {
      call.cancel(new CairnError("CANCELLED", `the channel to ${this.address} was closed during the call`));
    }
    this.#channel.close();
  }
}

/** Returns the error of a call that its own caller ended. */
export function cancelledByCaller(method: DescMethod, cause?: unknown): CairnError {
  return new CairnError("CANCELLED", `${methodName(method)} was cancelled by its caller`, { cause });
}

/** One call, in bytes. At most one write may be under way at a time. */
export class ClientCall {
  readonly #call: ReturnType<grpc.ChannelInterface["createCall"]>;
  readonly #method: DescMethod;
  readonly #address: string;
  readonly #signal: AbortSignal | undefined;
  readonly #events: CallEvents;
  #ended = false;

  constructor(
    call: ReturnType<grpc.ChannelInterface["createCall"]>,
    method: DescMethod,
    address: string,
    signal: AbortSignal | undefined,
    events: CallEvents,
  ) {
    this.#call = call;
    this.#method = method;
    this.#address = address;
    this.#signal = signal;
    this.#events = events;
  }

  start(metadata: grpc.Metadata): void {
    this.#signal?.addEventListener("abort", this.#onAbort, { once: true });
    this.#call.start(metadata, {
      onReceiveMetadata: () => {},
      onReceiveMessage: (bytes: Buffer) => {
        if (!this.#ended) this.#events.message(bytes);
      },
      onReceiveStatus: (status) => {
        const failed = status.code !== grpc.status.OK;
        this.#end(failed ? errorFromStatus(status, this.#method, this.#address) : undefined);
      },
    });
  }

  /** Sends a message; calls `written` when the network has taken it. */
  write(bytes: Buffer, written: () => void): void {
    this.#call.sendMessageWithContext({ callback: written }, bytes);
  }

  /** Ends the sending: no more messages follow. */
  halfClose(): void {
    this.#call.halfClose();
  }

  /** Asks for one more message. */
  startRead(): void {
    if (!this.#ended) this.#call.startRead();
  }

  /** Ends the call at once, here with `error`, and at the server with a cancellation. */
  cancel(error: CairnError): void {
    if (this.#ended) return;
    this.#end(error);
    this.#call.cancelWithStatus(grpc.status.CANCELLED, error.message);
  }

  #end(error: CairnError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#events.ended(error);
  }

  readonly #onAbort = () => {
    if (this.#signal !== undefined) this.cancel(cancellation(this.#signal, this.#method));
  };
}

function grpcChannel(address: string, settings: ChannelSettings): grpc.Channel {
  const { credentials = grpc.credentials.createInsecure(), options = channelOptions, connectTimeoutMs } = settings;
  const kept = settings.isBackground ? new BackgroundCredentials(credentials) : credentials;
  const timed = connectTimeoutMs === undefined ? kept : new TimedCredentials(kept, address, connectTimeoutMs);
  try {
    return new grpc.Channel(address, timed, options);
  } catch (error) {
    const text = `the address must be host:port, not ${JSON.stringify(address)}: ${String(error)}`;
    throw new CairnError("INVALID_ARGUMENT", text, { cause: error });
  }
}

function cancellation(signal: AbortSignal, method: DescMethod): CairnError {
  if (signal.reason instanceof CairnError) return signal.reason;
  return cancelledByCaller(method, signal.reason);
}

function deadline({ timeoutMs }: CallSettings): number {
  if (timeoutMs === undefined) return Number.POSITIVE_INFINITY;
  if (timeoutMs >= 0 && timeoutMs <= TIMER_MS_MAX) return Date.now() + timeoutMs;
  throw new CairnError("INVALID_ARGUMENT", `timeoutMs must be 0 to ${TIMER_MS_MAX}, not ${timeoutMs}`);
}

function grpcMetadata({ metadata, waitForReady = false }: CallSettings): grpc.Metadata {
  if (metadata === undefined) return waitForReady ? WAIT_FOR_READY : NO_METADATA;
  const sent = new grpc.Metadata({ waitForReady });
  for (const [key, value] of Object.entries(metadata)) {
    try {
      sent.set(key, value);
    } catch (error) {
      throw new CairnError("INVALID_ARGUMENT", `metadata ${key} cannot be sent: ${String(error)}`, { cause: error });
    }
  }
  return sent;
}
