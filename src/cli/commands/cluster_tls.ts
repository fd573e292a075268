import { existsSync, readdirSync } from "node:fs";
import { relative } from "node:path";
import { CairnError } from "../../base/errors.js";
import { DevFiles } from "../../certificates/dev_files.js";
import type { ClientTls } from "../../client/security/connection.js";
import type { Membership } from "../../raft/types.js";

// TLS of `cairn cluster`, with the certificates that `cairn certs dev` has made.

/** @throws CairnError INVALID_ARGUMENT when a node's certificate is not there */
export function checkCertificates(directory: string, members: Membership): void {
  const files = new DevFiles(directory);
  const needed = [files.peerAuthority.certificateFile, files.clientAuthority.certificateFile];
  for (const { id } of members) needed.push(...Object.values(files.node(id)));
  const missing = needed.filter((file) => !existsSync(file));
  if (missing.length === 0 && clientIn(files) !== undefined) return;
  const lack = missing.length > 0 ? missing.join(", ") : "a certificate of any client";
  const make = `cairn certs dev --out ${directory} --nodes ${members.map(({ id }) => id).join(",")}`;
  throw new CairnError("INVALID_ARGUMENT", `${directory} lacks ${lack}: make the certificates with ${make}`);
}

/** Returns the flags of `cairn start` for a node. */
export function tlsFlags(directory: string, id: string): string[] {
  const files = new DevFiles(directory);
  const { certificateFile, keyFile } = files.node(id);
  const authorities = [files.clientAuthority, files.peerAuthority].map((authority) => authority.certificateFile);
  const flags = ["--tls-cert", certificateFile, "--tls-key", keyFile];
  return [...flags, "--tls-client-ca", authorities[0]!, "--tls-peer-ca", authorities[1]!];
}

/** Returns the settings of the first client. */
export function clientTls(directory: string): ClientTls {
  const files = new DevFiles(directory);
  const { certificateFile: certificate, keyFile: key } = files.client(clientIn(files) ?? "");
  return { ca: files.peerAuthority.certificateFile, certificate, key };
}

/** Returns examples to try the cluster with. */
export function tlsExamples(address: string, endpoints: string, tls: ClientTls): string {
  const [ca, certificate, key] = [tls.ca, tls.certificate, tls.key].map((file) => relative(process.cwd(), file ?? ""));
  const curl = `grpcurl -cacert ${ca} -cert ${certificate} -key ${key}`;
  return `
To try it:
  export CAIRN_ENDPOINTS=${endpoints}
  export CAIRN_TLS_CA=${ca} CAIRN_TLS_CERT=${certificate} CAIRN_TLS_KEY=${key}
  npx cairn kv put x 1
  npx cairn kv get x
  npx cairn status
with grpcurl (in JSON, bytes are base64: eA== is x, MQ== is 1):
  ${curl} ${address} list
  ${curl} -d '{"key":"eA==","value":"MQ=="}' ${address} cairn.v1.KeyValueService/Put
Ctrl-C stops all.`;
}

/** Returns the first client that has a certificate, by name. */
function clientIn(files: DevFiles): string | undefined {
  const names = existsSync(files.clients) ? readdirSync(files.clients).sort() : [];
  return names
    .filter((name) => name.endsWith(".crt"))
    .map((name) => name.slice(0, -".crt".length))
    .find((name) => existsSync(files.client(name).keyFile));
}
