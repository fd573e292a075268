import { Option } from "commander";
import { exposureProblem, isLoopback } from "../../base/addresses.js";
import type { NodeTlsFiles } from "../../server/node_security.js";
import { nonEmpty } from "./options.js";

// Options of `cairn start` about TLS.

/** The options, as they are given. */
export interface TlsOptions {
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsPeerCert?: string;
  readonly tlsPeerKey?: string;
  readonly tlsClientCa?: string;
  readonly tlsPeerCa?: string;
  readonly insecure?: boolean;
}

/** The settings that result from the options. */
export interface TlsSettings {
  readonly tls: NodeTlsFiles | undefined;
  /** Allows addresses other than loopback addresses without TLS. */
  readonly insecure: boolean;
}

const FILES = [
  ["tls-cert", "certificate of the node in PEM, with those between it and its authority; changed files are read again"],
  ["tls-key", "private key of the certificate"],
  ["tls-client-ca", "authorities of clients: every client needs a certificate that one of them has signed"],
  ["tls-peer-ca", "authorities of the members of the cluster: needed when there are others"],
  ["tls-peer-cert", "certificate for the connections between members (default: --tls-cert)"],
  ["tls-peer-key", "private key of that certificate"],
] as const;

/** Returns the options for the command. */
export function tlsOptions(): Option[] {
  const files = FILES.map(([name, description]) =>
    new Option(`--${name} <file>`, description)
      .env(`CAIRN_${name.toUpperCase().replaceAll("-", "_")}`)
      .argParser(nonEmpty),
  );
  const insecure = new Option(
    "--insecure",
    "without TLS, listen on an address that the network reaches: everybody there can read and change everything",
  );
  return [...files, insecure];
}

/** Merges the options; an invalid combination is reported as an error of the command line. */
export function tlsOf(options: TlsOptions, fail: (text: string) => never): TlsSettings {
  const { tlsCert, tlsKey, tlsPeerCert, tlsPeerKey, tlsClientCa, tlsPeerCa, insecure = false } = options;
  if (tlsCert === undefined || tlsKey === undefined) {
    const given = Object.entries({ tlsCert, tlsKey, tlsPeerCert, tlsPeerKey, tlsClientCa, tlsPeerCa });
    const [first] = given.flatMap(([name, value]) => (value === undefined ? [] : [flagOf(name)]));
    if (first !== undefined) fail(`${first} is given, and TLS needs both --tls-cert and --tls-key`);
    return { tls: undefined, insecure };
  }
  if (insecure) fail("--insecure is for a node without TLS, and --tls-cert is given: leave one of them out");
  if ((tlsPeerCert === undefined) !== (tlsPeerKey === undefined)) {
    fail("--tls-peer-cert and --tls-peer-key belong together: give both, or neither");
  }
  if (tlsPeerCert !== undefined && tlsPeerCa === undefined) {
    fail("--tls-peer-cert is for other members, and needs their authority: give --tls-peer-ca");
  }
  const tls = {
    certificate: tlsCert,
    key: tlsKey,
    peerCertificate: tlsPeerCert,
    peerKey: tlsPeerKey,
    clientCa: tlsClientCa,
    peerCa: tlsPeerCa,
  };
  return { tls, insecure };
}

/** Checks that a listener without TLS is on a loopback address, or meant to be where it is. */
export function checkExposed(
  flag: string,
  listen: string,
  { tls, insecure }: TlsSettings,
  fail: (text: string) => never,
): void {
  if (tls === undefined && !insecure && !isLoopback(listen)) fail(`${flag} ${listen}: ${exposureProblem(listen)}`);
}

function flagOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
