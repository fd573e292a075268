import "reflect-metadata";
import { createPrivateKey, type KeyObject, webcrypto, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";
import { checkId } from "../base/arguments.js";
import { CairnError } from "../base/errors.js";
import { nodeUri } from "../rpc/security/caller_certificate.js";
import { type AlternativeName, checkClientName, checkHost, checkSubjectName } from "./names.js";

// Makes certificates: of authorities, and of nodes and clients, which an authority signs.

/** A certificate and its private key, as texts in PEM. */
export interface KeyPairPem {
  readonly certificate: string;
  readonly key: string;
}

/** Lifetime of a certificate. It never outlives its authority. */
export interface Lifetime {
  readonly days: number;
  /** In ms since 1970. Default: now. */
  readonly now?: number | undefined;
}

export interface NodeSubject {
  readonly id: string;
  readonly clusterId: string;
  /** DNS names and IP addresses at which others reach the node. */
  readonly hosts: readonly string[];
}

export interface ClientSubject {
  /** The common name. */
  readonly name: string;
  /** Further names. */
  readonly alternativeNames?: readonly AlternativeName[] | undefined;
}

const KEYS = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

const DAY_MS = 86_400_000;

/** Certificates begin this long before now, in ms, for machines whose clocks are behind. */
const CLOCK_SKEW_MS = 5 * 60_000;

/** Makes an authority: a certificate that signs itself. */
export async function makeAuthority(name: string, lifetime: Lifetime): Promise<KeyPairPem> {
  const keys = await webcrypto.subtle.generateKey(KEYS, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: commonName(checkSubjectName(name)),
    keys,
    signingAlgorithm: KEYS,
    ...validity(lifetime),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return pem(certificate, keys.privateKey);
}

/**
 * Makes a node's certificate, with which it serves clients and peers and calls peers. It names the
 * node and its cluster: with it, the node cannot speak for another one.
 */
export async function makeNodeCertificate(
  authority: KeyPairPem,
  { id, clusterId, hosts }: NodeSubject,
  lifetime: Lifetime,
): Promise<KeyPairPem> {
  checkId(id, "the node's id");
  checkId(clusterId, "the cluster's id");
  const names = hosts.map((host): AlternativeName => ({ type: isIP(host) ? "ip" : "dns", value: checkHost(host) }));
  if (names.length === 0) {
    throw new CairnError("INVALID_ARGUMENT", `name at least one host at which others reach ${id}`);
  }
  return issue(authority, id, [{ type: "url", value: nodeUri({ cluster: clusterId, id }) }, ...names], lifetime, [
    x509.ExtendedKeyUsage.serverAuth,
    x509.ExtendedKeyUsage.clientAuth,
  ]);
}

/** Makes a client's certificate. */
export async function makeClientCertificate(
  authority: KeyPairPem,
  { name, alternativeNames = [] }: ClientSubject,
  lifetime: Lifetime,
): Promise<KeyPairPem> {
  return issue(authority, checkClientName(name), alternativeNames, lifetime, [x509.ExtendedKeyUsage.clientAuth]);
}

async function issue(
  authority: KeyPairPem,
  name: string,
  names: readonly AlternativeName[],
  lifetime: Lifetime,
  usages: readonly x509.ExtendedKeyUsage[],
): Promise<KeyPairPem> {
  const signer = await signerOf(authority, lifetime.now);
  const keys = await webcrypto.subtle.generateKey(KEYS, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: commonName(name),
    issuer: signer.certificate.subjectName,
    publicKey: keys.publicKey,
    signingKey: signer.key,
    signingAlgorithm: KEYS,
    ...validity(lifetime, signer.certificate.notAfter),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([...usages]),
      ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension([...names])] : []),
      await x509.AuthorityKeyIdentifierExtension.create(signer.certificate),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return pem(certificate, keys.privateKey);
}

/**
 * Reads the authority that is to sign.
 * @throws CairnError INVALID_ARGUMENT when it cannot sign
 */
async function signerOf({ certificate, key }: KeyPairPem, now = Date.now()) {
  let parsed: X509Certificate;
  let secret: KeyObject;
  try {
    parsed = new X509Certificate(certificate);
    secret = createPrivateKey(key);
  } catch (error) {
    const text = "the authority must be a certificate and a private key in PEM";
    throw new CairnError("INVALID_ARGUMENT", `${text}: ${(error as Error).message}`, { cause: error });
  }
  const problem = signerProblem(parsed, secret, now);
  if (problem !== undefined) throw new CairnError("INVALID_ARGUMENT", problem);
  const der = secret.export({ type: "pkcs8", format: "der" });
  return {
    certificate: new x509.X509Certificate(parsed.raw),
    key: await webcrypto.subtle.importKey("pkcs8", der, KEYS, false, ["sign"]),
  };
}

function signerProblem(certificate: X509Certificate, key: KeyObject, now: number): string | undefined {
  if (!certificate.ca) return "the authority's certificate is not of an authority: it may not sign others";
  if (!certificate.checkPrivateKey(key)) return "the authority's key is not the key of its certificate";
  if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") return "the authority's key must be on the curve P-256";
  if (Date.parse(certificate.validTo) <= now)
    return `the authority has expired on ${certificate.validTo}: make another`;
  return undefined;
}

function validity({ days, now = Date.now() }: Lifetime, latest?: Date): { notBefore: Date; notAfter: Date } {
  const end = now + days * DAY_MS;
  return {
    notBefore: new Date(now - CLOCK_SKEW_MS),
    notAfter: new Date(latest === undefined ? end : Math.min(end, latest.getTime())),
  };
}

/** Returns a subject in the form that does not interpret characters of the name. */
function commonName(name: string): x509.JsonName {
  return [{ CN: [name] }];
}

async function pem(certificate: x509.X509Certificate, key: webcrypto.CryptoKey): Promise<KeyPairPem> {
  const der = await webcrypto.subtle.exportKey("pkcs8", key);
  const secret = createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" });
  return {
    certificate: `${certificate.toString("pem").trimEnd()}\n`,
    key: secret.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}
