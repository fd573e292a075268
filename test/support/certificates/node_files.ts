import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { replaceFile } from "../disk/replace_file.js";
import type { Issued, TestAuthority } from "./authority.js";

// Puts the certificates of nodes into files.

/** Files of a node in a directory: node.pem, node.key, clients.pem, peers.pem. */
export interface NodeFiles {
  readonly certificate: string;
  readonly key: string;
  readonly clientCa: string;
  readonly peerCa: string;
}

/** Writes a node's files, each one whole, as an operator's tool should. */
export async function writeNodeFiles(
  directory: string,
  { certificate, key }: Issued,
  { clients, peers }: { readonly clients: string | TestAuthority; readonly peers: string | TestAuthority },
): Promise<NodeFiles> {
  await mkdir(directory, { recursive: true });
  const files = {
    certificate: join(directory, "node.pem"),
    key: join(directory, "node.key"),
    clientCa: join(directory, "clients.pem"),
    peerCa: join(directory, "peers.pem"),
  };
  await replaceFile(files.certificate, certificate);
  await replaceFile(files.key, key);
  await replaceFile(files.clientCa, typeof clients === "string" ? clients : clients.pem);
  await replaceFile(files.peerCa, typeof peers === "string" ? peers : peers.pem);
  return files;
}

/** Returns the flags of `cairn start` for a node's files. */
export function tlsFlags({ certificate, key, clientCa, peerCa }: NodeFiles): string[] {
  return [...["--tls-cert", certificate, "--tls-key", key], ...["--tls-client-ca", clientCa, "--tls-peer-ca", peerCa]];
}
