import type { SecureContextOptions } from "node:tls";
import * as grpc from "@grpc/grpc-js";

/**
 * Credentials of a server whose certificates can be replaced. Connections that are open keep
 * theirs. grpc-js has such credentials for its own certificate providers alone, which stop serving
 * while a file is bad.
 */
export class ReplaceableServerCredentials extends grpc.ServerCredentials {
  /** Uses other certificates for connections from now on. */
  replace(context: SecureContextOptions): void {
    this.updateSecureContextOptions(context);
  }

  override _equals(other: grpc.ServerCredentials): boolean {
    return this === other;
  }
}
