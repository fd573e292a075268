import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { ConnectionOptions } from "../../../src/client/security/connection.js";
import { type NodeFiles, replaceFile, TestAuthority, tlsFlags, writeNodeFiles } from "../../support/certificates.js";

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
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  private constructor(
    private readonly directory: string,
    private readonly peers: readonly TestAuthority[],
    private readonly clients: TestAuthority,
    /** How clients connect. */
    readonly connection: ConnectionOptions & { readonly tls: { ca: string; certificate: string; key: string } },
  ) {
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
  }

  static async create(directory: string): Promise<TortureCertificates> {
    const [first, second, clients] = await Promise.all(["peers 1", "peers 2", "clients"].map(TestAuthority.create));
    const path = (name: string) => join(directory, name);
    const tls = { ca: path("peers.pem"), certificate: path("client.pem"), key: path("client.key") };
    const made = new TortureCertificates(directory, [first!, second!], clients!, { tls });
    await replaceFile(tls.ca, made.#authorities);
    await made.#replaceClient();
    return made;
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
      await this.#replaceClient();
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

  async #replaceClient(): Promise<void> {
    const { certificate, key } = await this.clients.issue({ commonName: "torture" });
    const { tls } = this.connection;
    await replaceFile(tls.key, key);
    await replaceFile(tls.certificate, certificate);
  }

  get #authorities(): string {
    return this.peers.map(({ pem }) => pem).join("");
  }
}
