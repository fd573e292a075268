import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { File, FileSystem } from "../../system/fs.js";

/** File of an environment that holds all of its data. */
const DATA_FILE = "data.mdb";
/** File through which the users of an environment meet; useless once the last one has closed it. */
const LOCK_FILE = "lock.mdb";

// Prepares the files of an environment for LMDB's binding, which ends the whole process in three
// cases: when the lock file has no room on the disk (it is a memory map), when a new data file has
// no room for its first pages, and when a file is no data file.

/**
 * Read transactions that an environment has room for: all that are allowed, and the one that single
 * reads share.
 */
export const LMDB_READERS = limits.stateReaders + 8;

/** A slot for each reader, and some for the header in front of them. */
const LOCK_FILE_BYTES = (LMDB_READERS + 64) * 64;
/** More bytes than an environment without keys takes. */
const NEW_DATA_BYTES = 128 * 1024;

const META_PAGE_HEAD_BYTES = 64;
const META_MAGIC = Buffer.from("dec0efbe", "hex");
const META_VERSION = 2;

/**
 * Makes the directory of a new environment, with room for its files. Throws CairnError DISK_FULL.
 */
export async function prepareNew(fs: FileSystem, path: string): Promise<void> {
  await fs.makeDirectory(path);
  await prepareLockFile(fs, path);
  await withFile(fs, `${path}/${DATA_FILE}`, "create", async (file) => {
    // The write shows that there is room. The truncation frees it for LMDB, which takes an empty
    // file for a new one.
    await file.write([Buffer.alloc(NEW_DATA_BYTES)], 0);
    await file.truncate(0);
  });
}

export function dataFileOf(path: string): string {
  return `${path}/${DATA_FILE}`;
}

/**
 * Prepares an existing environment for its opening. Throws CairnError CORRUPT when the files cannot
 * be one, or DISK_FULL.
 */
export async function prepareExisting(fs: FileSystem, path: string): Promise<void> {
  const file = `${path}/${DATA_FILE}`;
  if (!(await fs.exists(file))) throw new CairnError("CORRUPT", `${file} is missing`);
  const head = Buffer.alloc(META_PAGE_HEAD_BYTES);
  await withFile(fs, file, "read", (data) => data.read(head, 0));
  const magicAt = head.indexOf(META_MAGIC);
  const versionAt = magicAt + META_MAGIC.byteLength;
  if (magicAt < 0 || versionAt + 2 > head.byteLength || head.readUInt16LE(versionAt) !== META_VERSION) {
    throw new CairnError("CORRUPT", `${file} is no LMDB data file of format ${META_VERSION}`);
  }
  await prepareLockFile(fs, path);
}

/** Syncs the pages of an environment that nobody has open; returns the size of its data file. */
export async function syncData(fs: FileSystem, path: string): Promise<number> {
  const bytes = await withFile(fs, `${path}/${DATA_FILE}`, "update", async (file) => {
    await file.datasync();
    return file.size();
  });
  await fs.syncDirectory(path);
  return bytes;
}

/** Returns the size of an environment's data file; 0 when the file is missing. */
export async function dataBytes(fs: FileSystem, path: string): Promise<number> {
  const file = `${path}/${DATA_FILE}`;
  return (await fs.exists(file)) ? withFile(fs, file, "read", (data) => data.size()) : 0;
}

async function prepareLockFile(fs: FileSystem, path: string): Promise<void> {
  const file = `${path}/${LOCK_FILE}`;
  if (await fs.exists(file)) {
    if ((await withFile(fs, file, "read", (lock) => lock.size())) >= LOCK_FILE_BYTES) return;
    await fs.unlink(file);
  }
  await withFile(fs, file, "create", (lock) => lock.write([Buffer.alloc(LOCK_FILE_BYTES)], 0));
}

async function withFile<T>(
  fs: FileSystem,
  path: string,
  mode: "read" | "update" | "create",
  action: (file: File) => Promise<T>,
): Promise<T> {
  const file = await fs.open(path, mode);
  try {
    return await action(file);
  } finally {
    await file.close();
  }
}
