import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type * as grpc from "@grpc/grpc-js";
import { limits as defaults } from "../../base/limits.js";
import type { FloodGuard } from "./flood_guard.js";

// Puts a guard before a server of grpc-js.

/** Parts of grpc-js's server that are not in its interface. */
interface InsideServer {
  commonServerOptions?: { settings?: object };
  interceptors?: grpc.ServerInterceptor[];
  createHttp2Server?(credentials: grpc.ServerCredentials): Http2Server;
}

/** Sockets that a server takes beyond its limits, to tell them why they are refused. */
const SPARE_SOCKETS = 64;

/**
 * Node's own bounds for the headers of a stream, so high that they refuse nothing: a session whose
 * streams were refused there aborts the process when it is collected (node_http2.cc, "Assertion
 * failed: current_nghttp2_memory_ == 0", Node 20.20). The guard refuses them instead.
 */
const NATIVE_HEADER_PAIRS = 65_536;
const NATIVE_HEADER_BYTES = 16 * 1024 * 1024;

/**
 * Puts a guard before a server: at its sockets, its HTTP/2 streams and its calls. grpc-js has
 * options for few of these limits, and none for what it holds before a handler runs, so this
 * reaches inside. Call it after {@link widenWindows}, and before the server is bound. Returns
 * false, and does nothing, when a version of grpc-js is built differently.
 */
export function guardServer(server: grpc.Server, guard: FloodGuard): boolean {
  const inside = server as unknown as InsideServer;
  const { commonServerOptions, interceptors } = inside;
  const create = inside.createHttp2Server?.bind(server);
  if (commonServerOptions === undefined || create === undefined || !Array.isArray(interceptors)) return false;
  const { limits } = guard;
  Object.assign(commonServerOptions, {
    maxHeaderListPairs: NATIVE_HEADER_PAIRS,
    maxSessionInvalidFrames: limits.invalidFrames,
    maxSessionMemory: limits.connectionMemoryMiB,
    handshakeTimeout: defaults.tlsHandshakeMs,
    settings: {
      ...commonServerOptions.settings,
      maxHeaderListSize: NATIVE_HEADER_BYTES,
      // Peers get wider windows when they show that they are peers.
      initialWindowSize: defaults.streamWindowBytes,
    },
  });
  inside.interceptors = [guard.interceptor, ...interceptors];
  inside.createHttp2Server = (credentials) => guarded(create(credentials), guard);
  return true;
}

/** Takes the streams of an HTTP/2 server before grpc-js does. */
function guarded(http2: Http2Server, guard: FloodGuard): Http2Server {
  const { connections, peerConnections, lateConnections } = guard.limits;
  http2.maxConnections = connections + peerConnections + lateConnections + SPARE_SOCKETS;
  http2.prependListener("session", (session: ServerHttp2Session) => guard.opened(session));
  const serve = http2.listeners("stream");
  http2.removeAllListeners("stream");
  http2.on(
    "stream",
    (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number, rawHeaders?: string[]) => {
      if (!guard.admit(stream, headers, rawHeaders ?? [])) return;
      for (const each of serve) each.call(http2, stream, headers, flags);
    },
  );
  return http2;
}
