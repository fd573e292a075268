import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { CairnError } from "../base/errors.js";

// Reads certificates for people and scripts.

/** A certificate, described. */
export interface CertificateFacts {
  readonly subject: string;
  readonly issuer: string;
  /** It may sign others. */
  readonly isAuthority: boolean;
  /** Subject alternative names in Node's form: "DNS:db.example", "URI:cairn://c1/node/n2". */
  readonly names: readonly string[];
  /** RFC 3339. */
  readonly notBefore: string;
  readonly notAfter: string;
  /** Whole days until it expires; negative when it has. */
  readonly daysLeft: number;
  readonly serial: string;
  /** SHA-256 of the certificate, in hexadecimal digits with colons. */
  readonly fingerprint: string;
}

const DAY_MS = 86_400_000;

/**
 * Describes all certificates of a PEM file.
 * @throws CairnError NOT_FOUND when it cannot be read; INVALID_ARGUMENT when it holds none, or a
 * damaged one
 */
export async function certificatesIn(file: string, now = Date.now()): Promise<CertificateFacts[]> {
  const text = await readFile(file, "utf8").catch((error: Error) => {
    throw new CairnError("NOT_FOUND", `the file cannot be read: ${error.message}`, { cause: error });
  });
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new CairnError("INVALID_ARGUMENT", `${file} holds no certificate in PEM`);
  return blocks.map((block) => {
    try {
      return factsOf(new X509Certificate(block), now);
    } catch (error) {
      const problem = `${file} holds a damaged certificate: ${(error as Error).message}`;
      throw new CairnError("INVALID_ARGUMENT", problem, { cause: error });
    }
  });
}

function factsOf(certificate: X509Certificate, now: number): CertificateFacts {
  const end = Date.parse(certificate.validTo);
  return {
    subject: certificate.subject.replaceAll("\n", ", "),
    issuer: certificate.issuer.replaceAll("\n", ", "),
    isAuthority: certificate.ca,
    names: certificate.subjectAltName?.split(", ") ?? [],
    notBefore: new Date(certificate.validFrom).toISOString(),
    notAfter: new Date(end).toISOString(),
    daysLeft: Math.floor((end - now) / DAY_MS),
    serial: certificate.serialNumber,
    fingerprint: certificate.fingerprint256,
  };
}
