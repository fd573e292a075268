import * as fs from "node:fs";
import { constants, promises as fsp } from "node:fs";
import { constants as system } from "node:os";
import { dirname } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { CairnError } from "../base/errors.js";
import { DiskPace } from "./disk_pace.js";
import { type Liveness, systemLiveness } from "./liveness.js";

/**
 * The file system as the log, the snapshots and the data directory see it. Cairn writes all its own
 * files through this interface, so that tests can tear writes, lose unsynced data, fill the disk
 * and flip bits. Paths are absolute. New directories and files belong to their user alone:
 * directories have the mode 0700, files 0600.
 *
 * Errors: {@link CairnError} DISK_FULL when there is no room or a quota is used up (the bytes of
 * that write are then unknown); BUSY when the process or the system has too many files open
 * (nothing happened); DATA_DIRECTORY when a file occupies the path of a directory; any other error
 * is the operating system's own.
 */
export interface FileSystem {
  /**
   * Opens a file. `read`: must exist. `update`: must exist, read and write. `create`: must not
   * exist, read and write.
   */
  open(path: string, mode: "read" | "update" | "create"): Promise<File>;
  /** Opens a file that must exist, to read it, on the calling thread. */
  openNow(path: string): File;
  /** Returns the names in a directory, in no order. */
  list(path: string): Promise<string[]>;
  /**
   * Creates a directory and its missing parents, one after the other; does nothing when the
   * directory exists.
   */
  makeDirectory(path: string): Promise<void>;
  /** Renames a file, replacing any file at `to`. Durable only after {@link syncDirectory}. */
  rename(from: string, to: string): Promise<void>;
  /**
   * Creates a symbolic link with the target `text`, which need not be a path: a note that exists as
   * a whole or not at all, and that takes no room on the disk when it has fewer than 60 bytes.
   * Fails with EEXIST when the name is taken.
   */
  symlink(text: string, path: string): Promise<void>;
  /** Returns the text of a symbolic link. Fails with EINVAL for a file. */
  readLink(path: string): Promise<string>;
  /** Removes a file or a symbolic link. Durable only after {@link syncDirectory}. */
  unlink(path: string): Promise<void>;
  /** Whether a file or directory with this name exists. */
  exists(path: string): Promise<boolean>;
  /**
   * Returns when a file was last changed, in milliseconds since 1970. Left out where that is not
   * known.
   */
  changedUnixMs?(path: string): Promise<number>;
  /** Removes a directory and its contents; does nothing when it does not exist. */
  removeAll(path: string): Promise<void>;
  /** Returns the bytes by which files on a directory's file system may still grow, in all. */
  availableBytes(path: string): Promise<number>;
  /**
   * Makes the names in a directory durable. A failure is STORAGE_FAILED: the contents of the disk
   * are no longer known.
   */
  syncDirectory(path: string): Promise<void>;
  /**
   * Tells living users of a directory from dead ones. Left out when only this process can use the
   * file system, as in tests.
   */
  readonly liveness?: Liveness | undefined;
}

/** An open file. */
export interface File {
  /**
   * Reads up to `buffer.byteLength` bytes at `position`; returns the number read, which is smaller
   * only at the end of the file.
   */
  read(buffer: Uint8Array, position: number): Promise<number>;
  /** Reads as {@link read} does, on the calling thread. */
  readNow(buffer: Uint8Array, position: number): number;
  /** Writes all of `parts` in order at `position`. Not durable before {@link datasync}. */
  write(parts: readonly Uint8Array[], position: number): Promise<void>;
  /**
   * Makes the contents and the size durable. A failure is STORAGE_FAILED and must never be retried.
   */
  datasync(): Promise<void>;
  /** Truncates the file to `bytes`, or extends it with zeros. */
  truncate(bytes: number): Promise<void>;
  /**
   * Allows small writes and their {@link datasync} to run on the calling thread while the disk
   * answers far below a millisecond (see {@link DiskPace}). Left out: they never do.
   */
  allowDirect?(): void;
  /** Whether a small write and its {@link datasync} would run on the calling thread now. */
  readonly isDirect?: boolean;
  /** Returns the size in bytes. */
  size(): Promise<number>;
  /** Notes the file's new name, which errors then show. */
  renamed(path: string): void;
  close(): Promise<void>;
  /** Closes the file on the calling thread. */
  closeNow(): void;
}

const read = promisify(fs.read);
const writev = promisify(fs.writev);
const fdatasync = promisify(fs.fdatasync);
const ftruncate = promisify(fs.ftruncate);
const fstat = promisify(fs.fstat);
const fsync = promisify(fs.fsync);
const open = promisify(fs.open);
const close = promisify(fs.close);

/** Modes of new directories and files, which hold the users' data. */
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;

/**
 * Pause between two attempts to open a directory while too many files are open, in milliseconds.
 */
const DESCRIPTOR_PAUSE_MS = 20;

/** Most buffers in one writev on every system that Node runs on. */
const PARTS_PER_WRITE = 1024;

/** Most bytes that are written and synced on the calling thread. */
const DIRECT_BYTES = 256 * 1024;

/** The pace of the disk: of all files that {@link File.allowDirect} is called for. */
const pace = new DiskPace();

class NodeFile implements File {
  #mayBeDirect = false;
  /** Bytes written since the last sync. */
  #unsynced = 0;

  constructor(
    private readonly descriptor: number,
    private path: string,
  ) {}

  allowDirect(): void {
    this.#mayBeDirect = true;
  }

  get isDirect(): boolean {
    return this.#mayBeDirect && pace.isQuick && this.#unsynced <= DIRECT_BYTES;
  }

  renamed(path: string): void {
    this.path = path;
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < buffer.byteLength) {
      const { bytesRead } = await read(this.descriptor, buffer, done, buffer.byteLength - done, position + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  readNow(buffer: Uint8Array, position: number): number {
    let done = 0;
    while (done < buffer.byteLength) {
      const bytes = fs.readSync(this.descriptor, buffer, done, buffer.byteLength - done, position + done);
      if (bytes === 0) break;
      done += bytes;
    }
    return done;
  }

  async write(parts: readonly Uint8Array[], position: number): Promise<void> {
    try {
      let queue = parts.filter((part) => part.byteLength > 0);
      while (queue.length > 0) {
        const bytesWritten = await this.#writeSome(queue, position);
        position += bytesWritten;
        queue = dropBytes(queue, bytesWritten);
      }
    } catch (error) {
      throw fromWriteError(error, `writing ${this.path}`);
    }
  }

  /** Writes as many of these bytes as the system takes at a time; returns their number. */
  #writeSome(parts: readonly Uint8Array[], position: number): number | Promise<number> {
    const some = parts.length <= PARTS_PER_WRITE ? parts : parts.slice(0, PARTS_PER_WRITE);
    for (const part of some) this.#unsynced += part.byteLength;
    if (this.isDirect) return fs.writevSync(this.descriptor, some, position);
    return writev(this.descriptor, some, position).then(({ bytesWritten }) => bytesWritten);
  }

  async datasync(): Promise<void> {
    const isDirect = this.isDirect;
    const startedMs = performance.now();
    try {
      if (isDirect) fs.fdatasyncSync(this.descriptor);
      else await fdatasync(this.descriptor);
      this.#unsynced = 0;
      if (!this.#mayBeDirect) return;
      const ms = performance.now() - startedMs;
      if (isDirect) pace.direct(ms);
      else pace.pooled(ms);
    } catch (error) {
      throw new CairnError("STORAGE_FAILED", `syncing ${this.path} failed: ${String(error)}`, { cause: error });
    }
  }

  async truncate(bytes: number): Promise<void> {
    try {
      await ftruncate(this.descriptor, bytes);
    } catch (error) {
      throw fromWriteError(error, `resizing ${this.path}`);
    }
  }

  async size(): Promise<number> {
    return (await fstat(this.descriptor)).size;
  }

  async close(): Promise<void> {
    await close(this.descriptor);
  }

  closeNow(): void {
    fs.closeSync(this.descriptor);
  }
}

/** The file system of the operating system. */
export const nodeFileSystem: FileSystem = {
  async open(path, mode) {
    const flags =
      mode === "read"
        ? constants.O_RDONLY
        : mode === "update"
          ? constants.O_RDWR
          : constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
    try {
      return new NodeFile(await open(path, flags, FILE_MODE), path);
    } catch (error) {
      throw fromWriteError(error, `opening ${path}`);
    }
  },
  openNow(path) {
    try {
      return new NodeFile(fs.openSync(path, constants.O_RDONLY), path);
    } catch (error) {
      throw fromWriteError(error, `opening ${path}`);
    }
  },
  async list(path) {
    try {
      return await fsp.readdir(path);
    } catch (error) {
      throw hasSystemCode(error, "ENOTDIR") ? fileInTheWay(path) : fromWriteError(error, `listing ${path}`);
    }
  },
  async makeDirectory(path) {
    const missing: string[] = [];
    // Node's own recursive mkdir never ends when the system reports that the parent directory is
    // missing although it exists, as in /proc.
    for (let at = path; !(await isDirectory(at)); at = dirname(at)) missing.push(at);
    for (const directory of missing.toReversed()) await makeOneDirectory(directory);
  },
  async rename(from, to) {
    try {
      await fsp.rename(from, to);
    } catch (error) {
      throw fromWriteError(error, `renaming ${from}`);
    }
  },
  async symlink(text, path) {
    try {
      await fsp.symlink(text, path);
    } catch (error) {
      throw fromWriteError(error, `making ${path}`);
    }
  },
  readLink: (path) => fsp.readlink(path),
  unlink: (path) => fsp.unlink(path),
  exists: (path) =>
    fsp.access(path).then(
      () => true,
      () => false,
    ),
  changedUnixMs: async (path) => (await fsp.stat(path)).mtimeMs,
  removeAll: (path) => fsp.rm(path, { recursive: true, force: true }),
  async availableBytes(path) {
    const { bavail, bsize } = await fsp.statfs(path);
    return bavail * bsize;
  },
  async syncDirectory(path) {
    try {
      const descriptor = await openToSync(path);
      try {
        await fsync(descriptor);
      } finally {
        await close(descriptor);
        setDescriptorAside();
      }
    } catch (error) {
      throw new CairnError("STORAGE_FAILED", `syncing directory ${path} failed: ${String(error)}`, { cause: error });
    }
  },
  liveness: systemLiveness,
};

/**
 * Whether a directory exists at this path; false when nothing does.
 * @throws CairnError DATA_DIRECTORY when something else occupies the path
 */
async function isDirectory(path: string): Promise<boolean> {
  try {
    if ((await fsp.stat(path)).isDirectory()) return true;
  } catch (error) {
    // ENOTDIR: the caller finds the file that is in the way further up.
    if (hasSystemCode(error, "ENOENT") || hasSystemCode(error, "ENOTDIR")) return false;
    throw error;
  }
  throw fileInTheWay(path);
}

async function makeOneDirectory(path: string): Promise<void> {
  try {
    await fsp.mkdir(path, { mode: DIRECTORY_MODE });
  } catch (error) {
    // Another process may have created it first.
    if (hasSystemCode(error, "EEXIST") && (await isDirectory(path))) return;
    throw fromWriteError(error, `making directory ${path}`);
  }
}

function fileInTheWay(path: string): CairnError {
  const text = `${path} is not a directory, and one is needed there: move it away, if it is not Cairn's, or give another directory`;
  return new CairnError("DATA_DIRECTORY", text);
}

/** A spare descriptor, released when no other is free. */
let aside: number | undefined;

function setDescriptorAside(): void {
  try {
    aside ??= fs.openSync("/dev/null", constants.O_RDONLY);
  } catch {
    // No descriptor is free, or the device is missing: then a sync waits for a free descriptor.
  }
}

/**
 * Opens a directory even while too many files are open: a new name that cannot be made durable
 * would leave the caller between two states. If no descriptor is free, this function releases the
 * spare one and opens the directory in one turn of the event loop, so that no other code takes it.
 */
async function openToSync(path: string): Promise<number> {
  for (;;) {
    try {
      return await open(path, constants.O_RDONLY);
    } catch (error) {
      if (!isOutOfDescriptors(error)) throw error;
    }
    if (aside === undefined) {
      await pause(DESCRIPTOR_PAUSE_MS);
      continue;
    }
    fs.closeSync(aside);
    aside = undefined;
    try {
      return fs.openSync(path, constants.O_RDONLY);
    } catch (error) {
      if (!isOutOfDescriptors(error)) throw error;
    }
  }
}

/** Reads a whole small file. */
export async function readSmallFile(fs: FileSystem, path: string): Promise<Buffer> {
  const file = await fs.open(path, "read");
  try {
    const buffer = Buffer.alloc(await file.size());
    const bytes = await file.read(buffer, 0);
    return buffer.subarray(0, bytes);
  } finally {
    await file.close();
  }
}

/**
 * Writes a whole small file: a crash leaves either the old file or the new one. Durable on return.
 */
export async function writeSmallFile(fs: FileSystem, directory: string, name: string, data: Uint8Array): Promise<void> {
  const temporary = `${directory}/${name}.tmp`;
  if (await fs.exists(temporary)) await fs.unlink(temporary);
  const file = await fs.open(temporary, "create");
  try {
    await file.write([data], 0);
    await file.datasync();
  } catch (error) {
    // The temporary file may occupy the last free space. Report the first error.
    await fs.unlink(temporary).catch(() => {});
    throw error;
  } finally {
    await file.close();
  }
  await fs.rename(temporary, `${directory}/${name}`);
  await fs.syncDirectory(directory);
}

/**
 * Overwrites a small file in place, which takes no room on most file systems. A crash may leave a
 * mixture of both contents. Durable on return.
 */
export async function overwriteSmallFile(fs: FileSystem, path: string, data: Uint8Array): Promise<void> {
  const file = await fs.open(path, "update");
  try {
    await file.write([data], 0);
    await file.truncate(data.byteLength);
    await file.datasync();
  } finally {
    await file.close();
  }
}

function dropBytes(parts: Uint8Array[], bytes: number): Uint8Array[] {
  let at = 0;
  while (at < parts.length && bytes >= parts[at]!.byteLength) bytes -= parts[at++]!.byteLength;
  const rest = parts.slice(at);
  if (bytes > 0 && rest.length > 0) rest[0] = rest[0]!.subarray(bytes);
  return rest;
}

/**
 * Converts an error of a write to a CairnError when it reports a lack of space or descriptors;
 * returns any other error unchanged.
 */
export function fromWriteError(error: unknown, doing: string): unknown {
  if (hasSystemCode(error, "ENOSPC")) {
    return new CairnError("DISK_FULL", `${doing}: no space left on the device`, { cause: error });
  }
  if (isOverQuota(error)) return new CairnError("DISK_FULL", `${doing}: the disk quota is used up`, { cause: error });
  if (isOutOfDescriptors(error)) {
    const text = `${doing}: too many open files. Raise the limit of the process (ulimit -n), or of the system`;
    return new CairnError("BUSY", text, { cause: error });
  }
  return error;
}

/** Node has no name for this error: it reports "Unknown system error -122". */
function isOverQuota(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | null)?.errno === -system.errno.EDQUOT || hasSystemCode(error, "EDQUOT");
}

function isOutOfDescriptors(error: unknown): boolean {
  return hasSystemCode(error, "EMFILE") || hasSystemCode(error, "ENFILE");
}

function hasSystemCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException | null)?.code === code;
}
