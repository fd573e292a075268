import { existsSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { CairnError } from "../../base/errors.js";
import { print } from "./output.js";

/** Stands for standard output in place of a file name. */
export const STANDARD_OUTPUT = "-";

/**
 * Takes the bytes of a snapshot that is being saved. The caller must end it with `finish` or
 * `discard`.
 */
export interface SnapshotTarget {
  write(data: Uint8Array): Promise<void>;
  /** All bytes are written and verified. Resolves when they are durable, if the target can tell. */
  finish(): Promise<void>;
  discard(): Promise<void>;
}

/**
 * Returns a target that gives the file its name only when it is finished.
 * @throws CairnError FAILED_PRECONDITION when a file of that name exists
 */
export async function toFile(path: string): Promise<SnapshotTarget> {
  const unfinished = `${path}.part`;
  const file = await create(path, unfinished);
  return {
    write: (data) => file.writeFile(data),
    async finish() {
      await file.sync();
      await file.close();
      await rename(unfinished, path);
      await syncDirectory(dirname(path));
    },
    async discard() {
      await file.close().catch(() => {});
      await rm(unfinished, { force: true });
    },
  };
}

/**
 * Returns a target that writes to standard output.
 * @throws CairnError FAILED_PRECONDITION when it is a terminal, which cannot show a snapshot
 */
export function toStandardOutput(isTerminal = process.stdout.isTTY): SnapshotTarget {
  if (isTerminal) {
    const text = "standard output is a terminal, and a snapshot is not text";
    throw new CairnError("FAILED_PRECONDITION", `${text}: name a file, or send the output to one`);
  }
  return {
    async write(data) {
      if (await print(data)) return;
      const text = "the reader of standard output closed it before the snapshot was complete";
      throw new CairnError("FAILED_PRECONDITION", `${text}: do not use the part that it has`);
    },
    finish: async () => {},
    discard: async () => {},
  };
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  await directory.sync().finally(() => directory.close());
}

/** A saved snapshot holds all of the users' data. */
const FILE_MODE = 0o600;

/** Opens the file to write to, unless that would overwrite a file. */
async function create(path: string, unfinished: string): Promise<FileHandle> {
  if (existsSync(path)) throw new CairnError("FAILED_PRECONDITION", `${path} exists already: give another name`);
  try {
    return await open(unfinished, "w", FILE_MODE);
  } catch (error) {
    const text = `${path} cannot be written: ${(error as Error).message}`;
    throw new CairnError("FAILED_PRECONDITION", text, { cause: error });
  }
}
