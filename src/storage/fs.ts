import * as fs from "node:fs";
import { constants, promises as fsp } from "node:fs";
import { promisify } from "node:util";
import { CairnError } from "../errors.js";

/**
 * The file system as the log, the snapshots and the data directory see it. Everything that Cairn itself writes goes through this
 * interface, so that tests can tear writes, lose what was not synced, fill the disk and flip bits. Paths are absolute.
 *
 * Errors: {@link CairnError} DISK_FULL when there is no room (nothing is known about the bytes of that write); any other error is
 * the operating system's own.
 */
export interface FileSystem {
  /**
   * Opens a file. `read`: must exist. `update`: must exist, read and write. `create`: must not exist, read and write.
   */
  open(path: string, mode: "read" | "update" | "create"): Promise<File>;
  /** Names in a directory, in no order. */
  list(path: string): Promise<string[]>;
  /** Makes a directory and those above it; does nothing when it is there. */
  makeDirectory(path: string): Promise<void>;
  /** Renames a file, replacing what is at `to`. Durable only after {@link syncDirectory}. */
  rename(from: string, to: string): Promise<void>;
  /** Gives a file a second name; fails with EEXIST when that name is taken. */
  link(from: string, to: string): Promise<void>;
  /** Removes a file. Durable only after {@link syncDirectory}. */
  unlink(path: string): Promise<void>;
  /** Whether there is a file or directory with this name. */
  exists(path: string): Promise<boolean>;
  /** Removes a directory with all it holds, or does nothing when it is not there. */
  removeAll(path: string): Promise<void>;
  /** Bytes that files on the file system of a directory may still grow by, in all. */
  availableBytes(path: string): Promise<number>;
  /** Makes the names in a directory durable. A failure is STORAGE_FAILED: what is on disk is no longer known. */
  syncDirectory(path: string): Promise<void>;
}

/** An open file. */
export interface File {
  /** Reads up to `buffer.byteLength` bytes at `position`; returns how many: fewer only at the end of the file. */
  read(buffer: Uint8Array, position: number): Promise<number>;
  /** Writes all of `parts`, one after the other, at `position`. Not durable before {@link datasync}. */
  write(parts: readonly Uint8Array[], position: number): Promise<void>;
  /** Makes the contents and the size durable. A failure is STORAGE_FAILED and must never be retried. */
  datasync(): Promise<void>;
  /** Cuts the file, or extends it with zeros. */
  truncate(bytes: number): Promise<void>;
  /** Size in bytes. */
  size(): Promise<number>;
  close(): Promise<void>;
}

const read = promisify(fs.read);
const writev = promisify(fs.writev);
const fdatasync = promisify(fs.fdatasync);
const ftruncate = promisify(fs.ftruncate);
const fstat = promisify(fs.fstat);
const open = promisify(fs.open);
const close = promisify(fs.close);

/** Most buffers that one writev takes on any system that Node runs on. */
const PARTS_PER_WRITE = 1024;

class NodeFile implements File {
  constructor(
    private readonly descriptor: number,
    private readonly path: string,
  ) {}

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
      return new NodeFile(await open(path, flags, 0o644), path);
    } catch (error) {
      throw fromWriteError(error, `opening ${path}`);
    }
  },
  list: (path) => fsp.readdir(path),
  async makeDirectory(path) {
    try {
      await fsp.mkdir(path, { recursive: true });
    } catch (error) {
      throw fromWriteError(error, `making directory ${path}`);
    }
  },
  async rename(from, to) {
    try {
      await fsp.rename(from, to);
    } catch (error) {
      throw fromWriteError(error, `renaming ${from}`);
    }
  },
  link: (from, to) => fsp.link(from, to),
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
      const handle = await fsp.open(path, constants.O_RDONLY);
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw new CairnError("STORAGE_FAILED", `syncing directory ${path} failed: ${String(error)}`, { cause: error });
    }
  },
};

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

/** Writes a whole small file so that after a crash there is the old one or the new one. Durable on return. */
export async function writeSmallFile(fs: FileSystem, directory: string, name: string, data: Uint8Array): Promise<void> {
  const temporary = `${directory}/${name}.tmp`;
  if (await fs.exists(temporary)) await fs.unlink(temporary);
  const file = await fs.open(temporary, "create");
  try {
    await file.write([data], 0);
    await file.datasync();
  } finally {
    await file.close();
  }
  await fs.rename(temporary, `${directory}/${name}`);
  await fs.syncDirectory(directory);
}

function dropBytes(parts: Uint8Array[], bytes: number): Uint8Array[] {
  let at = 0;
  while (at < parts.length && bytes >= parts[at]!.byteLength) bytes -= parts[at++]!.byteLength;
  const rest = parts.slice(at);
  if (bytes > 0 && rest.length > 0) rest[0] = rest[0]!.subarray(bytes);
  return rest;
}

function fromWriteError(error: unknown, doing: string): unknown {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new CairnError("DISK_FULL", `${doing}: no space left on the device`, { cause: error });
  }
  return error;
}
