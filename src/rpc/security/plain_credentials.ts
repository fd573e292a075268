import * as grpc from "@grpc/grpc-js";
import { type Connector, WrappedCredentials } from "../credentials/wrapped_credentials.js";
import { closedEarly } from "./tls_problems.js";

/**
 * Credentials of connections that are not encrypted. They say what a server may want that hangs up
 * at once: one that speaks only TLS does so without a word.
 */
export class PlainCredentials extends WrappedCredentials {
  constructor() {
    super(grpc.credentials.createInsecure());
  }

  protected override hooks(inner: Connector): Partial<Connector> {
    return {
      connect: (socket) => {
        socket.once("close", () => closedEarly(socket, HUNG_UP));
        return inner.connect(socket);
      },
    };
  }
}

const HUNG_UP = "the server closed the connection at once: it may speak TLS only, or take no further connections";
