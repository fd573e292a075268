import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "../disk/temporary_directory.js";
import { type Issued, TestAuthority } from "./authority.js";

const DAY_MS = 24 * 3_600_000;

/** A certificate and its key, and where they are written. */
export interface StoredPair extends Issued {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** An authority, and what it signs, in files of a directory of the test. */
export class StoredAuthority {
  private constructor(
    private readonly authority: TestAuthority,
    readonly certificateFile: string,
    readonly directory: string,
  ) {}

  static async make(name = "Test authority"): Promise<StoredAuthority> {
    const directory = await temporaryDirectory();
    const authority = await TestAuthority.create(name);
    const { certificateFile } = store(directory, name, { certificate: authority.pem, key: "" });
    return new StoredAuthority(authority, certificateFile, directory);
  }

  /** The authority's own certificate, in PEM. */
  get pem(): string {
    return this.authority.pem;
  }

  /** A node's certificate, which begins at `now`: in the past for one that has expired. */
  async node(id: string, hosts = ["127.0.0.1", "localhost"], now = Date.now() - DAY_MS): Promise<StoredPair> {
    const uris = [`cairn://c1/node/${id}`];
    const validity = { from: now, until: now + 10 * DAY_MS };
    return store(this.directory, id, await this.authority.issue({ commonName: id, uris, hosts, ...validity }));
  }

  async client(name: string, now = Date.now() - DAY_MS): Promise<StoredPair> {
    const validity = { from: now, until: now + 10 * DAY_MS };
    return store(this.directory, name, await this.authority.issue({ commonName: name, hosts: [], ...validity }));
  }
}

/** Writes a pair to NAME.crt and NAME.key, in place of any that is there. */
export function store(directory: string, name: string, pair: Issued): StoredPair {
  const path = join(directory, name.replaceAll(" ", "-"));
  const stored = { ...pair, certificateFile: `${path}.crt`, keyFile: `${path}.key` };
  writeFileSync(stored.certificateFile, pair.certificate);
  writeFileSync(stored.keyFile, pair.key);
  return stored;
}
