import { constants, type X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContext, type SecureContextOptions } from "node:tls";
import { CairnError } from "../../base/errors.js";
import { certificatesIn, isSignedBy } from "./authorities.js";
import { alternativeNames, type NodeName, nodeNamed, nodeUri } from "./caller_certificate.js";

// Turns the contents of a node's TLS files into what its connections use.

/** Paths of a node's TLS files, all in PEM. */
export interface NodeTlsFiles {
  /** The node's certificate, with the certificates between it and its authority. */
  readonly certificate: string;
  /** The private key of the certificate. */
  readonly key: string;
  /**
   * Certificate and key for connections between members, when they differ from those that clients
   * see.
   */
  readonly peerCertificate?: string | undefined;
  readonly peerKey?: string | undefined;
  /** Authorities of clients. With them, every client needs a certificate. */
  readonly clientCa?: string | undefined;
  /** Authorities of members. A node needs them to have other members. */
  readonly peerCa?: string | undefined;
}

/** Use of a file with certificates. */
export type CertificateUse = "server" | "peer" | "client_ca" | "peer_ca";

/** A certificate that a node uses. */
export interface CertificateInfo {
  readonly use: CertificateUse;
  readonly file: string;
  /** In one line: "CN=n1, O=Example". */
  readonly subject: string;
  /** Subject alternative names in Node's form: "DNS:db.example", "URI:cairn://c1/node/n2". */
  readonly names: readonly string[];
  /** Begin and end of its validity, in ms since 1970. */
  readonly startsMs: number;
  readonly expiresMs: number;
}

/** Everything that a node's connections need. It is replaced as a whole, or not at all. */
export interface TlsMaterial {
  /** For the node's port: what clients see, and all authorities. */
  readonly server: SecureContextOptions;
  /** For connections between members, at both ends; undefined without an authority of members. */
  readonly peer: SecureContext | undefined;
  readonly clientAuthorities: readonly X509Certificate[];
  readonly peerAuthorities: readonly X509Certificate[];
  /** The node that its certificate is made for. */
  readonly node: NodeName | undefined;
  readonly certificates: readonly CertificateInfo[];
}

/**
 * No node and no client speaks an older version; Node prefers TLS 1.3. No session is resumed: each
 * connection is judged by the authorities of its time, with all certificates of its caller.
 */
const PROTOCOL = {
  minVersion: "TLSv1.2",
  secureOptions: constants.SSL_OP_NO_TICKET,
} as const satisfies SecureContextOptions;

/**
 * Reads the contents of a node's files.
 * @param contents of each file, by path
 * @param checkNode throws when a certificate for members is not this node's
 * @throws CairnError INVALID_ARGUMENT when a file is damaged, or one does not match another
 */
export function materialOf(
  files: NodeTlsFiles,
  contents: ReadonlyMap<string, string>,
  checkNode: (node: NodeName, file: string) => void,
): TlsMaterial {
  const { certificate, key, clientCa, peerCa, peerCertificate = certificate, peerKey = key } = files;
  const text = (file: string) => contents.get(file)!;
  const clientAuthorities = clientCa === undefined ? [] : certificatesIn(clientCa, text(clientCa));
  const peerAuthorities = peerCa === undefined ? [] : certificatesIn(peerCa, text(peerCa));
  const own = certificatesIn(certificate, text(certificate));
  const peers = certificatesIn(peerCertificate, text(peerCertificate));
  const authorities = [clientCa, peerCa].flatMap((file) => (file === undefined ? [] : [text(file)]));
  const server = {
    ...PROTOCOL,
    cert: text(certificate),
    key: text(key),
    ...(authorities.length > 0 && { ca: authorities }),
  };
  contextOf(server, certificate, key);
  const used: [CertificateUse, string, readonly X509Certificate[]][] = [["server", certificate, own.slice(0, 1)]];
  if (peerCertificate !== certificate) used.push(["peer", peerCertificate, peers.slice(0, 1)]);
  if (clientCa !== undefined) used.push(["client_ca", clientCa, clientAuthorities]);
  if (peerCa !== undefined && peerCa !== clientCa) used.push(["peer_ca", peerCa, peerAuthorities]);
  const common = {
    server,
    clientAuthorities,
    peerAuthorities,
    certificates: used.flatMap(([use, file, all]) => all.map((each) => infoOf(use, file, each))),
  };
  if (peerCa === undefined) return { ...common, peer: undefined, node: undefined };
  const node = nodeOf(peers[0]!, peerCertificate);
  checkNode(node, peerCertificate);
  if (!isSignedBy(peers[0]!, peerAuthorities, peers.slice(1))) {
    const advice = "Give the authority that has signed it, and with --tls-peer-ca on the command line.";
    const said = `${peerCertificate} is not signed by an authority in ${peerCa}, so no member would accept it`;
    throw new CairnError("INVALID_ARGUMENT", `${said}. ${advice}`);
  }
  const context = { ...PROTOCOL, cert: text(peerCertificate), key: text(peerKey), ca: text(peerCa) };
  return { ...common, peer: contextOf(context, peerCertificate, peerKey), node };
}

function contextOf(options: SecureContextOptions, certificate: string, key: string): SecureContext {
  try {
    return createSecureContext(options);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.replace(/^error:[^:]*:/, "").replaceAll("::", " ") : cause;
    const text = `the certificate in ${certificate} and the key in ${key} cannot be used together: ${reason}`;
    throw new CairnError("INVALID_ARGUMENT", text, { cause });
  }
}

function nodeOf({ subjectAltName }: X509Certificate, file: string): NodeName {
  const node = nodeNamed(alternativeNames(subjectAltName));
  if (node !== undefined) return node;
  const example = nodeUri({ cluster: "<cluster>", id: "<id>" });
  const text = `${file} does not say for which node it is made, and members would refuse it`;
  throw new CairnError("INVALID_ARGUMENT", `${text}: it needs one subject alternative name URI:${example}`);
}

function infoOf(use: CertificateUse, file: string, certificate: X509Certificate): CertificateInfo {
  const { subject, subjectAltName, validFrom, validTo } = certificate;
  const line = subject?.replaceAll("\n", ", ") ?? "";
  const names = alternativeNames(subjectAltName);
  return { use, file, subject: line, names, startsMs: Date.parse(validFrom), expiresMs: Date.parse(validTo) };
}
