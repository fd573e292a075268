import type { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { CairnError } from "../base/errors.js";
import { certificatesIn } from "../rpc/security/authorities.js";
import { alternativeNames, type NodeName, nodeNamed } from "../rpc/security/caller_certificate.js";

// Reads certificates for people and scripts.

/** A certificate, described. */
export interface CertificateFacts {
  readonly subject: string;
  readonly issuer: string;
  /** It may sign others. */
  readonly isAuthority: boolean;
  /** Subject alternative names in Node's form: "DNS:db.example", "URI:cairn://c1/node/n2". */
  readonly names: readonly string[];
  /** The node that it was made for. */
  readonly node?: NodeName | undefined;
  /** Extended key usages: "serverAuth", "clientAuth", or an object identifier. */
  readonly usages: readonly string[];
  /** RFC 3339. */
  readonly notBefore: string;
  readonly notAfter: string;
  /** Whole days until it expires; negative when it has. */
  readonly daysLeft: number;
  readonly serial: string;
  /** SHA-256 of the certificate, in hexadecimal digits with colons. */
  readonly fingerprint: string;
}

const USAGES: Readonly<Record<string, string>> = {
  "1.3.6.1.5.5.7.3.1": "serverAuth",
  "1.3.6.1.5.5.7.3.2": "clientAuth",
};

const DAY_MS = 86_400_000;

/**
 * Describes all certificates of a PEM file.
 * @throws CairnError NOT_FOUND when it cannot be read; INVALID_ARGUMENT when it holds none, or a
 * damaged one
 */
export async function describeCertificates(file: string, now = Date.now()): Promise<CertificateFacts[]> {
  const text = await readFile(file, "utf8").catch((error: Error) => {
    throw new CairnError("NOT_FOUND", `the file cannot be read: ${error.message}`, { cause: error });
  });
  return certificatesIn(file, text).map((certificate) => factsOf(certificate, now));
}

function factsOf(certificate: X509Certificate, now: number): CertificateFacts {
  const end = Date.parse(certificate.validTo);
  const names = alternativeNames(certificate.subjectAltName);
  return {
    subject: certificate.subject.replaceAll("\n", ", "),
    issuer: certificate.issuer.replaceAll("\n", ", "),
    isAuthority: certificate.ca,
    names,
    node: nodeNamed(names),
    // For certificates without the extension, Node returns undefined.
    usages: (certificate.keyUsage ?? []).map((usage) => USAGES[usage] ?? usage),
    notBefore: new Date(certificate.validFrom).toISOString(),
    notAfter: new Date(end).toISOString(),
    daysLeft: Math.floor((end - now) / DAY_MS),
    serial: certificate.serialNumber,
    fingerprint: certificate.fingerprint256,
  };
}
