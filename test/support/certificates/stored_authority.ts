import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { StoredPair } from "../../../src/certificates/certificate_files.js";
import {
  type KeyPairPem,
  makeAuthority,
  makeClientCertificate,
  makeNodeCertificate,
} from "../../../src/certificates/issue.js";
import { temporaryDirectory } from "../disk/temporary_directory.js";

/** An authority, and what it signs, in a directory of the test. */
export class StoredAuthority {
  private constructor(
    readonly stored: StoredPair,
    readonly directory: string,
  ) {}

  static async make(name = "Test authority"): Promise<StoredAuthority> {
    const directory = await temporaryDirectory();
    return new StoredAuthority(store(directory, name, await makeAuthority(name, { days: 30 })), directory);
  }

  get certificateFile(): string {
    return this.stored.certificateFile;
  }

  /** A node's certificate; `now` lies in the past for one that has expired. */
  async node(id: string, hosts = ["127.0.0.1", "localhost"], now?: number, clusterId = "c1"): Promise<StoredPair> {
    const pair = await makeNodeCertificate(this.stored, { id, clusterId, hosts }, { days: 10, now });
    return store(this.directory, id, pair);
  }

  async client(name: string, now?: number): Promise<StoredPair> {
    return store(this.directory, name, await makeClientCertificate(this.stored, { name }, { days: 10, now }));
  }
}

/** Writes a pair to NAME.crt and NAME.key, in place of any that is there. */
export function store(directory: string, name: string, pair: KeyPairPem): StoredPair {
  const path = join(directory, name.replaceAll(" ", "-"));
  const stored = { ...pair, certificateFile: `${path}.crt`, keyFile: `${path}.key` };
  writeFileSync(stored.certificateFile, pair.certificate);
  writeFileSync(stored.keyFile, pair.key);
  return stored;
}
