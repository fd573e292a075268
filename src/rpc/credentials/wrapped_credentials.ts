import * as grpc from "@grpc/grpc-js";

// Base class for credentials that change the way in which a channel connects.

export type Connector = grpc.experimental.SecureConnector;

/**
 * Credentials that act as others do, except when they connect. The hooks of a connector are the
 * only places at which grpc-js lets a client intervene.
 */
export abstract class WrappedCredentials extends grpc.ChannelCredentials {
  constructor(private readonly inner: grpc.ChannelCredentials) {
    super();
  }

  /** Returns the hooks that replace the connector's own. */
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
