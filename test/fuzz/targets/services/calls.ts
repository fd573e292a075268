import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from "node:http2";

// Makes calls over HTTP/2 as no gRPC library would: whatever headers, bytes, and ends a plan names.

/** A call, as it is to be made. */
export interface CallPlan {
  readonly headers: Readonly<Record<string, string | string[]>>;
  /** The body, in the pieces in which it is sent. */
  readonly pieces: readonly Buffer[];
  /**
   * end: the body ends behind its pieces. reset: the call is reset once they are sent, or once an answer comes. leave: the call is left
   * open for a moment, then reset.
   */
  readonly finish: "end" | "reset" | "leave";
  /** Time in which the call must come to its end once the body has ended, in milliseconds. */
  readonly patienceMs: number;
  /** Pause between two pieces, in turns of the event loop. */
  readonly turns: number;
}

/** How a call came to its end. */
export interface CallOutcome {
  readonly httpStatus: number | undefined;
  readonly grpcStatus: number | undefined;
  readonly message: string;
  readonly cairnCode: string | undefined;
  /** Bytes of answers. */
  readonly bytes: number;
  readonly resetCode: number | undefined;
  /** No end came in time. */
  readonly hangs: boolean;
}

/** How long a call is left open before it is reset, in milliseconds. */
const LEFT_OPEN_MS = 40;

/** A connection, which is replaced when the server closes it. */
export class Connection {
  #session: ClientHttp2Session | undefined;

  constructor(readonly address: string) {}

  /** Makes a call; never rejects. */
  async call(plan: CallPlan): Promise<CallOutcome> {
    const session = this.#opened();
    let stream: ClientHttp2Stream;
    try {
      stream = session.request(plan.headers, { endStream: plan.finish === "end" && plan.pieces.length === 0 });
    } catch (error) {
      return outcome({ message: `not sent: ${String(error)}` });
    }
    const watched = watch(stream, plan);
    for (const [at, piece] of plan.pieces.entries()) {
      if (stream.destroyed || stream.writableEnded) break;
      const isLast = at === plan.pieces.length - 1;
      if (isLast && plan.finish === "end") stream.end(piece);
      else stream.write(piece);
      for (let turn = 0; turn < plan.turns; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
    if (plan.finish === "reset") stream.close(constants.NGHTTP2_CANCEL);
    if (plan.finish === "leave") setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), LEFT_OPEN_MS);
    return watched;
  }

  close(): void {
    this.#session?.destroy();
    this.#session = undefined;
  }

  #opened(): ClientHttp2Session {
    const present = this.#session;
    if (present !== undefined && !present.closed && !present.destroyed) return present;
    const session = connect(`http://${this.address}`);
    session.on("error", () => {});
    session.on("goaway", () => session.close());
    this.#session = session;
    return session;
  }
}

function outcome(parts: Partial<CallOutcome>): CallOutcome {
  return {
    httpStatus: undefined,
    grpcStatus: undefined,
    message: "",
    cairnCode: undefined,
    bytes: 0,
    resetCode: undefined,
    hangs: false,
    ...parts,
  };
}

function watch(stream: ClientHttp2Stream, plan: CallPlan): Promise<CallOutcome> {
  return new Promise((resolve) => {
    let headers: Record<string, unknown> = {};
    let bytes = 0;
    const done = (hangs: boolean) => {
      clearTimeout(timer);
      const code = headers["grpc-status"];
      resolve(
        outcome({
          httpStatus: headers[":status"] as number | undefined,
          grpcStatus: code === undefined ? undefined : Number(code),
          message: String(headers["grpc-message"] ?? ""),
          cairnCode: headers["cairn-code"] as string | undefined,
          bytes,
          resetCode: stream.rstCode,
          hangs,
        }),
      );
    };
    const timer = setTimeout(() => {
      stream.close(constants.NGHTTP2_CANCEL);
      done(true);
    }, plan.patienceMs);
    stream.on("response", (received) => {
      headers = { ...headers, ...received };
    });
    stream.on("trailers", (received) => {
      headers = { ...headers, ...received };
    });
    stream.on("data", (data: Buffer) => {
      bytes += data.byteLength;
    });
    stream.on("error", () => {});
    stream.once("close", () => done(false));
  });
}

/** A gRPC message with its prefix. */
export function framed(message: Uint8Array, flag = 0, length = message.byteLength): Buffer {
  const frame = Buffer.alloc(5 + message.byteLength);
  frame[0] = flag;
  frame.writeUInt32BE(length >>> 0, 1);
  frame.set(message, 5);
  return frame;
}
