import { readFile } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { assert } from "../core/invariants.js";
import { CairnError } from "../errors.js";
import { type FileSystem, readSmallFile, writeSmallFile } from "../storage/fs.js";
import { DATA_FILE } from "./lmdb_environment.js";

// What is in the directory of the state:
//
//   CURRENT     which view is in force, and how far it can be trusted; replaced as a whole, durably:
//                   cairn-state 1
//                   <name of the view>
//                   clean | boot <boot id> | unknown-boot
//                   <CRC32 of the lines above, 8 hexadecimal digits>
//   view-<n>    an LMDB environment. Those that CURRENT does not name are leftovers of a restore, and removed.
//
// Commits are not synced. After a crash of the process alone the kernel still has every page, so the view is good as long as the
// kernel is the one that had it: same boot id. After a clean close all pages were synced before CURRENT says "clean". In every other
// case pages may be missing, and the view must not be looked at.

const POINTER_FILE = "CURRENT";
const POINTER_FORMAT = "cairn-state 1";
const VIEW_NAME = /^view-[0-9]+$/;
const CLEAN = "clean";

/** Id of the running kernel, new at each boot; undefined where there is none to be had. */
export type BootId = () => Promise<string | undefined>;

export const linuxBootId: BootId = async () => {
  try {
    return (await readFile("/proc/sys/kernel/random/boot_id", "ascii")).trim();
  } catch {
    return undefined;
  }
};

/** The view that CURRENT names, or why it cannot be trusted. */
export type TrustedView = { readonly name: string; readonly reason?: undefined } | { readonly reason: string };

/** The files around the LMDB environments of a state. */
export class LmdbDirectory {
  /** Names that are taken, in force or still being removed. */
  readonly #names = new Set<string>();

  private constructor(
    private readonly fs: FileSystem,
    readonly path: string,
    private readonly bootId: string | undefined,
  ) {}

  static async open(fs: FileSystem, path: string, bootId: BootId): Promise<LmdbDirectory> {
    await fs.makeDirectory(path);
    const directory = new LmdbDirectory(fs, path, await bootId());
    for (const name of await fs.list(path)) if (VIEW_NAME.test(name)) directory.#names.add(name);
    return directory;
  }

  pathOf(name: string): string {
    return `${this.path}/${name}`;
  }

  /** The view in force, if its pages can be trusted. */
  async trusted(): Promise<TrustedView> {
    if (!(await this.fs.exists(`${this.path}/${POINTER_FILE}`))) return { reason: "there is no state yet" };
    const pointer = parsePointer(await readSmallFile(this.fs, `${this.path}/${POINTER_FILE}`));
    if (pointer === undefined) return { reason: `${this.path}/${POINTER_FILE} is damaged` };
    const { name, mark } = pointer;
    if (mark !== CLEAN && (this.bootId === undefined || mark !== `boot ${this.bootId}`)) {
      return { reason: "the machine was started anew without a clean stop before, so written pages may be lost" };
    }
    if (!(await this.fs.exists(`${this.pathOf(name)}/${DATA_FILE}`)))
      return { reason: `${this.pathOf(name)} is missing` };
    return { name };
  }

  /** Puts a view in force, its pages not synced. Durable on return; comes before the view's first commit as the one in force. */
  async pointTo(name: string): Promise<void> {
    await this.#writePointer(name, this.bootId === undefined ? "unknown-boot" : `boot ${this.bootId}`);
  }

  /**
   * Syncs the pages of a view and marks it clean. Nobody may have it open. Throws CairnError STORAGE_FAILED when the pages cannot be
   * synced; the view is then no longer trusted.
   */
  async markClean(name: string): Promise<void> {
    try {
      await this.#syncView(name);
    } catch (error) {
      // Pages that failed to reach the disk may be gone from the kernel's memory too.
      await this.fs.unlink(`${this.path}/${POINTER_FILE}`);
      throw error;
    }
    await this.#writePointer(name, CLEAN);
  }

  /** A name that nothing has, for a new view. Names are used again, since LMDB's binding never forgets one. */
  reserve(): string {
    let n = 1;
    while (this.#names.has(`view-${n}`)) n++;
    this.#names.add(`view-${n}`);
    return `view-${n}`;
  }

  /** Removes a view that nobody has open. */
  async remove(name: string): Promise<void> {
    await this.fs.removeAll(this.pathOf(name));
    this.#names.delete(name);
  }

  /** Removes all views but one. */
  async removeOthers(name: string): Promise<void> {
    for (const other of [...this.#names]) if (other !== name) await this.remove(other);
  }

  async #syncView(name: string): Promise<void> {
    const file = await this.fs.open(`${this.pathOf(name)}/${DATA_FILE}`, "update");
    try {
      await file.datasync();
    } finally {
      await file.close();
    }
    await this.fs.syncDirectory(this.pathOf(name));
  }

  async #writePointer(name: string, mark: string): Promise<void> {
    assert(VIEW_NAME.test(name), "a view has a view's name", { name });
    const lines = `${POINTER_FORMAT}\n${name}\n${mark}\n`;
    await writeSmallFile(this.fs, this.path, POINTER_FILE, Buffer.from(`${lines}${checksum(lines)}\n`));
  }
}

function parsePointer(bytes: Buffer): { name: string; mark: string } | undefined {
  const text = bytes.toString("utf8");
  const [format, name, mark] = text.split("\n");
  const lines = `${format}\n${name}\n${mark}\n`;
  if (text !== `${lines}${checksum(lines)}\n`) return undefined;
  if (format !== POINTER_FORMAT || name === undefined || mark === undefined || !VIEW_NAME.test(name)) return undefined;
  return { name, mark };
}

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(8, "0");
}

/** Whether a failure leaves nothing behind that matters: the disk was full, so a file is as it was before. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof CairnError && error.code === "DISK_FULL";
}
