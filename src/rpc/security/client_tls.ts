import { isIP, type Socket } from "node:net";
import { connect, type PeerCertificate } from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { hostIn } from "../../base/addresses.js";
import { CairnError } from "../../base/errors.js";
import { ClientFiles } from "./client_files.js";
import { closedEarly, handshakeProblem } from "./tls_problems.js";

// Connects clients by TLS.

/** Settings of a client's TLS: paths of PEM files, which are read again for each new connection. */
export interface ClientTls {
  /** Authorities of the servers' certificates. Default: those that Node trusts. */
  readonly ca?: string | undefined;
  /** The client's certificate, with its intermediates behind it. Needs {@link key}. */
  readonly certificate?: string | undefined;
  /** The private key of {@link certificate}. */
  readonly key?: string | undefined;
  /**
   * Name or IP address that the server's certificate must have. Default: the host of the address.
   */
  readonly serverName?: string | undefined;
}

/**
 * Returns credentials that connect by TLS 1.2 or newer. Each new connection takes the files as they
 * are then, unless they are unusable: then it takes those of before. Connections that live are left
 * alone.
 * @throws CairnError INVALID_ARGUMENT when the files cannot be used now
 */
export function clientCredentials(tls: ClientTls): grpc.ChannelCredentials {
  return new TlsCredentials(new ClientFiles(tls), checkServerName(tls.serverName));
}

type TlsConnector = grpc.experimental.SecureConnector;

class TlsCredentials extends grpc.ChannelCredentials {
  constructor(
    private readonly files: ClientFiles,
    private readonly serverName: string | undefined,
  ) {
    super();
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: grpc.ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(
    ...[target, , callCredentials]: Parameters<grpc.ChannelCredentials["_createSecureConnector"]>
  ): TlsConnector {
    const name = this.serverName ?? hostIn(target.path);
    return {
      waitForReady: () => this.files.reload(),
      connect: (socket) => handshake(socket, name, this.files),
      getCallCredentials: () => callCredentials ?? grpc.CallCredentials.createEmpty(),
      destroy: () => {},
    };
  }
}

/** Node checks the server's certificate, and that it has this name. */
function handshake(socket: Socket, name: string, files: ClientFiles) {
  return new Promise<{ socket: Socket; secure: boolean }>((resolve, reject) => {
    const tlsSocket = connect({
      socket,
      secureContext: files.context,
      ALPNProtocols: ["h2"],
      // Whatever NODE_TLS_REJECT_UNAUTHORIZED says in the environment.
      rejectUnauthorized: true,
      host: name,
      // An IP address must not be sent as a server name (RFC 6066); the check takes `host`.
      ...(isIP(name) === 0 && { servername: name }),
    });
    let certificate: PeerCertificate | undefined;
    let isConnected = false;
    // For texts only: after a failed check, the certificate is gone.
    tlsSocket.prependOnceListener("secure", () => {
      certificate = tlsSocket.getPeerCertificate();
    });
    tlsSocket.once("secureConnect", () => {
      isConnected = true;
      resolve({ socket: tlsSocket, secure: true });
    });
    // grpc-js, which listens behind this, reports the error's text and nothing else. With TLS 1.3
    // the server's refusal comes when the client's side of the handshake is done.
    tlsSocket.on("error", (error) => {
      error.message = files.noted(handshakeProblem(socket.errored ?? error, name, certificate));
      reject(error);
    });
    tlsSocket.once("close", () => {
      if (!isConnected) return reject(new Error("the connection was closed during the TLS handshake"));
      closedEarly(tlsSocket, files.noted(REFUSED));
    });
  });
}

/** Servers on Node refuse a client's certificate by closing the connection, without a reason. */
const REFUSED =
  "the server closed the connection after the TLS handshake: it may trust no authority of the client's certificate, or demand one";

function checkServerName(name: string | undefined): string | undefined {
  if (name === undefined || (typeof name === "string" && /^[^\s/]+$/.test(name))) return name;
  const text = `serverName must be a DNS name or an IP address, not ${JSON.stringify(name)}`;
  throw new CairnError("INVALID_ARGUMENT", text);
}
