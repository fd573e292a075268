import * as grpc from "@grpc/grpc-js";

export type Connector = grpc.experimental.SecureConnector;

/**
 * Credentials that do as others do, but for how they connect. The hooks of a connector are the only
 * places where grpc-js lets a client in.
 */
export abstract class WrappedCredentials extends grpc.ChannelCredentials {
  constructor(private readonly inner: grpc.ChannelCredentials) {
    super();
  }

  /** Returns what is done in place of the connector's own hooks. */
  protected abstract hooks(inner: Connector): Partial<Connector>;

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
      connect: (socket) => inner.connect(socket),
      getCallCredentials: () => inner.getCallCredentials(),
      destroy: () => inner.destroy(),
      ...this.hooks(inner),
    };
  }
}
