import { connect, type Socket } from "node:net";
import type * as grpc from "@grpc/grpc-js";
import { type Connector, WrappedCredentials } from "./wrapped_credentials.js";

/**
 * Credentials that bound the time to connect. grpc-js itself waits without end, both for the TCP
 * handshake and for the server's first HTTP/2 frame: an attempt that begins while a link is cut or
 * a process stands still would outlast that by minutes, or for ever.
 */
export class TimedCredentials extends WrappedCredentials {
  constructor(
    inner: grpc.ChannelCredentials,
    /** host:port, or unix: and the path of a socket */
    private readonly address: string,
    private readonly timeoutMs: number,
  ) {
    super(inner);
  }

  protected override hooks(inner: Connector): Partial<Connector> {
    return {
      waitForReady: async () => {
        await inner.waitForReady();
        await knock(this.address, this.timeoutMs);
      },
      connect: (socket) => {
        destroyUnlessAnswered(socket, this.timeoutMs);
        return inner.connect(socket);
      },
    };
  }
}

/**
 * Connects and hangs up. This shows in time whether the address accepts connections, and an attempt
 * that is not answered leaves nothing behind.
 */
function knock(address: string, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(endpointOf(address));
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

function endpointOf(address: string): { readonly path: string } | { readonly host: string; readonly port: number } {
  if (address.startsWith("unix:")) return { path: address.slice("unix:".length) };
  const colon = address.lastIndexOf(":");
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(address.slice(colon + 1)) };
}

/**
 * Destroys a socket that has received nothing in time. The first bytes are the server's HTTP/2
 * settings.
 */
function destroyUnlessAnswered(socket: Socket, timeoutMs: number): void {
  const timer = setTimeout(() => {
    if (socket.bytesRead === 0) socket.destroy(new Error(`connected, but no answer in ${timeoutMs} ms`));
  }, timeoutMs);
  timer.unref();
  socket.once("close", () => clearTimeout(timer));
}
