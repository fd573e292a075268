import { crc32 } from "node:zlib";
import { type FileSystem, readSmallFile, writeSmallFile } from "../../system/fs.js";
import { StateDirectories } from "../state_directories.js";

// The files around the stores of a state:
//
//   STORE        names the store in force, and says whether it was found damaged
//   store-<n>/   a store. Restoring a snapshot fills another one; the old one goes once nothing
//                reads it
//
// STORE has four lines: "cairn-store 1", the name, "sound" or "damaged" and the reason, and the CRC
// of those before in hexadecimal digits.

const POINTER_FILE = "STORE";
const POINTER_FORMAT = "cairn-store 1";
const STORE_KIND = "store";
const SOUND = "sound";
const DAMAGED = "damaged ";
const REASON_CHARACTERS = 500;

/** Names of the files that a machine on LMDB keeps in the same place. */
const LMDB_NAME = /^(CURRENT(\.tmp)?|view-[0-9]+)$/;

/** The store in force, or the reason why there is none to be used. */
export type CurrentStore = { readonly name: string } | { readonly name: undefined; readonly reason: string };

/** Manages the stores of a state. */
export class StoreDirectory {
  private constructor(
    private readonly fs: FileSystem,
    readonly path: string,
    private readonly stores: StateDirectories,
  ) {}

  static async open(fs: FileSystem, path: string): Promise<StoreDirectory> {
    return new StoreDirectory(fs, path, await StateDirectories.open(fs, path, STORE_KIND));
  }

  pathOf(name: string): string {
    return this.stores.pathOf(name);
  }

  async current(): Promise<CurrentStore> {
    const file = `${this.path}/${POINTER_FILE}`;
    if (!(await this.fs.exists(file))) {
      const isLmdb = (await this.fs.list(this.path)).some((name) => LMDB_NAME.test(name));
      const reason = isLmdb
        ? "the state was kept in LMDB before, and is now to be in a store"
        : "there is no state yet";
      return { name: undefined, reason };
    }
    const [format, name = "", mark = "", crc] = (await readSmallFile(this.fs, file)).toString("utf8").split("\n");
    const isWhole = crc === crcOf(name, mark) && format === POINTER_FORMAT && this.stores.isName(name);
    if (!isWhole) return { name: undefined, reason: `${file} is damaged` };
    if (mark.startsWith(DAMAGED)) {
      return { name: undefined, reason: `it was found damaged before: ${mark.slice(DAMAGED.length)}` };
    }
    if (!this.stores.has(name)) return { name: undefined, reason: `${this.pathOf(name)} is missing` };
    return { name };
  }

  /** Reserves the name of a store that does not exist. */
  reserve(): string {
    return this.stores.reserve();
  }

  /** Puts a store in force. Durable on return. */
  pointTo(name: string): Promise<void> {
    return this.stores.inTurn(async () => {
      await this.fs.syncDirectory(this.path);
      await this.#write(name, SOUND);
    });
  }

  /** Prevents all later openings of a store. Does as much as the disk allows. */
  distrust(name: string, reason: string): Promise<void> {
    const mark = `${DAMAGED}${reason.replaceAll(/\s+/g, " ").slice(0, REASON_CHARACTERS)}`;
    return this.stores.inTurn(() =>
      this.#write(name, mark).catch(() => this.fs.unlink(`${this.path}/${POINTER_FILE}`).catch(() => undefined)),
    );
  }

  /** Removes a store that nobody has open. */
  remove(name: string): Promise<void> {
    return this.stores.remove(name);
  }

  /** Removes all stores but one, and the state that LMDB has left. */
  removeOthers(name: string): Promise<void> {
    return this.stores.removeOthers(name, LMDB_NAME);
  }

  /** Waits until no change of the pointer is under way. */
  settled(): Promise<void> {
    return this.stores.settled();
  }

  #write(name: string, mark: string): Promise<void> {
    const text = `${POINTER_FORMAT}\n${name}\n${mark}\n${crcOf(name, mark)}\n`;
    return writeSmallFile(this.fs, this.path, POINTER_FILE, Buffer.from(text));
  }
}

function crcOf(name: string, mark: string): string {
  return crc32(`${POINTER_FORMAT}\n${name}\n${mark}\n`).toString(16).padStart(8, "0");
}
