import { isLoopback } from "../base/addresses.js";
import { NodeTls, type TlsEvent } from "../rpc/security/node_tls.js";
import type { NodeTlsFiles } from "../rpc/security/tls_material.js";
import { type Logger, silentLogger } from "../system/logger.js";

// Opens a node's TLS files, and tells its log about them.

export { type NodeName, nodeNamed } from "../rpc/security/caller_certificate.js";
export { expiryWarning } from "../rpc/security/expiry.js";
export type { MemberCredentials } from "../rpc/security/member_credentials.js";
export type { CertificateInfo, CertificateUse, NodeTlsFiles } from "../rpc/security/tls_material.js";
export type { NodeTls };

/**
 * Reads a node's certificates, keys and authorities, and keeps up with their files until it is
 * closed. Give the result to {@link CairnServer.start}, and to everything that connects to members.
 * @throws CairnError INVALID_ARGUMENT when a file cannot be read or used
 */
export function openNodeTls(
  files: NodeTlsFiles,
  options: { readonly id: string; readonly logger?: Logger | undefined },
): Promise<NodeTls> {
  const { id, logger = silentLogger } = options;
  return NodeTls.open(files, { node: id, onEvent: (event) => tell(event, logger) });
}

function tell(event: TlsEvent, logger: Logger): void {
  switch (event.kind) {
    case "reloaded":
      logger.info({ files: event.files }, "the TLS files have changed: new connections use them");
      break;
    case "rejected":
      logger.error({}, event.reason);
      break;
    case "expiring":
      logger.warn({}, event.text);
      break;
    case "refused": {
      const { address, reason, times } = event;
      logger.warn({ address, reason, times }, "refused a connection");
      break;
    }
  }
}

/** Logs that a listener is open to the network without TLS. */
export function warnOfExposure(listen: string, logger: Logger): void {
  if (isLoopback(listen)) return;
  logger.warn(
    { address: listen },
    "INSECURE: without TLS, everybody who reaches this address can read and change everything",
  );
}
