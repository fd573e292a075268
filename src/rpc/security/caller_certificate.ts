import type { PeerCertificate } from "node:tls";

// Describes the caller of an RPC by the certificate of its connection.

/** What the certificate of a connection proves about the caller. */
export interface CallerCertificate {
  /**
   * The authority that signed it. With one authority for both, a certificate that names a node is a
   * peer's.
   */
  readonly authority: "client" | "peer";
  readonly commonName: string | undefined;
  /** Subject alternative names in Node's form: "DNS:db.example", "URI:cairn://c1/node/n2". */
  readonly names: readonly string[];
  /** The node that it was made for; undefined for a client's. */
  readonly node: { readonly cluster: string; readonly id: string } | undefined;
}

/** Returns the caller of a certificate that the connection has verified. */
export function callerOf(certificate: PeerCertificate): CallerCertificate {
  const names = splitNames(certificate.subjectaltname);
  const node = nodeOf(names);
  const commonName = certificate.subject?.CN;
  return {
    authority: node === undefined ? "client" : "peer",
    commonName: Array.isArray(commonName) ? commonName[0] : commonName,
    names,
    node,
  };
}

/** Splits Node's text of subject alternative names; Node quotes a name that holds a comma. */
function splitNames(text: string | undefined): string[] {
  if (text === undefined || text === "") return [];
  return text.match(/[A-Za-z0-9 ]+:(?:"(?:[^"\\]|\\.)*"|[^,]*)/g)?.map((name) => name.trim()) ?? [];
}

const NODE_NAME = /^URI:cairn:\/\/([^/]+)\/node\/([^/]+)$/;

function nodeOf(names: readonly string[]): CallerCertificate["node"] {
  for (const name of names) {
    const match = NODE_NAME.exec(name);
    if (match !== null) return { cluster: match[1]!, id: match[2]! };
  }
  return undefined;
}
