import { connect, type Socket } from "node:net";
import * as grpc from "@grpc/grpc-js";

type Connector = grpc.experimental.SecureConnector;

/**
 * Credentials that bound how long a connection may take to come about. grpc-js itself waits without end, for the TCP handshake as for the
 * server's first HTTP/2 frame: an attempt that begins while a link is cut or a process stands still would outlast that by minutes, or for ever.
 * The two hooks of a connector are the only places where it lets a client in.
 */
export class TimedCredentials extends grpc.ChannelCredentials {
  constructor(
    private readonly inner: grpc.ChannelCredentials,
    /** host:port */
    private readonly address: string,
    private readonly timeoutMs: number,
  ) {
    super();
  }

  override _isSecure(): boolean {
    return this.inner._isSecure();
  }

  override _equals(other: grpc.ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(...args: Parameters<grpc.ChannelCredentials["_createSecureConnector"]>): Connector {
    const inner = this.inner._createSecureConnector(...args);
    return {
      waitForReady: async () => {
        await inner.waitForReady();
        await knock(this.address, this.timeoutMs);
      },
      connect: (socket) => {
        destroyUnlessAnswered(socket, this.timeoutMs);
        return inner.connect(socket);
      },
      getCallCredentials: () => inner.getCallCredentials(),
      destroy: () => inner.destroy(),
    };
  }
}

/** Connects and hangs up: whether the address takes connections is known in time, and nothing is left of an attempt that is not answered. */
function knock(address: string, timeoutMs: number): Promise<void> {
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(address.slice(colon + 1)) });
    const timer = setTimeout(
      () => socket.destroy(new Error(`no connection to ${address} in ${timeoutMs} ms`)),
      timeoutMs,
    );
    socket.once("connect", () => {
      socket.destroy();
      resolve();
    });
    socket.once("error", reject);
    socket.once("close", () => clearTimeout(timer));
    socket.unref();
    timer.unref();
  });
}

/** The first bytes that come in are the server's HTTP/2 settings. */
function destroyUnlessAnswered(socket: Socket, timeoutMs: number): void {
  const timer = setTimeout(() => {
    if (socket.bytesRead === 0) socket.destroy(new Error(`connected, but no answer in ${timeoutMs} ms`));
  }, timeoutMs);
  timer.unref();
  socket.once("close", () => clearTimeout(timer));
}
