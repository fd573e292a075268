import type { X509Certificate } from "node:crypto";
import { isId } from "../../base/ids.js";

// Describes the caller of an RPC by the certificate of its connection.

/** The caller at the other end of a connection, as far as its certificate proves it. */
export interface CallerCertificate {
  /**
   * The authority that signed it. With one authority for both, a certificate that names a node is a
   * peer's.
   */
  readonly authority: "client" | "peer";
  readonly commonName: string | undefined;
  /** Subject alternative names in Node's form: "DNS:db.example", "URI:cairn://c1/node/n2". */
  readonly names: readonly string[];
  /** SHA-256 of the certificate: 64 hexadecimal digits in lower case. */
  readonly fingerprint: string;
  /** The node that it was made for; undefined for a client's. */
  readonly node: NodeName | undefined;
}

/** The node that a certificate is made for, from the URI `cairn://<cluster>/node/<id>`. */
export interface NodeName {
  readonly cluster: string;
  readonly id: string;
}

/** Returns the common name of a certificate's subject; the first, when it has several. */
export function commonNameOf(certificate: X509Certificate): string | undefined {
  const found: string | string[] | undefined = certificate.toLegacyObject().subject?.CN;
  return Array.isArray(found) ? found[0] : found;
}

/** Returns a fingerprint, which may have colons, as {@link CallerCertificate} has it. */
export function plainFingerprint(fingerprint: string): string {
  return fingerprint.replaceAll(":", "").toLowerCase();
}

/**
 * Splits Node's text of subject alternative names. Node quotes a name that could be taken for
 * several. A text of another form has no names: nobody is taken for somebody else.
 */
export function alternativeNames(text: string | undefined): string[] {
  const names: string[] = [];
  let rest = text ?? "";
  while (rest !== "") {
    const match = /^([A-Za-z ]+:(?:"(?:[^"\\]|\\.)*"|[^",]*))(?:, |$)/.exec(rest);
    if (match === null) return [];
    names.push(match[1]!);
    rest = rest.slice(match[0].length);
  }
  return names;
}

/**
 * Returns the node that a certificate with these names is made for. A certificate that names
 * several nodes is made for none.
 */
export function nodeNamed(names: readonly string[]): NodeName | undefined {
  const found = names.flatMap((name) => {
    const [, cluster = "", id = ""] = /^URI:cairn:\/\/([^/]*)\/node\/([^/]*)$/.exec(name) ?? [];
    return isId(cluster) && isId(id) ? [{ cluster, id }] : [];
  });
  return found.length === 1 ? found[0] : undefined;
}

/** Returns the name of a node as a certificate has it. */
export function nodeUri({ cluster, id }: NodeName): string {
  return `cairn://${cluster}/node/${id}`;
}

/** Describes a caller in the words of an error. */
export function describeCaller(caller: CallerCertificate | undefined): string {
  if (caller === undefined) return "a caller without a certificate";
  if (caller.node !== undefined) return nodeUri(caller.node);
  return `the ${caller.authority} ${JSON.stringify(caller.commonName ?? caller.names[0] ?? "")}`;
}
