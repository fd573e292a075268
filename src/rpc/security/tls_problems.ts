import type { Socket } from "node:net";
import type { PeerCertificate } from "node:tls";

// Describes in words why a connection could not be made. OpenSSL's texts are for its developers.

/** Checks of the server's certificate that fail when its authority is not known. */
const UNKNOWN_AUTHORITY: ReadonlySet<string> = new Set([
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "CERT_SIGNATURE_FAILURE",
  "CERT_UNTRUSTED",
  "AKID_ISSUER_SERIAL_MISMATCH",
  "AKID_SKID_MISMATCH",
]);

/** Alerts of the server about the client, by the end of their code. */
const ALERTS: readonly (readonly [RegExp, string])[] = [
  [/ALERT_CERTIFICATE_REQUIRED$/, "the server demands a client certificate, and none is given"],
  [/ALERT_HANDSHAKE_FAILURE$/, "the server refused the TLS handshake: it may demand a client certificate"],
  [/ALERT_UNKNOWN_CA$/, "the server does not trust the authority of the client's certificate"],
  [/ALERT_CERTIFICATE_EXPIRED$/, "the client's certificate has expired, says the server"],
  [/ALERT_CERTIFICATE_REVOKED$/, "the client's certificate is revoked, says the server"],
  [
    /ALERT_(BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|UNSUPPORTED_CERTIFICATE)$/,
    "the server refuses the client's certificate",
  ],
  [/ALERT_ACCESS_DENIED$/, "the server refuses the client, whose certificate is good"],
  [/ALERT_PROTOCOL_VERSION$|UNSUPPORTED_PROTOCOL$/, "the server speaks no version of TLS from 1.2 on"],
  [/NO_APPLICATION_PROTOCOL$/, "the server speaks TLS, but no HTTP/2, so it is no gRPC server"],
  [
    /WRONG_VERSION_NUMBER$|PACKET_LENGTH_TOO_LONG$|HTTP_REQUEST$|RECORD_LAYER_FAILURE$/,
    "the server speaks no TLS there",
  ],
];

/**
 * Returns the reason for a failed handshake. `certificate` is the server's, if it came that far.
 */
export function handshakeProblem(error: Error, name: string, certificate: PeerCertificate | undefined): string {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  if (UNKNOWN_AUTHORITY.has(code)) {
    const issuer = certificate === undefined ? "" : `, ${textOf(certificate.issuer)},`;
    return `the authority of the server's certificate${issuer} is not one that this client trusts`;
  }
  if (code === "CERT_HAS_EXPIRED") {
    const end = certificate === undefined ? "" : ` on ${new Date(certificate.valid_to).toISOString()}`;
    return `the server's certificate has expired${end}`;
  }
  if (code === "CERT_NOT_YET_VALID") {
    const from = certificate === undefined ? "later" : new Date(certificate.valid_from).toISOString();
    return `the server's certificate is valid only from ${from} on: compare the clocks`;
  }
  if (code === "INVALID_PURPOSE") return "the server's certificate is not made for a server";
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    const names = certificate?.subjectaltname ?? "nobody";
    return `the server's certificate is not for ${name}, but for ${names}`;
  }
  const alert = ALERTS.find(([pattern]) => pattern.test(code));
  if (alert !== undefined) return alert[1];
  if (code.startsWith("ERR_SSL_") || code === "EPROTO") return `the TLS handshake failed (${code})`;
  return error.message;
}

/**
 * Fails a connection that was closed before the server's first byte with a text that says more than
 * "Failed to connect". To be called when the socket emits "close", before grpc-js hears of it.
 */
export function closedEarly(socket: Socket, text: string): void {
  // Without a listener, the event would end the process; then nobody waits for the connection.
  if (socket.bytesRead === 0 && !socket.errored && socket.listenerCount("error") > 0) {
    socket.emit("error", new Error(text));
  }
}

/** Returns a name as CN=Authority, O=Organization. */
function textOf(name: PeerCertificate["issuer"]): string {
  return Object.entries(name)
    .map(([field, value]) => `${field}=${value}`)
    .join(", ");
}
