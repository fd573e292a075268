import * as fs from "node:fs";
import { constants, promises as fsp } from "node:fs";
import { constants as system } from "node:os";
import { dirname } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";
import { CairnError } from "../base/errors.js";
import { type Liveness, systemLiveness } from "./liveness.js";

/**
 * The file system as the log, the snapshots and the data directory see it. Everything that Cairn
 * itself writes goes through this interface, so that tests can tear writes, lose what was not
 * synced, fill the disk and flip bits. Paths are absolute. What it makes is for its user alone:
 * directories have the mode 0700, files 0600.
 *
 * Errors: {@link CairnError} DISK_FULL when there is no room, or a quota is used up (nothing is
 * known about the bytes of that write); BUSY when the process or the system has too many files open
 * (nothing happened); DATA_DIRECTORY when a file stands where a directory is wanted; any other
 * error is the operating system's own.
 */
export interface FileSystem {
  /**
   * Opens a file. `read`: must exist. `update`: must exist, read and write. `create`: must not
   * exist, read and write.
   */
  open(path: string, mode: "read" | "update" | "create"): Promise<File>;
  /** Names in a directory, in no order. */
  list(path: string): Promise<string[]>;
  /**
   * Makes a directory, and those above it that are missing, one after the other; does nothing when
   * it is there.
   */
  makeDirectory(path: string): Promise<void>;
  /** Renames a file, replacing what is at `to`. Durable only after {@link syncDirectory}. */
  rename(from: string, to: string): Promise<void>;
  /**
   * Makes a symbolic link that says `text`, which need not be a path: a note that is there as a
   * whole or not at all, and that takes no room on the disk when it has fewer than 60 bytes. Fails
   * with EEXIST when the name is taken.
   */
  symlink(text: string, path: string): Promise<void>;
  /** The text of a symbolic link. Fails with EINVAL for a file. */
  readLink(path: string): Promise<string>;
  /** Removes a file or a symbolic link. Durable only after {@link syncDirectory}. */
  unlink(path: string): Promise<void>;
  /** Whether there is a file or directory with this name. */
  exists(path: string): Promise<boolean>;
  /** Removes a directory with all it holds, or does nothing when it is not there. */
  removeAll(path: string): Promise<void>;
  /** Bytes that files on the file system of a directory may still grow by, in all. */
  availableBytes(path: string): Promise<number>;
  /**
   * Makes the names in a directory durable. A failure is STORAGE_FAILED: what is on disk is no
   * longer known.
   */
  syncDirectory(path: string): Promise<void>;
  /**
   * Tells living processes that use it from dead ones; left out where this process alone can use
   * it, as in tests.
   */
  readonly liveness?: Liveness | undefined;
}

/** An open file. */
export interface File {
  /**
   * Reads up to `buffer.byteLength` bytes at `position`; returns how many: fewer only at the end of
   * the file.
   */
  read(buffer: Uint8Array, position: number): Promise<number>;
  /**
   * Writes all of `parts`, one after the other, at `position`. Not durable before {@link datasync}.
   */
  write(parts: readonly Uint8Array[], position: number): Promise<void>;
  /**
   * Makes the contents and the size durable. A failure is STORAGE_FAILED and must never be retried.
   */
  datasync(): Promise<void>;
  /** Cuts the file, or extends it with zeros. */
  truncate(bytes: number): Promise<void>;
  /** Size in bytes. */
  size(): Promise<number>;
  /** The file has got another name: errors tell that one. */
  renamed(path: string): void;
  close(): Promise<void>;
}

const read = promisify(fs.read);
const writev = promisify(fs.writev);
const fdatasync = promisify(fs.fdatasync);
const ftruncate = promisify(fs.ftruncate);
const fstat = promisify(fs.fstat);
const fsync = promisify(fs.fsync);
const open = promisify(fs.open);
const close = promisify(fs.close);

/** For what Cairn makes: it holds its users' data. */
const DIRECTORY_MODE = 0o700;
const FILE_MODE = 0o600;

/** Between two attempts to open a directory while too many files are open. */
const DESCRIPTOR_PAUSE_MS = 20;

/** Most buffers that one writev takes on any system that Node runs on. */
const PARTS_PER_WRITE = 1024;

class NodeFile implements File {
  constructor(
    private readonly descriptor: number,
    private path: string,
  ) {}

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

  async write(parts: readonly Uint8Array[], position: number): Promise<void> {
    try {
      let queue = parts.filter((part) => part.byteLength > 0);
      while (queue.length > 0) {
        const { bytesWritten } = await writev(this.descriptor, queue.slice(0, PARTS_PER_WRITE), position);
        position += bytesWritten;
        queue = dropBytes(queue, bytesWritten);
      }
    } catch (error) {
      throw fromWriteError(error, `writing ${this.path}`);
    }
  }

  async datasync(): Promise<void> {
    try {
      await fdatasync(this.descriptor);
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
}

/** The operating system's files. */
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
  async list(path) {
    try {
      return await fsp.readdir(path);
    } catch (error) {
      throw hasSystemCode(error, "ENOTDIR") ? fileInTheWay(path) : fromWriteError(error, `listing ${path}`);
    }
  },
  async makeDirectory(path) {
    const missing: string[] = [];
    // Node's own recursive mkdir never ends where the system says that the directory above is
    // missing although it is there, as in /proc.
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

/** False when nothing is there. @throws CairnError DATA_DIRECTORY when it is something else */
async function isDirectory(path: string): Promise<boolean> {
  try {
    if ((await fsp.stat(path)).isDirectory()) return true;
  } catch (error) {
    // ENOTDIR: what is in the way shows further up.
    if (hasSystemCode(error, "ENOENT") || hasSystemCode(error, "ENOTDIR")) return false;
    throw error;
  }
  throw fileInTheWay(path);
}

async function makeOneDirectory(path: string): Promise<void> {
  try {
    await fsp.mkdir(path, { mode: DIRECTORY_MODE });
  } catch (error) {
    // Another process may have been quicker.
    if (hasSystemCode(error, "EEXIST") && (await isDirectory(path))) return;
    throw fromWriteError(error, `making directory ${path}`);
  }
}

function fileInTheWay(path: string): CairnError {
  const text = `${path} is not a directory, and one is needed there: move it away, if it is not Cairn's, or give another directory`;
  return new CairnError("DATA_DIRECTORY", text);
}

/** A descriptor that nothing needs, to be given up when there is no other. */
let aside: number | undefined;

function setDescriptorAside(): void {
  try {
    aside ??= fs.openSync("/dev/null", constants.O_RDONLY);
  } catch {
    // There is none left, or no such device: then a sync waits until there is one.
  }
}

/**
 * Opens a directory, however many files are open: a name that was given and cannot be made durable
 * would leave the caller between two states. Where there is no descriptor, the one set aside is
 * given up for it, in one turn of the event loop, so that nobody else takes it.
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
 * Writes a whole small file so that after a crash there is the old one or the new one. Durable on
 * return.
 */
export async function writeSmallFile(fs: FileSystem, directory: string, name: string, data: Uint8Array): Promise<void> {
  const temporary = `${directory}/${name}.tmp`;
  if (await fs.exists(temporary)) await fs.unlink(temporary);
  const file = await fs.open(temporary, "create");
  try {
    await file.write([data], 0);
    await file.datasync();
  } catch (error) {
    // It may hold what little room there is. The error that ended it is the one to report.
    await fs.unlink(temporary).catch(() => {});
    throw error;
  } finally {
    await file.close();
  }
  await fs.rename(temporary, `${directory}/${name}`);
  await fs.syncDirectory(directory);
}

/**
 * Writes a whole small file over the one that is there, which takes no room on most file systems.
 * After a crash there may be a mixture of both. Durable on return.
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

/** An error that Cairn knows what to do about. */
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
