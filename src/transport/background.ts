import type { Socket } from "node:net";
import * as grpc from "@grpc/grpc-js";

type Connector = grpc.experimental.SecureConnector;

/**
 * Credentials whose connections do not keep the process alive. grpc-js keeps it alive for every call, and so for a stream that is open
 * although nobody waits for anything on it. Whoever waits must hold a timer, which all calls with a time limit do.
 */
export class BackgroundCredentials extends grpc.ChannelCredentials {
  constructor(private readonly inner: grpc.ChannelCredentials) {
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
      waitForReady: () => inner.waitForReady(),
      connect: async (tcpSocket) => {
        const connection = await inner.connect(tcpSocket);
        letGo(connection.socket);
        return connection;
      },
      getCallCredentials: () => inner.getCallCredentials(),
      destroy: () => inner.destroy(),
    };
  }
}

/** grpc-js takes hold of the socket again, by way of its HTTP/2 session, when a call begins: that must do nothing. */
function letGo(socket: Socket): void {
  socket.unref();
  socket.ref = () => socket;
}
