import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { CairnError } from "../base/errors.js";
import type { FileSystem } from "../system/fs.js";
import { AUTHORITY, type PairPaths, pairPaths } from "./dev_files.js";
import type { KeyPairPem } from "./issue.js";

// Keeps certificates and keys in files. Only their user may read them.

/** A certificate and its key, and where they are written. */
export interface StoredPair extends KeyPairPem, PairPaths {}

/**
 * Reads the authority in a directory.
 * @throws CairnError NOT_FOUND when a file of it cannot be read
 */
export async function readAuthority(directory: string): Promise<KeyPairPem> {
  const { certificateFile, keyFile } = pairPaths(directory, AUTHORITY);
  return { certificate: await readText(certificateFile), key: await readText(keyFile) };
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    const advice = "cairn certs authority makes one";
    const text = `the authority cannot be read: ${(error as Error).message}; ${advice}`;
    throw new CairnError("NOT_FOUND", text, { cause: error });
  }
}

/**
 * Writes certificates and keys: all of them, durably, or none. Existing files are replaced only
 * with `force`.
 * @throws CairnError FAILED_PRECONDITION when one exists; DISK_FULL, or the error of the system
 */
export async function writeCertificates(
  fs: FileSystem,
  pairs: readonly StoredPair[],
  { force = false }: { readonly force?: boolean | undefined } = {},
): Promise<void> {
  const files = pairs.flatMap(({ certificateFile, certificate, keyFile, key }) => [
    { path: keyFile, unfinished: `${keyFile}.part`, text: key },
    { path: certificateFile, unfinished: `${certificateFile}.part`, text: certificate },
  ]);
  if (!force)
    await expectNone(
      fs,
      files.map(({ path }) => path),
    );
  const directories = [...new Set(files.map(({ path }) => dirname(path)))];
  for (const directory of directories) await fs.makeDirectory(directory);
  const written: string[] = [];
  try {
    for (const { unfinished, text } of files) {
      // An interrupted run may have left one.
      if (await fs.exists(unfinished)) await fs.unlink(unfinished);
      written.push(unfinished);
      await writeText(fs, unfinished, text);
    }
    for (const { path, unfinished } of files) {
      await fs.rename(unfinished, path);
      // A file that was replaced is gone, so the new one must stay.
      if (!force) written.push(path);
    }
    for (const directory of directories) await fs.syncDirectory(directory);
  } catch (error) {
    for (const path of written) if (await fs.exists(path)) await fs.unlink(path);
    throw error;
  }
}

/** Existing files that an error names. */
const SHOWN_FILES = 3;

async function expectNone(fs: FileSystem, paths: readonly string[]): Promise<void> {
  const existing: string[] = [];
  for (const path of paths) if (await fs.exists(path)) existing.push(path);
  if (existing.length === 0) return;
  const shown = existing.slice(0, SHOWN_FILES).join(", ");
  const more = existing.length > SHOWN_FILES ? ` and ${existing.length - SHOWN_FILES} more` : "";
  const text = `${shown}${more} ${existing.length === 1 ? "exists" : "exist"} already, and nothing was written`;
  throw new CairnError("FAILED_PRECONDITION", `${text}: name another directory, or give --force to replace`);
}

async function writeText(fs: FileSystem, path: string, text: string): Promise<void> {
  const file = await fs.open(path, "create");
  try {
    await file.write([Buffer.from(text)], 0);
    await file.datasync();
  } finally {
    await file.close();
  }
}
