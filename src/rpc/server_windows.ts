import type { Http2Server } from "node:http2";
import type * as grpc from "@grpc/grpc-js";
import { limits } from "../base/limits.js";

// Sets the HTTP/2 receive windows of a server.

/** Parts of grpc-js's server that are not in its interface. */
interface Inside {
  commonServerOptions?: { settings?: object };
  createHttp2Server?(credentials: grpc.ServerCredentials): Http2Server;
}

/**
 * Lets clients have limits.serverWindowBytes on their way to this server, on a stream and on a
 * connection. HTTP/2 begins with 64 KiB, after which a sender waits for its receiver: a snapshot
 * then takes more than twice as long, even on one machine. grpc-js has an option for the windows of
 * a client and none for those of a server, so this reaches inside. Call it before the server is
 * bound. Returns false, and does nothing, when a version of grpc-js is built differently.
 */
export function widenWindows(server: grpc.Server): boolean {
  const inside = server as unknown as Inside;
  const { commonServerOptions } = inside;
  const create = inside.createHttp2Server?.bind(server);
  if (commonServerOptions === undefined || create === undefined) return false;
  commonServerOptions.settings = { ...commonServerOptions.settings, initialWindowSize: limits.serverWindowBytes };
  inside.createHttp2Server = (credentials) => {
    const http2 = create(credentials);
    http2.on("session", (session) => session.setLocalWindowSize(limits.serverWindowBytes));
    return http2;
  };
  return true;
}
