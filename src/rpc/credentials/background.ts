import type { Socket } from "node:net";
import { type Connector, WrappedCredentials } from "./wrapped_credentials.js";

/**
 * Credentials whose connections do not keep the process alive. grpc-js keeps it alive for every
 * call, even for an open stream on which nobody waits for anything. A caller that waits must hold a
 * timer, as all calls with a time limit do.
 */
export class BackgroundCredentials extends WrappedCredentials {
  protected override hooks(inner: Connector): Partial<Connector> {
    return {
      connect: async (tcpSocket) => {
        // A TLS handshake may take long, too.
        letGo(tcpSocket);
        const connection = await inner.connect(tcpSocket);
        letGo(connection.socket);
        return connection;
      },
    };
  }
}

/**
 * Releases a socket for good. grpc-js refs the socket again, through its HTTP/2 session, when a
 * call begins: that must have no effect.
 */
function letGo(socket: Socket): void {
  socket.unref();
  socket.ref = () => socket;
}
