import { join, resolve } from "node:path";

// Names of the files that `cairn certs dev` makes for a development cluster.

/** Paths of a certificate and its key. */
export interface PairPaths {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** The files of a development cluster, in one directory. */
export class DevFiles {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = resolve(directory);
  }

  /** The authority of the nodes. */
  get peerAuthority(): PairPaths {
    return pairPaths(join(this.#directory, "peer-authority"), AUTHORITY);
  }

  /** The authority of the clients. */
  get clientAuthority(): PairPaths {
    return pairPaths(join(this.#directory, "client-authority"), AUTHORITY);
  }

  node(id: string): PairPaths {
    return pairPaths(join(this.#directory, "nodes"), id);
  }

  client(name: string): PairPaths {
    return pairPaths(this.clients, name);
  }

  /** The directory with the certificates of all clients. */
  get clients(): string {
    return join(this.#directory, "clients");
  }
}

/** Name of the files in an authority's directory. */
export const AUTHORITY = "authority";

/** Returns the files of a certificate in a directory: NAME.crt and NAME.key. */
export function pairPaths(directory: string, name: string): PairPaths {
  const path = join(resolve(directory), name);
  return { certificateFile: `${path}.crt`, keyFile: `${path}.key` };
}
