import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { checkId } from "../../src/base/arguments.js";
import { membershipCodec } from "../../src/encoding/membership.js";
import { CairnNode } from "../../src/node/node.js";
import { openKeyValueMachine } from "../../src/server/kv/open_machine.js";
import { checkMembers, DataDirectory } from "../../src/storage/data_dir.js";
import { failure } from "../support/conditions.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";

const members = [{ id: "n1", address: "", role: "voter" as const }];

function newDisk(): FaultyFileSystem {
  return new FaultyFileSystem(["/data"]);
}

/** Opens a directory; it is given back when the test ends. */
async function open(
  fs: FaultyFileSystem,
  options: { path?: string; nodeId?: string; clusterId?: string | undefined } = {},
) {
  let clusters = 0;
  const directory = await DataDirectory.open({
    fs,
    path: "/data/n1",
    nodeId: "n1",
    clusterId: "c1",
    newClusterId: () => `new-${++clusters}`,
    members,
    ...options,
  });
  onTestFinished(() => directory.crash());
  return directory;
}

/** A directory that was completed and closed. */
async function made(fs: FaultyFileSystem): Promise<void> {
  const directory = await open(fs);
  try {
    await (await directory.complete()).close();
  } finally {
    directory.crash();
  }
}

function write(fs: FaultyFileSystem, text: string): void {
  fs.setContents("/data/n1/cairn.json", Buffer.from(text));
}

test("a new data directory names its owner, and is complete only when it was completed", async () => {
  const fs = newDisk();
  const directory = await open(fs);
  expect(directory.identity).toEqual({
    ...{ format: 2, clusterId: "c1", nodeId: "n1", members, complete: false },
    ...{ incarnation: "", cameBy: "given", base: undefined, retired: false },
  });
  expect((await fs.list("/data/n1")).sort()).toEqual(["cairn.json", "lock.1", "snapshots", "wal"]);
  const completed = await directory.complete();
  expect(completed.identity.complete).toBe(true);
  await completed.close();
  const again = await open(fs);
  expect(again.identity).toEqual(completed.identity);
});

test("a new data directory without a given cluster id draws one, and an existing one keeps its own", async () => {
  const fs = newDisk();
  const directory = await open(fs, { clusterId: undefined });
  expect(directory.identity.clusterId).toBe("new-1");
  await (await directory.complete()).close();
  expect((await open(fs, { clusterId: undefined })).identity.clusterId).toBe("new-1");
});

test("a data directory that was never completed is made again, without its old contents", async () => {
  const fs = newDisk();
  const directory = await open(fs);
  fs.setContents(`${directory.log}/half`, Buffer.of(1));
  await directory.close();
  const again = await open(fs, { clusterId: undefined });
  expect(again.identity.complete).toBe(false);
  expect(await fs.list(again.log)).toEqual([]);
});

test.each(["wal", "snapshots", "state"])("a file in the place of %s is refused by name", async (name) => {
  const directory = await mkdtemp(join(tmpdir(), "cairn-data-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const start = () => CairnNode.start({ id: "n1", directory, openMachine: openKeyValueMachine, elections: "manual" });
  await (await start()).stop();
  await rm(join(directory, name), { recursive: true });
  await writeFile(join(directory, name), "");
  await failure("DATA_DIRECTORY", start(), `${join(directory, name)} is not a directory`);
});

test("another node's data directory, and another cluster's, are refused with both names", async () => {
  const fs = newDisk();
  await made(fs);
  await failure("DATA_DIRECTORY", open(fs, { nodeId: "n2" }), "/data/n1 belongs to node n1, not to n2. Give that id");
  await failure(
    "DATA_DIRECTORY",
    open(fs, { clusterId: "c2" }),
    "/data/n1 belongs to cluster c1, not to c2. Give that",
  );
  // A refusal does not keep the directory.
  await open(fs);
});

test.each([
  ["nothing", ""],
  ["no JSON", "{"],
  ["null", "null"],
  ["a list", "[]"],
  ["no format", '{"nodeId":"n1"}'],
  ["no cluster", '{"format":1,"nodeId":"n1","members":[],"complete":true}'],
  ["no members", '{"format":1,"clusterId":"c1","nodeId":"n1","complete":true}'],
  ["a member that is none", '{"format":1,"clusterId":"c1","nodeId":"n1","members":[{"id":"n1"}],"complete":true}'],
  ["not whether it is complete", '{"format":1,"clusterId":"c1","nodeId":"n1","members":[]}'],
])("a cairn.json that holds %s is refused by name, with advice, and kept", async (_what, text) => {
  const fs = newDisk();
  await made(fs);
  write(fs, text);
  const error = await failure("DATA_DIRECTORY", open(fs), "/data/n1/cairn.json is damaged");
  expect(error.message).toContain("Never put back an old copy of it");
  expect(Buffer.from(fs.contents("/data/n1/cairn.json")).toString()).toBe(text);
});

test("a damaged format that says that there is no checksum is refused, in spite of one", async () => {
  const fs = newDisk();
  await made(fs);
  const text = Buffer.from(fs.contents("/data/n1/cairn.json")).toString();
  write(fs, text.replace('"format": 2', '"format": 1'));
  await failure("DATA_DIRECTORY", open(fs), "/data/n1/cairn.json is damaged");
});

test("a data directory of another format is refused as such, whatever else is in the file", async () => {
  const fs = newDisk();
  await made(fs);
  write(fs, '{"format":3,"who":"knows"}');
  await failure(
    "DATA_DIRECTORY",
    open(fs),
    "format 3, this version of Cairn knows formats up to 2. Use the version that wrote it",
  );
});

test("data without the file that names its owner are refused", async () => {
  const fs = newDisk();
  await made(fs);
  await fs.unlink("/data/n1/cairn.json");
  await failure("DATA_DIRECTORY", open(fs), /holds .*wal.* but no cairn\.json/);
  expect(await fs.exists("/data/n1/wal")).toBe(true);
});

test("data that is set aside takes its stop mark along, so that the next directory has lost nothing (T3)", async () => {
  const fs = newDisk();
  const directory = await (await open(fs)).complete();
  await directory.markStopped({ index: 7, term: 2 });
  await directory.close();
  await DataDirectory.identify(fs, "/data/n1", async (_found, path) => {
    expect(await DataDirectory.setAside(fs, path, "")).toBe("/data/n1/lost-given");
    return undefined;
  });
  expect((await fs.list("/data/n1/lost-given")).sort()).toEqual(["snapshots", "stopped.json", "wal"]);
  expect(await (await open(fs)).takeStopMark()).toBeUndefined();
});

test("the scratch directory is emptied when it is opened", async () => {
  const fs = newDisk();
  await made(fs);
  await fs.makeDirectory("/data/n1/scratch");
  fs.setContents("/data/n1/scratch/left", Buffer.of(1));
  await open(fs);
  expect(await fs.exists("/data/n1/scratch")).toBe(false);
});

test("a power failure right after the completion loses neither the directory nor its parents", async () => {
  const fs = newDisk();
  const directory = await open(fs, { path: "/data/a/b/c" });
  await directory.complete();
  directory.crash();
  const after = fs.crash({ keep: "none" });
  expect((await open(after, { path: "/data/a/b/c" })).identity.complete).toBe(true);
});

test("a power cut at every call of the creation leaves a directory that can be opened", async () => {
  for (let cut = 0; ; cut++) {
    const fs = newDisk();
    fs.cutPowerAfter(cut);
    const attempt = await made(fs).then(
      () => "made",
      () => "cut",
    );
    for (const keep of ["none", "all", "random"] as const) {
      const directory = await open(fs.crash({ keep, random: () => 0.5 }), { clusterId: undefined });
      expect(directory.identity).toMatchObject({ nodeId: "n1", format: 2 });
      if (attempt === "made") expect(directory.identity.complete).toBe(true);
      directory.crash();
    }
    if (attempt === "made") break;
  }
});

test("ids are 1 to 64 characters of A-Z a-z 0-9 . _ -", async () => {
  for (const id of ["n", "A.b_c-9", "x".repeat(64)]) checkId(id, "node id");
  for (const id of ["", "x".repeat(65), "a b", "a/b", "ä", "a\n"]) {
    await failure(
      "INVALID_ARGUMENT",
      () => checkId(id, "node id"),
      /node id .* must be 1 to 64 characters \(idCharacters\)/,
    );
  }
});

test("members are sorted by id, and each id is unique", async () => {
  const member = (id: string, role: "voter" | "learner" = "voter") => ({ id, address: "", role });
  expect(checkMembers([member("b"), member("a"), member("B")]).map(({ id }) => id)).toEqual(["B", "a", "b"]);
  await failure("INVALID_ARGUMENT", () => checkMembers([member("a"), member("b"), member("a")]), "a is listed twice");
  await failure("INVALID_ARGUMENT", () => checkMembers([]), "no voter");
  const encoded = membershipCodec.encode([member("a"), member("b", "learner")]);
  expect(membershipCodec.decode(encoded)).toEqual([member("a"), member("b", "learner")]);
  expect(() => membershipCodec.decode(membershipCodec.encode([member("b"), member("a")]))).toThrow(
    "b: expected ascending",
  );
});

test("a stop mark records once where the log ended, and a damaged one proves nothing (T3)", async () => {
  const fs = newDisk();
  const directory = await (await open(fs)).complete();
  await directory.markStopped({ index: 22, term: 3 });
  expect([await directory.takeStopMark(), await directory.takeStopMark()]).toEqual([22, undefined]);
  await directory.markStopped({ index: 22, term: 3 });
  const file = "/data/n1/stopped.json";
  fs.setContents(file, Buffer.from(Buffer.from(fs.contents(file)!).toString().replace("22", "92")));
  expect(await directory.takeStopMark()).toBeUndefined();
  expect(await fs.exists(file)).toBe(false);
});
