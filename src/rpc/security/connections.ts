import type { Http2SecureServer, Http2Server, ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import * as grpc from "@grpc/grpc-js";
import { CairnError } from "../../base/errors.js";
import type { CallerCertificate } from "./caller_certificate.js";
import type { CallerSocket, NodeTls } from "./node_tls.js";

// Notes for each connection of a server who is at its other end, once.

/** Facts about the connection that a call came on. */
export interface ConnectionFacts {
  readonly certificate: CallerCertificate | undefined;
  /** True for a connection of one of the node's own ingress processes. */
  readonly isIngress: boolean;
}

/** Parts of grpc-js's server that are not in its interface. */
interface Http2Making {
  createHttp2Server?(credentials: grpc.ServerCredentials): Http2Server | Http2SecureServer;
}

/** Parts of grpc-js's server calls that are not in their interface. */
interface StreamedCall {
  readonly call?: StreamedCall;
  readonly nextCall?: StreamedCall;
  readonly stream?: { readonly session?: ServerHttp2Session };
}

const UNKNOWN: ConnectionFacts = { certificate: undefined, isIngress: false };

const facts = new WeakMap<object, ConnectionFacts>();

/** Credentials of a listener that only the node's own ingress processes can reach. */
export const ingressCredentials = grpc.ServerCredentials.createInsecure();

/**
 * Makes a server note the caller of each connection, and refuse a connection whose certificate is
 * not to be accepted. Call it before the server is bound.
 * @throws CairnError UNIMPLEMENTED when a version of grpc-js is built differently
 */
export function noteCallers(server: grpc.Server, tls: NodeTls | undefined): void {
  const inside = server as unknown as Http2Making;
  const create = inside.createHttp2Server?.bind(server);
  if (create === undefined) {
    throw new CairnError("UNIMPLEMENTED", "this version of grpc-js does not tell whose connection a call came on");
  }
  inside.createHttp2Server = (credentials) => {
    const http2 = create(credentials);
    if (credentials === ingressCredentials) {
      http2.on("session", (session) => facts.set(session, { certificate: undefined, isIngress: true }));
    } else if (tls !== undefined && credentials === tls.serverCredentials) {
      http2.on("session", (session) => noteCaller(session, tls));
      http2.on("tlsClientError", (error: NodeJS.ErrnoException, socket: Socket) => {
        // A member knocks before it connects, and so does a load balancer.
        if (error.code !== "ECONNRESET") tls.refused(socket.remoteAddress ?? "unknown", error.message);
      });
    }
    return http2;
  };
}

/** Returns the facts about the connection of a server call of grpc-js. */
export function connectionOf(call: object): ConnectionFacts {
  const session = sessionOf(call);
  return (session && facts.get(session)) ?? UNKNOWN;
}

/** Returns the certificate of a connection's other end; undefined without one. */
export function certificateOf(session: ServerHttp2Session): CallerCertificate | undefined {
  return facts.get(session)?.certificate;
}

/** Closes the connection of a server call once the calls under way on it have ended. */
export function closeConnectionOf(call: object): void {
  const session = sessionOf(call);
  if (session !== undefined && !session.closed) session.close();
}

function sessionOf(call: object): ServerHttp2Session | undefined {
  let inner: StreamedCall | undefined = (call as StreamedCall).call;
  while (inner?.nextCall !== undefined) inner = inner.nextCall;
  return inner?.stream?.session;
}

function noteCaller(session: ServerHttp2Session, tls: NodeTls): void {
  const socket = session.socket as unknown as CallerSocket;
  try {
    facts.set(session, { certificate: tls.callerAt(socket), isIngress: false });
  } catch (error) {
    tls.refused(socket.remoteAddress ?? "unknown", CairnError.from(error).text);
    // A server that stops waits for ever for a session that is destroyed and was not closed before.
    session.close();
    session.destroy();
  }
}
