import { readFile } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { assert } from "../../base/assert.js";
import { hasCode, isShortage } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { type FileSystem, overwriteSmallFile, readSmallFile, writeSmallFile } from "../../system/fs.js";
import { StateDirectories } from "../state_directories.js";
import { dataBytes, syncData } from "./files.js";

// Keeps the files around the LMDB environments of a state. Its directory holds:
//
//   CURRENT   the view in force, and how far it can be trusted; replaced as a whole, durably:
//                 cairn-state 2
//                 <name of the view>
//                 clean <bytes of its data file> | boot <boot id> | unknown-boot | damaged <why>
//                 openings <count>
//                 <CRC32 of the lines above, 8 hexadecimal digits>
//   view-<n>  an LMDB environment. One that CURRENT does not name is left from a restore, and is
//             removed.
//
// Commits are not synced. After a crash of the process alone the kernel still has every page, so
// the view is good under the same kernel, which the boot id shows. At a clean close all pages are
// synced before CURRENT says "clean". In every other case pages may be missing, and nothing may
// read the view.
//
// Damage is remembered (T7): a view that was found damaged stays marked, whatever else speaks for
// it. LMDB may also end the whole process when it meets a damaged page. So the openings of a view
// are counted until one has lasted for a while, or has ended with a clean close; after
// limits.stateOpenings that did neither, the view is not opened again.
//
// Format 1 had no openings, and its views had no checksums; it is not read.

const POINTER_FILE = "CURRENT";
const POINTER_FORMAT = "cairn-state 2";
const POINTER_FORMATS_BEFORE = /^cairn-state 1\n/;
const VIEW_KIND = "view";
/** Names of what a machine on a store keeps in the same place; see machine/store/directory.ts. */
const STORE_STATE_NAME = /^(STORE(\.tmp)?|store-[0-9]+)$/;

/** Returns the id of the running kernel, new at each boot; undefined on a system without one. */
export type BootId = () => Promise<string | undefined>;

export const linuxBootId: BootId = async () => {
  try {
    return (await readFile("/proc/sys/kernel/random/boot_id", "ascii")).trim();
  } catch {
    return undefined;
  }
};

/** The view that CURRENT names, or the reason why it cannot be trusted. */
export type TrustedView = { readonly name: string; readonly reason?: undefined } | { readonly reason: string };

/** Manages the files around the LMDB environments of a state. */
export class LmdbDirectory {
  /** Contents of CURRENT; undefined when they are not known. */
  #pointer: Pointer | undefined;

  private constructor(
    private readonly fs: FileSystem,
    readonly path: string,
    private readonly bootId: string | undefined,
    private readonly views: StateDirectories,
  ) {}

  static async open(fs: FileSystem, path: string, bootId: BootId): Promise<LmdbDirectory> {
    const views = await StateDirectories.open(fs, path, VIEW_KIND);
    return new LmdbDirectory(fs, path, await bootId(), views);
  }

  pathOf(name: string): string {
    return this.views.pathOf(name);
  }

  /** Returns the view in force, or the reason why its pages cannot be trusted. */
  async trusted(): Promise<TrustedView> {
    const file = `${this.path}/${POINTER_FILE}`;
    if (!(await this.fs.exists(file))) return { reason: "there is no state yet" };
    const bytes = await readSmallFile(this.fs, file);
    this.#pointer = this.#parsePointer(bytes);
    if (this.#pointer === undefined) {
      const isOld = POINTER_FORMATS_BEFORE.test(bytes.toString("latin1"));
      return { reason: isOld ? "it was written by an older version, without checksums" : `${file} is damaged` };
    }
    const { name, mark, openings } = this.#pointer;
    if (mark.startsWith(DAMAGED)) return { reason: `it was found damaged before: ${mark.slice(DAMAGED.length)}` };
    if (openings >= limits.stateOpenings) {
      return { reason: `the process ended ${openings} times soon after it had opened ${this.pathOf(name)}` };
    }
    if (mark.startsWith("clean ")) {
      const bytes = await dataBytes(this.fs, this.pathOf(name));
      if (mark === `clean ${bytes}`) return { name };
      return { reason: `the data file of ${this.pathOf(name)} has ${bytes} bytes now, and was left "${mark}"` };
    }
    if (this.bootId !== undefined && mark === this.#bootMark()) return { name };
    return { reason: "the host was rebooted without a clean stop, so written pages may be lost" };
  }

  /**
   * Counts an opening of the trusted view, and lets commits change the view. Durable on return.
   * Call it before LMDB looks at the view.
   */
  async beginOpening(name: string): Promise<void> {
    const pointer = this.#pointer;
    assert(pointer?.name === name, "the trusted view is opened", { name });
    const mark = this.#bootMark();
    try {
      await this.views.inTurn(() => this.#writePointer({ name, mark, openings: pointer.openings + 1 }));
    } catch (error) {
      // The present mark allows commits too, and a full disk must not prevent the start.
      if (!hasCode(error, "DISK_FULL") || mark !== pointer.mark) throw error;
      this.#pointer = pointer;
    }
  }

  /**
   * Puts a new view in force, with its pages not synced and its first opening counted. Durable on
   * return. Call it before the view's first commit as the one in force.
   */
  pointTo(name: string): Promise<void> {
    return this.views.inTurn(() => this.#writePointer({ name, mark: this.#bootMark(), openings: 1 }));
  }

  /**
   * Resets the count of openings: the present opening of the view has lasted. Does nothing when the
   * disk does not take that.
   */
  async endOpening(name: string): Promise<void> {
    await this.views.inTurn(async () => {
      const pointer = this.#pointer;
      if (pointer?.name !== name || pointer.mark.startsWith(DAMAGED)) return;
      await this.#writePointer({ ...pointer, openings: 0 }).catch(() => {
        this.#pointer = pointer;
      });
    });
  }

  /**
   * Prevents all later openings of the view, if it is still in force. Does as much as the disk
   * allows: the next opening has its own checks for damage.
   */
  async distrust(name: string, reason: string): Promise<void> {
    await this.views.inTurn(async () => {
      if (this.#pointer !== undefined && this.#pointer.name !== name) return;
      const mark = `${DAMAGED}${reason.replaceAll(/\s+/g, " ").slice(0, REASON_CHARACTERS)}`;
      await this.#writePointer({ name, mark, openings: 0 }).catch(() =>
        this.fs.unlink(`${this.path}/${POINTER_FILE}`).catch(() => undefined),
      );
    });
  }

  /**
   * Syncs the pages of a view and marks it clean. Nobody may have it open. Throws CairnError
   * STORAGE_FAILED when the pages cannot be synced; the view is then no longer trusted.
   */
  async markClean(name: string): Promise<void> {
    await this.views.inTurn(async () => {
      const bytes = await this.#sync(name);
      await this.#writePointer({ name, mark: `clean ${bytes}`, openings: 0 });
    });
  }

  /** Waits until no change of CURRENT is under way. */
  settled(): Promise<void> {
    return this.views.settled();
  }

  /**
   * Reserves an unused name for a new view. Reuses old names, since LMDB's binding never forgets a
   * name.
   */
  reserve(): string {
    return this.views.reserve();
  }

  /** Removes a view that nobody has open. */
  remove(name: string): Promise<void> {
    return this.views.remove(name);
  }

  /** Removes all views but one, and the state that a store has left. */
  removeOthers(name: string): Promise<void> {
    return this.views.removeOthers(name, STORE_STATE_NAME);
  }

  async #sync(name: string): Promise<number> {
    try {
      return await syncData(this.fs, this.pathOf(name));
    } catch (error) {
      // Pages that failed to reach the disk may be gone from the kernel's memory too. When the file
      // could not even be opened, no page is lost.
      if (!isShortage(error)) await this.fs.unlink(`${this.path}/${POINTER_FILE}`);
      throw error;
    }
  }

  /**
   * Writes CURRENT. On a full disk it writes in place: a file that is half written fails its CRC,
   * and the state is not trusted.
   */
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

  #parsePointer(bytes: Buffer): Pointer | undefined {
    const text = bytes.toString("utf8");
    const [, name = "", mark = "", count = ""] = text.split("\n");
    const pointer = { name, mark, openings: Number(count.slice("openings ".length)) };
    return this.views.isName(name) && text === formatPointer(pointer) ? pointer : undefined;
  }

  async #writePointer(pointer: Pointer): Promise<void> {
    assert(this.views.isName(pointer.name), "a view has a view's name", { name: pointer.name });
    if (this.#pointer !== undefined && formatPointer(this.#pointer) === formatPointer(pointer)) return;
    this.#pointer = undefined;
    await this.#writeFile(Buffer.from(formatPointer(pointer)));
    this.#pointer = pointer;
  }
}

interface Pointer {
  /** Name of the view in force. */
  readonly name: string;
  /** Says how far the view can be trusted; see the table above for its forms. */
  readonly mark: string;
  /** Openings of the view that neither lasted nor ended with a clean close. */
  readonly openings: number;
}

const DAMAGED = "damaged ";
/** Longest reason for damage that CURRENT holds. */
const REASON_CHARACTERS = 500;

function formatPointer({ name, mark, openings }: Pointer): string {
  const lines = `${POINTER_FORMAT}\n${name}\n${mark}\nopenings ${openings}\n`;
  return `${lines}${crc32(lines).toString(16).padStart(8, "0")}\n`;
}
