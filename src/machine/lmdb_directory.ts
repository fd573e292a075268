import { readFile } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { assert } from "../core/invariants.js";
import { hasCode, isShortage } from "../errors.js";
import { type FileSystem, overwriteSmallFile, readSmallFile, writeSmallFile } from "../storage/fs.js";
import { dataBytes, syncData } from "./lmdb_files.js";

// What is in the directory of the state:
//
//   CURRENT     which view is in force, and how far it can be trusted; replaced as a whole, durably:
//                   cairn-state 1
//                   <name of the view>
//                   clean <bytes of its data file> | boot <boot id> | unknown-boot
//                   <CRC32 of the lines above, 8 hexadecimal digits>
//   view-<n>    an LMDB environment. Those that CURRENT does not name are leftovers of a restore, and removed.
//
// Commits are not synced. After a crash of the process alone the kernel still has every page, so the view is good as long as the
// kernel is the one that had it: same boot id. After a clean close all pages were synced before CURRENT says "clean". In every other
// case pages may be missing, and the view must not be looked at.

const POINTER_FILE = "CURRENT";
const POINTER_FORMAT = "cairn-state 1";
const VIEW_NAME = /^view-[0-9]+$/;

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
  /** Names that are taken: in force, being filled, or still being removed. */
  readonly #names = new Set<string>();
  /** What CURRENT says, where that is known. */
  #pointer: Pointer | undefined;

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
    const file = `${this.path}/${POINTER_FILE}`;
    if (!(await this.fs.exists(file))) return { reason: "there is no state yet" };
    this.#pointer = parsePointer(await readSmallFile(this.fs, file));
    if (this.#pointer === undefined) return { reason: `${file} is damaged` };
    const { name, mark } = this.#pointer;
    if (mark.startsWith("clean ")) {
      const bytes = await dataBytes(this.fs, this.pathOf(name));
      if (mark === `clean ${bytes}`) return { name };
      return { reason: `the data file of ${this.pathOf(name)} has ${bytes} bytes now, and was left "${mark}"` };
    }
    if (this.bootId !== undefined && mark === this.#bootMark()) return { name };
    return { reason: "the computer was started anew without a clean stop before, so written pages may be lost" };
  }

  /** Puts a view in force, its pages not synced. Durable on return; comes before the view's first commit as the one in force. */
  async pointTo(name: string): Promise<void> {
    await this.#writePointer({ name, mark: this.#bootMark() });
  }

  /**
   * Syncs the pages of a view and marks it clean. Nobody may have it open. Throws CairnError STORAGE_FAILED when the pages cannot be
   * synced; the view is then no longer trusted.
   */
  async markClean(name: string): Promise<void> {
    const bytes = await this.#sync(name);
    await this.#writePointer({ name, mark: `clean ${bytes}` });
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

  async #sync(name: string): Promise<number> {
    try {
      return await syncData(this.fs, this.pathOf(name));
    } catch (error) {
      // Pages that failed to reach the disk may be gone from the kernel's memory too. When the file could not even be opened, none has.
      if (!isShortage(error)) await this.fs.unlink(`${this.path}/${POINTER_FILE}`);
      throw error;
    }
  }

  /** On a full disk in place: half of it fails its CRC, and means a state that is not trusted. */
  async #writeFile(bytes: Buffer): Promise<void> {
    try {
      await writeSmallFile(this.fs, this.path, POINTER_FILE, bytes);
    } catch (error) {
      const file = `${this.path}/${POINTER_FILE}`;
      if (!hasCode(error, "DISK_FULL") || !(await this.fs.exists(file))) throw error;
      await overwriteSmallFile(this.fs, file, bytes);
    }
  }

  #bootMark(): string {
    return this.bootId === undefined ? "unknown-boot" : `boot ${this.bootId}`;
  }

  async #writePointer(pointer: Pointer): Promise<void> {
    assert(VIEW_NAME.test(pointer.name), "a view has a view's name", { name: pointer.name });
    if (this.#pointer?.name === pointer.name && this.#pointer.mark === pointer.mark) return;
    this.#pointer = undefined;
    await this.#writeFile(Buffer.from(formatPointer(pointer)));
    this.#pointer = pointer;
  }
}

interface Pointer {
  /** Of the view in force. */
  readonly name: string;
  /** How far it can be trusted. */
  readonly mark: string;
}

function formatPointer({ name, mark }: Pointer): string {
  const lines = `${POINTER_FORMAT}\n${name}\n${mark}\n`;
  return `${lines}${crc32(lines).toString(16).padStart(8, "0")}\n`;
}

function parsePointer(bytes: Buffer): Pointer | undefined {
  const text = bytes.toString("utf8");
  const [, name = "", mark = ""] = text.split("\n");
  return VIEW_NAME.test(name) && text === formatPointer({ name, mark }) ? { name, mark } : undefined;
}
