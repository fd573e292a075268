import { hasCode } from "../../base/errors.js";
import { LOG_START } from "../../raft/types.js";
import type { FileSystem } from "../../system/fs.js";
import type { LmdbDirectory } from "./directory.js";
import { LmdbEnvironment } from "./environment.js";
import { dataFileOf, prepareExisting } from "./files.js";
import { proveData } from "./proof.js";

// Opens the state on disk when it can be trusted, or makes a new one.

/** The view in force, opened. */
export interface OpenView {
  readonly name: string;
  readonly environment: LmdbEnvironment;
  /** Reason why the view is a new one; undefined when it existed. */
  readonly reason: string | undefined;
}

/**
 * Opens the view in force when it can be trusted and its data is proven (T7), otherwise a new and
 * empty one. In both cases the mark on disk allows commits.
 */
export async function openView(fs: FileSystem, directory: LmdbDirectory, trust: "auto" | "rebuild"): Promise<OpenView> {
  const trusted = trust === "rebuild" ? { reason: "the caller wants it rebuilt" } : await directory.trusted();
  if (trusted.reason !== undefined) return newView(fs, directory, trusted.reason);
  await directory.beginOpening(trusted.name);
  const opened = await openTrusted(fs, directory.pathOf(trusted.name));
  if (opened instanceof LmdbEnvironment) return { name: trusted.name, environment: opened, reason: undefined };
  return newView(fs, directory, opened.reason);
}

async function openTrusted(fs: FileSystem, path: string): Promise<LmdbEnvironment | { readonly reason: string }> {
  let environment: LmdbEnvironment | undefined;
  try {
    await prepareExisting(fs, path);
    const proven = await proveData(dataFileOf(path));
    environment = await LmdbEnvironment.open(fs, path);
    const mark = environment.readMark();
    const isSame = mark?.index === proven.index && mark.term === proven.term;
    if (isSame && proven.digest.difference(mark.digest) === undefined) return environment;
  } catch (error) {
    await environment?.close();
    // Anything but damage may pass soon, and is no reason to throw a good state away.
    if (!hasCode(error, "CORRUPT")) throw error;
    return { reason: error.text };
  }
  await environment.close();
  return { reason: `LMDB sees something else in ${path} than was proven` };
}

async function newView(fs: FileSystem, directory: LmdbDirectory, reason: string): Promise<OpenView> {
  const { name, environment } = await createView(fs, directory).catch(async (error) => {
    if (!hasCode(error, "DISK_FULL")) throw error;
    // A view that is not trusted is worth nothing, and takes the room that the new one needs.
    await directory.removeOthers("");
    return createView(fs, directory);
  });
  await closedOnError(environment, () => {
    environment.transaction(() => environment.writeApplied(LOG_START));
    return directory.pointTo(name);
  });
  return { name, environment, reason };
}

async function createView(fs: FileSystem, directory: LmdbDirectory): Promise<Pick<OpenView, "name" | "environment">> {
  const name = directory.reserve();
  return { name, environment: await LmdbEnvironment.create(fs, directory.pathOf(name)) };
}

/**
 * Runs an action that may fail while an environment is open, and closes the environment if it does.
 */
export async function closedOnError(environment: LmdbEnvironment, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    await environment.close();
    throw error;
  }
}
