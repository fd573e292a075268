import { dirname, relative } from "node:path";
import { readAuthority, type StoredPair, writeCertificates } from "../../../certificates/certificate_files.js";
import { type CertificateFacts, describeCertificates } from "../../../certificates/describe.js";
import { AUTHORITY, DevFiles, type PairPaths, pairPaths } from "../../../certificates/dev_files.js";
import {
  type KeyPairPem,
  makeAuthority,
  makeClientCertificate,
  makeNodeCertificate,
} from "../../../certificates/issue.js";
import { alternativeName } from "../../../certificates/names.js";
import { nodeFileSystem } from "../../../system/fs.js";
import { print } from "../../output/output.js";
import type {
  AuthorityOptions,
  ClientCertificateOptions,
  DevOptions,
  MakeOptions,
  NodeCertificateOptions,
} from "./certs.js";

// The work of `cairn certs`.

export async function makeAuthorityFiles(options: AuthorityOptions): Promise<void> {
  const pair = await makeAuthority(options.name, options);
  await keep(options, [at(pairPaths(options.out, AUTHORITY), pair)]);
}

export async function makeNodeFiles(options: NodeCertificateOptions): Promise<void> {
  const { id, clusterId, host: hosts, out } = options;
  const signer = await readAuthority(options.authority);
  const pair = await makeNodeCertificate(signer, { id, clusterId, hosts }, options);
  await keep(options, [at(pairPaths(out, id), pair)]);
}

export async function makeClientFiles(options: ClientCertificateOptions): Promise<void> {
  const { name, san = [], out } = options;
  const signer = await readAuthority(options.authority);
  const pair = await makeClientCertificate(signer, { name, alternativeNames: san.map(alternativeName) }, options);
  await keep(options, [at(pairPaths(out, name), pair)]);
}

export async function makeDevFiles(options: DevOptions): Promise<void> {
  const { nodes, clients, clusterId, host: hosts, out } = options;
  const files = new DevFiles(out);
  const peers = await makeAuthority(`Peers of ${clusterId}`, options);
  const callers = await makeAuthority(`Clients of ${clusterId}`, options);
  const pairs = [at(files.peerAuthority, peers), at(files.clientAuthority, callers)];
  for (const id of nodes) {
    pairs.push(at(files.node(id), await makeNodeCertificate(peers, { id, clusterId, hosts }, options)));
  }
  for (const name of clients)
    pairs.push(at(files.client(name), await makeClientCertificate(callers, { name }, options)));
  await keep(options, pairs);
}

/** Prints what the certificates in a file say. */
export async function showFile(file: string, { json }: { readonly json?: true }): Promise<void> {
  const certificates = await describeCertificates(file);
  const text = json ? JSON.stringify({ file, certificates }) : certificates.map(textOf).join("\n\n");
  await print(`${text}\n`);
}

function at(paths: PairPaths, pair: KeyPairPem): StoredPair {
  return { ...pair, ...paths };
}

/** Writes the files, and prints their names. */
async function keep({ force, json }: MakeOptions, pairs: readonly StoredPair[]): Promise<void> {
  await writeCertificates(nodeFileSystem, pairs, { force });
  const written = [];
  for (const { certificateFile, keyFile } of pairs) {
    const [facts] = await describeCertificates(certificateFile);
    written.push({ certificateFile, keyFile, ...facts! });
  }
  if (json) {
    await print(`${JSON.stringify({ written })}\n`);
    return;
  }
  const lines = written.map(
    ({ certificateFile, keyFile, subject, notAfter }) =>
      `${shown(certificateFile)}  ${subject}, until ${notAfter.slice(0, 10)}\n${shown(keyFile)}  its private key: keep it secret`,
  );
  await print(`${lines.join("\n")}\n`);
}

/** Returns a path as a person would type it here, if it lies below this directory. */
function shown(path: string): string {
  const short = relative(process.cwd(), path);
  return short.startsWith("..") || dirname(short) === short ? path : short;
}

function textOf(facts: CertificateFacts): string {
  const { subject, issuer, names, notBefore, notAfter, daysLeft, usages, serial, fingerprint } = facts;
  const left = daysLeft < 0 ? "EXPIRED" : daysLeft === 1 ? "1 day left" : `${daysLeft} days left`;
  return [
    `subject:      ${subject}`,
    `issuer:       ${issuer}${issuer === subject ? " (signs itself)" : ""}`,
    `kind:         ${kindOf(facts)}`,
    `names:        ${names.length === 0 ? "none" : names.join(", ")}`,
    ...(usages.length > 0 ? [`for:          ${usages.join(", ")}`] : []),
    `valid:        ${notBefore} to ${notAfter} (${left})`,
    `serial:       ${serial}`,
    `fingerprint:  ${fingerprint}`,
  ].join("\n");
}

function kindOf({ isAuthority, node, usages }: CertificateFacts): string {
  if (isAuthority) return "authority";
  if (node !== undefined) return `node ${node.id} of cluster ${node.cluster}`;
  return usages.includes("serverAuth") ? "server" : "client";
}
