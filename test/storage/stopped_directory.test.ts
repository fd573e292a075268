import { mkdir, readdir, readlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { DataDirectory } from "../../src/storage/data_dir.js";
import { StoppedDirectory } from "../../src/storage/stopped_directory.js";
import { nodeFileSystem } from "../../src/system/fs.js";
import { failure } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";

const fs = nodeFileSystem;

function openAs(path: string, nodeId: string): Promise<DataDirectory> {
  const options = { fs, path, nodeId, clusterId: "c", newClusterId: () => "c", members: [] };
  return DataDirectory.open(options).then((opened) => (opened.identity.complete ? opened : opened.complete()));
}

/** Everything in a directory, with the text of its links. */
async function contentsOf(path: string): Promise<string[]> {
  const names = (await readdir(path)).sort();
  return Promise.all(names.map(async (name) => `${name} ${await readlink(join(path, name)).catch(() => "")}`));
}

test("a data directory is read without a change to it, and only while no process has it open", async () => {
  const path = join(await temporaryDirectory(), "n1");
  const opened = await openAs(path, "n1");
  await failure("DATA_DIRECTORY", StoppedDirectory.open(fs, path), `is in use by this process`);
  await opened.markStopped({ index: 7, term: 2 });
  await opened.close();

  const before = await contentsOf(path);
  const stopped = await StoppedDirectory.open(fs, path);
  expect(stopped.identity).toMatchObject({ nodeId: "n1", clusterId: "c" });
  // Reading the mark leaves it for the start that it is meant for.
  expect([await stopped.stoppedAt(), await stopped.stoppedAt()]).toEqual([7, 7]);
  await stopped.expectUntouched();
  expect(await contentsOf(path)).toEqual(before);

  const again = await openAs(path, "n1");
  await failure("DATA_DIRECTORY", stopped.expectUntouched(), "has opened data directory");
  await again.close();
  // Also when that process has stopped again: what was read may be mixed.
  await failure("DATA_DIRECTORY", stopped.expectUntouched());
});

test("a directory that is no data directory is refused with the ones in it, and a damaged identity is reported", async () => {
  const parent = await temporaryDirectory();
  await failure("NOT_FOUND", StoppedDirectory.open(fs, join(parent, "none")), "does not exist");
  for (const id of ["n1", "n2"]) await (await openAs(join(parent, id), id)).close();
  await failure(
    "NOT_FOUND",
    StoppedDirectory.open(fs, parent),
    `give one of ${join(parent, "n1")}, ${join(parent, "n2")}`,
  );
  await mkdir(join(parent, "empty"));
  await failure("NOT_FOUND", StoppedDirectory.open(fs, join(parent, "empty")), "it has no cairn.json");

  const identity = join(parent, "n1", "cairn.json");
  await writeFile(identity, "{");
  const damaged = await StoppedDirectory.open(fs, join(parent, "n1"));
  expect(damaged.identity).toBeUndefined();
  expect(damaged.identityProblem).toContain("cairn.json is damaged");
});
