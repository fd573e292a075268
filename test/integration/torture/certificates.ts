import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { ClientTls } from "../../../src/client/security/connection.js";
import { TestAuthority } from "../../support/certificates/authority.js";
import { type NodeFiles, tlsFlags, writeNodeFiles } from "../../support/certificates/node_files.js";
import { replaceFile } from "../../support/disk/replace_file.js";

/** Time between two replacements of all certificates, in ms. */
const REPLACE_MS = 30_000;

const CLUSTER = "torture";

/**
 * Certificates of nodes and of the clients of a run. All of them are replaced again and again, by turns from one of two authorities: what was
 * signed by the last one is good for connections that live, and for those that begin before their files have changed.
 */
export class TortureCertificates {
  replacements = 0;
  /** Rejects when files could not be replaced. */
  readonly failed: Promise<never>;
  #fail!: (error: unknown) => void;
  readonly #nodes = new Map<string, Promise<NodeFiles>>();
  readonly #clients = new Map<string, ClientTls>();
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  private constructor(
    private readonly directory: string,
    private readonly peers: readonly TestAuthority[],
    private readonly clients: TestAuthority,
  ) {
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
  }

  static async create(directory: string): Promise<TortureCertificates> {
    const [first, second, clients] = await Promise.all(["peers 1", "peers 2", "clients"].map(TestAuthority.create));
    const made = new TortureCertificates(directory, [first!, second!], clients!);
    await replaceFile(made.#ca, made.#authorities);
    return made;
  }

  /** How a client connects whose certificate has this common name; its files are made when they are first asked for. */
  async client(name: string): Promise<{ readonly tls: ClientTls }> {
    let tls = this.#clients.get(name);
    if (tls === undefined) {
      const path = (kind: string) => join(this.directory, `client-${name}.${kind}`);
      tls = { ca: this.#ca, certificate: path("pem"), key: path("key") };
      this.#clients.set(name, tls);
      await this.#replaceClient(name, tls);
    }
    return { tls };
  }

  /** The flags of a node, whose files are made when they are first asked for. */
  async flagsOf(id: string): Promise<string[]> {
    let files = this.#nodes.get(id);
    if (files === undefined) {
      files = this.#write(id);
      this.#nodes.set(id, files);
    }
    return tlsFlags(await files);
  }

  replaceAgainAndAgain(progress: (line: string) => void): void {
    this.#running = this.#replace(progress).catch((error: unknown) => this.#fail(error));
  }

  /** May be called more than once. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #replace(progress: (line: string) => void): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      await pause(REPLACE_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      this.replacements++;
      progress(`replacing all certificates for the ${this.replacements}. time`);
      // One after the other, so that the nodes have certificates of both authorities for a while.
      for (const id of this.#nodes.keys()) {
        const files = this.#write(id);
        this.#nodes.set(id, files);
        await files;
      }
      for (const [name, tls] of this.#clients) await this.#replaceClient(name, tls);
    }
  }

  async #write(id: string): Promise<NodeFiles> {
    const authority = this.peers[this.replacements % this.peers.length]!;
    const own = await authority.node(CLUSTER, id);
    return writeNodeFiles(join(this.directory, `tls-${id}`), own, {
      clients: this.clients.pem,
      peers: this.#authorities,
    });
  }

  async #replaceClient(name: string, tls: ClientTls): Promise<void> {
    const { certificate, key } = await this.clients.issue({ commonName: name });
    await replaceFile(tls.key!, key);
    await replaceFile(tls.certificate!, certificate);
  }

  /** The file with the authorities of the nodes. */
  get #ca(): string {
    return join(this.directory, "peers.pem");
  }

  get #authorities(): string {
    return this.peers.map(({ pem }) => pem).join("");
  }
}
