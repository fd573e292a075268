import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { connect as connectSocket, type Socket } from "node:net";
import * as grpc from "@grpc/grpc-js";
import { onTestFinished } from "vitest";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../../gen/cairn/v1/raft_pb.js";
import { FloodGuard, type FloodGuardOptions } from "../../../src/rpc/floods/flood_guard.js";
import type { FloodLimits } from "../../../src/rpc/floods/flood_limits.js";
import { guardServer } from "../../../src/rpc/floods/guard_server.js";
import { serverOptions } from "../../../src/rpc/grpc_options.js";
import { addService, type ServiceImplementation } from "../../../src/rpc/server.js";
import { widenWindows } from "../../../src/rpc/server_windows.js";
import { listen } from "../../support/nodes/loopback.js";

export const GET = "/cairn.v1.KeyValueService/Get";
export const PUT = "/cairn.v1.KeyValueService/Put";
export const RANGE = "/cairn.v1.KeyValueService/Range";
export const SESSION = "/cairn.v1.KeyValueService/Session";
export const VOTE = "/cairn.v1.RaftService/RequestVote";

/** A guarded server on the loopback interface, whose key-value service does what the test says. */
export async function guarded(
  limits: Partial<FloodLimits>,
  kv: ServiceImplementation<typeof KeyValueService> = { get: async () => ({}), put: async () => ({}) },
  peers: Pick<FloodGuardOptions, "isPeer" | "peerRoom"> = {},
) {
  const server = new grpc.Server(serverOptions);
  widenWindows(server);
  const guard = new FloodGuard({ limits, isPeer: (path) => path.startsWith("/cairn.v1.RaftService/"), ...peers });
  if (!guardServer(server, guard)) throw new Error("grpc-js is built differently");
  addService(server, KeyValueService, kv);
  addService(server, RaftService, { requestVote: async () => ({ term: 7n }) });
  const address = await listen(server, "127.0.0.1:0");
  onTestFinished(() => server.forceShutdown());
  return { guard, address };
}

/** An HTTP/2 connection without a gRPC client, whose streams take little at a time. */
export async function openSession(address: string): Promise<ClientHttp2Session> {
  const session = connect(`http://${address}`, { settings: { initialWindowSize: 65_535 } });
  session.on("error", () => {});
  onTestFinished(() => session.destroy());
  await new Promise<void>((resolve) => {
    session.once("remoteSettings", () => resolve());
    session.once("close", () => resolve());
  });
  return session;
}

/** How a call ended: its gRPC status and text, or the code of an RST_STREAM. */
export interface CallEnd {
  readonly status: number | undefined;
  readonly text: string;
  readonly code: string | undefined;
  readonly reset: number;
}

export interface RawCall {
  readonly stream: ClientHttp2Stream;
  readonly end: Promise<CallEnd>;
  readonly hasEnded: () => boolean;
}

/** Makes a call; `message` is sent as it is, and the call's half ended unless `ends` is false. */
export function call(
  session: ClientHttp2Session,
  path: string,
  message: Buffer = grpcMessage(Buffer.alloc(0)),
  { ends = true, reads = true, headers = {} }: { ends?: boolean; reads?: boolean; headers?: object } = {},
): RawCall {
  const stream = session.request({
    ":method": "POST",
    ":path": path,
    te: "trailers",
    "content-type": "application/grpc",
    ...headers,
  });
  let fields: Record<string, string> = {};
  let ended = false;
  const note = (more: object) => {
    fields = { ...fields, ...more };
  };
  stream
    .on("response", note)
    .on("trailers", note)
    .on("error", () => {});
  const end = new Promise<CallEnd>((resolve) => {
    stream.on("close", () => {
      ended = true;
      const status = fields["grpc-status"] === undefined ? undefined : Number(fields["grpc-status"]);
      const text = decodeURI(fields["grpc-message"] ?? "");
      resolve({ status, text, code: fields["cairn-code"], reset: stream.rstCode });
    });
  });
  if (reads) stream.resume();
  if (ends) stream.end(message);
  else if (message.byteLength > 0) stream.write(message);
  return { stream, end, hasEnded: () => ended };
}

export function grpcMessage(bytes: Uint8Array, isCompressed = false): Buffer {
  const head = Buffer.alloc(5);
  head[0] = isCompressed ? 1 : 0;
  head.writeUInt32BE(bytes.byteLength, 1);
  return Buffer.concat([head, bytes]);
}

/** A bare socket to the server, which has sent these bytes. */
export function openSocket(address: string, bytes: Buffer): { socket: Socket; isClosed: () => boolean } {
  const [host, port] = address.split(":");
  const socket = connectSocket({ host: host!, port: Number(port) });
  let closed = false;
  socket
    .on("error", () => {})
    .on("close", () => {
      closed = true;
    });
  socket.resume();
  socket.write(bytes);
  onTestFinished(() => void socket.destroy());
  return { socket, isClosed: () => closed };
}

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/** What a client says first: its preface, and empty settings. */
export const greeting = Buffer.concat([Buffer.from(PREFACE), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])]);

/** A PING frame. */
export const ping = Buffer.concat([Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0]), Buffer.alloc(8)]);
