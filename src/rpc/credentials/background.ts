import type { Socket } from "node:net";
import { type Connector, WrappedCredentials } from "./wrapped_credentials.js";

/**
 * Credentials whose connections do not keep the process alive. grpc-js keeps it alive for every
 * call, and so for a stream that is open although nobody waits for anything on it. Whoever waits
 * must hold a timer, which all calls with a time limit do.
 */
export class BackgroundCredentials extends WrappedCredentials {
  protected override hooks(inner: Connector): Partial<Connector> {
    return {
      connect: async (tcpSocket) => {
        const connection = await inner.connect(tcpSocket);
        letGo(connection.socket);
        return connection;
      },
    };
  }
}

/**
 * grpc-js takes hold of the socket again, by way of its HTTP/2 session, when a call begins: that
 * must do nothing.
 */
function letGo(socket: Socket): void {
  socket.unref();
  socket.ref = () => socket;
}
