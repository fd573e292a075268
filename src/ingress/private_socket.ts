import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { CairnError } from "../base/errors.js";

/** Longest path of a socket that every system takes, in bytes. */
const PATH_BYTES = 100;

/**
 * A way to a node that nobody but its own ingress processes has: a socket in a directory that only
 * this user may enter. What comes on it needs neither TLS nor a certificate.
 */
export class PrivateSocket {
  private constructor(readonly path: string) {
    process.on("exit", this.#onExit);
  }

  /** @throws CairnError INVALID_ARGUMENT when the directory for temporary files cannot hold it */
  static async create(): Promise<PrivateSocket> {
    // On Windows a pipe has a name of its own kind, and is written by its owner alone.
    if (process.platform === "win32") return new PrivateSocket(`\\\\.\\pipe\\cairn-${randomUUID()}`);
    try {
      // mkdtemp lets only its owner in.
      const path = join(await mkdtemp(join(tmpdir(), "cairn-")), "node");
      if (Buffer.byteLength(path) <= PATH_BYTES) return new PrivateSocket(path);
      await rm(dirname(path), { recursive: true, force: true });
      throw new Error(`the path ${path} is longer than ${PATH_BYTES} bytes`);
    } catch (cause) {
      const text = `the ingress processes need a socket in the directory for temporary files: ${(cause as Error).message}`;
      throw new CairnError("INVALID_ARGUMENT", `${text}. Set TMPDIR to another directory.`, { cause });
    }
  }

  /** The address of the node for the ingress processes. */
  get address(): string {
    return `unix:${this.path}`;
  }

  async remove(): Promise<void> {
    process.off("exit", this.#onExit);
    if (process.platform !== "win32") await rm(dirname(this.path), { recursive: true, force: true });
  }

  readonly #onExit = () => {
    if (process.platform !== "win32") rmSync(dirname(this.path), { recursive: true, force: true });
  };
}
