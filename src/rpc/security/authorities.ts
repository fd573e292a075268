import { X509Certificate } from "node:crypto";
import { CairnError } from "../../base/errors.js";

// Finds out which authority has signed a certificate.

const PEM_BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g;

/** Most certificates between a caller's own and its authority. */
const CHAIN_MAX = 8;

/**
 * Parses all certificates of a PEM file. OpenSSL skips the rest of a bundle behind a damaged
 * certificate, so a file that is half written would quietly lose authorities; this refuses it.
 * @throws CairnError INVALID_ARGUMENT
 */
export function certificatesIn(file: string, pem: string): X509Certificate[] {
  const blocks = pem.match(PEM_BLOCK) ?? [];
  const certificates = blocks.filter((block) => block.startsWith("-----BEGIN CERTIFICATE-----"));
  if (certificates.length === 0 || pem.replace(PEM_BLOCK, "").includes("-----")) {
    const found = certificates.length === 0 ? "no certificate" : "something that is cut off";
    throw new CairnError("INVALID_ARGUMENT", `${file} holds ${found}: it must hold whole certificates in PEM`);
  }
  return certificates.map((block) => {
    try {
      return new X509Certificate(block);
    } catch (cause) {
      throw new CairnError("INVALID_ARGUMENT", `${file} holds a damaged certificate: ${String(cause)}`, { cause });
    }
  });
}

/**
 * Returns whether one of the authorities has signed a certificate, directly or through the
 * certificates that came with it. Every signature is verified: those that came with it are the
 * caller's choice, and names alone prove nothing.
 */
export function isSignedBy(
  certificate: X509Certificate,
  authorities: readonly X509Certificate[],
  between: readonly X509Certificate[],
): boolean {
  const proven = [certificate];
  // Each certificate joins once, so that a chain of many equal names costs no more than others.
  for (const subject of proven) {
    if (authorities.some((authority) => hasIssued(authority, subject))) return true;
    const issuers = between.filter((each) => !proven.includes(each) && each.ca && isInForce(each));
    proven.push(...issuers.filter((issuer) => hasIssued(issuer, subject)));
  }
  return false;
}

/** Returns the certificates that came with one, nearest first. */
export function chainOf(certificate: X509Certificate): X509Certificate[] {
  const chain: X509Certificate[] = [];
  for (let next = certificate.issuerCertificate; next !== undefined; next = next.issuerCertificate) {
    if (chain.length === CHAIN_MAX || chain.at(-1)?.fingerprint256 === next.fingerprint256) break;
    chain.push(next);
  }
  return chain;
}

function hasIssued(issuer: X509Certificate, certificate: X509Certificate): boolean {
  try {
    return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
  } catch {
    // A key of a kind that cannot have made the signature.
    return false;
  }
}

function isInForce({ validFrom, validTo }: X509Certificate): boolean {
  const now = Date.now();
  return Date.parse(validFrom) <= now && now <= Date.parse(validTo);
}
