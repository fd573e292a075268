import { existsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { CairnError } from "../../../base/errors.js";
import { readIdentity } from "../../../storage/identity.js";
import { SNAPSHOT_EXTENSION } from "../../../storage/snapshots/file_names.js";
import { inspectSnapshot } from "../../../storage/snapshots/inspect.js";
import { nodeFileSystem } from "../../../system/fs.js";
import type { ProgressDisplay } from "../../output/progress.js";
import { type InspectedFile, inspectFile } from "./snapshot_files.js";

/** Snapshot files that were read from beginning to end. */
export interface VerifiedSnapshots {
  readonly verified: boolean;
  readonly files: readonly InspectedFile[];
}

/**
 * Verifies a snapshot file, or all snapshots of a directory: a node's data directory, or one that
 * holds snapshot files. Those of a node must also have the name and the cluster that a start
 * expects. A running node may remove an old snapshot meanwhile, which is then left out.
 * @throws CairnError NOT_FOUND when nothing is there to be verified; CANCELLED
 */
export async function verifySnapshots(
  path: string,
  { progress, signal }: { readonly progress: ProgressDisplay; readonly signal: AbortSignal },
): Promise<VerifiedSnapshots> {
  const target = resolve(path);
  if (!existsSync(target)) throw new CairnError("NOT_FOUND", `${path} does not exist`);
  if (!statSync(target).isDirectory()) {
    const found = await inspectFile(target, { onProgress: bytesOn(progress, 0, statSync(target).size), signal });
    return { verified: found.verified, files: [found] };
  }
  const data = join(target, "snapshots");
  const directory = existsSync(data) ? data : target;
  const paths = (await nodeFileSystem.list(directory))
    .filter((name) => name.endsWith(SNAPSHOT_EXTENSION))
    .sort()
    .map((name) => join(directory, name));
  if (paths.length === 0) throw new CairnError("NOT_FOUND", `${path} holds no snapshots`);
  const total = paths.reduce((sum, each) => sum + sizeOf(each), 0);
  // With a damaged identity, the files can still be verified in themselves.
  const owner = directory === data ? await readIdentity(nodeFileSystem, target).catch(() => undefined) : undefined;
  const files: InspectedFile[] = [];
  let doneBytes = 0;
  for (const each of paths) {
    try {
      const found = await inspectFile(each, { onProgress: bytesOn(progress, doneBytes, total), signal });
      doneBytes += found.bytes;
      files.push(owner === undefined || !found.verified ? found : await withOwner(found, owner));
    } catch (error) {
      if (existsSync(each)) throw error;
    }
  }
  return { verified: files.every((each) => each.verified), files };
}

/** Adds what a start checks besides: the file's name, and the cluster that it belongs to. */
async function withOwner(found: InspectedFile, owner: Parameters<typeof inspectSnapshot>[2]): Promise<InspectedFile> {
  try {
    await inspectSnapshot(nodeFileSystem, found.file, owner);
    return found;
  } catch (error) {
    return { ...found, verified: false, damage: CairnError.from(error).text };
  }
}

function bytesOn(progress: ProgressDisplay, before: number, total: number): (bytes: number) => void {
  return (bytes) => progress.update(before + bytes, Math.max(total, before + bytes));
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    return 0;
  }
}
