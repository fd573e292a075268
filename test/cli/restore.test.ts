import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { snapshotFileName } from "../../src/storage/snapshots/file_names.js";
import { failure } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { putEntries, snapshotOf } from "../support/nodes/acting_leader.js";
import { askCommand } from "../support/processes/command_host.js";
import { freePorts, ProcessCluster } from "../support/processes/process_cluster.js";
import { runCommand, startNode } from "../support/processes/processes.js";
import { hostileSnapshots } from "../support/snapshots/hostile_snapshots.js";

const QUICK = ["--tick-ms", "30"];

async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await askCommand(args);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return stdout;
}

/** A snapshot file of 300 entries, and another place for directories. */
async function backup() {
  const directory = await temporaryDirectory();
  const snapshot = await snapshotOf(putEntries(1, 300, 4));
  const file = join(directory, "backup.snap");
  await writeFile(file, snapshot.file);
  const restore = (id: string, ...args: string[]) => {
    const all = ["snapshot", "restore", file, "--id", id, "--data", join(directory, id), ...args];
    return askCommand([...all, "--json"]);
  };
  return { directory, snapshot, file, restore };
}

test("a new cluster of three that is restored from one node's snapshot serves all that was written", async () => {
  const directory = await temporaryDirectory();
  const old = await ProcessCluster.start(directory, ["old"], QUICK);
  const pairs = new Map(Array.from({ length: 500 }, (_, at) => [`key-${at}`, `value ${at}`]));
  await old.put(pairs);
  await run("snapshot", "take", "--endpoints", old.get("old").address);
  const file = join(directory, "backup.snap");
  const saved = JSON.parse(await run("snapshot", "save", file, "--json", "--endpoints", old.get("old").address));
  await old.put(new Map([["key-0", "too late for the backup"]]));

  const inspected = JSON.parse(await run("snapshot", "inspect", file, "--json"));
  expect(inspected).toMatchObject({
    verified: true,
    index: saved.snapshot.index,
    term: saved.snapshot.term,
    sha256: saved.snapshot.sha256,
    bytes: saved.snapshot.bytes,
    members: [{ id: "old", role: "voter" }],
  });

  const ids = ["n1", "n2", "n3"];
  const ports = await freePorts(3);
  const cluster = ids.map((id, at) => `${id}=127.0.0.1:${ports[at]}`).join(",");
  const restored = [];
  for (const id of ids) {
    const args = ["--id", id, "--data-dir", join(directory, id), "--cluster", cluster, "--json"];
    restored.push(JSON.parse(await run("snapshot", "restore", file, ...args)));
  }
  expect(new Set(restored.map((each) => each.sha256)).size).toBe(1);

  const start = (id: string, at: number) =>
    startNode({
      id,
      data: join(directory, id),
      listen: `127.0.0.1:${ports[at]}`,
      args: ["--cluster", cluster, ...QUICK],
    });
  // T1: nothing is founded before the last one has been started.
  const early = await Promise.all([start("n1", 0), start("n2", 1)]);
  expect(await early[0]!.event("waiting")).toMatchObject({
    reason: "n1 is new; to found the cluster it must hear from n3 (no answer)",
  });
  const nodes = [...early, await start("n3", 2)];
  const { cluster: founded } = await nodes[0]!.event("founded");
  const addresses = nodes.map(({ address }) => address);
  const endpoints = ["--endpoints", addresses.join(",")];
  expect(await run("kv", "get", "key-0", ...endpoints)).toBe("value 0");
  await run("kv", "put", "new", "life", ...endpoints);
  const range = (await run("kv", "range", ...endpoints)).split("\n");
  expect(range.filter((line) => line.startsWith("key-"))).toHaveLength(500);
  const status = JSON.parse(await run("status", "--json", ...endpoints));
  expect(status).toMatchObject({ cluster: founded, members: ids.map((id) => ({ id, member: "voter" })) });
  expect(status.members.map((each: { snapshot: number }) => each.snapshot)).toEqual(ids.map(() => inspected.index));

  // T2: a node of the old cluster cannot come into the new one, though it is told the addresses.
  await old.kill("old");
  const stranger = await runCommand([
    "start",
    "--id",
    "old",
    "--data",
    join(directory, "old"),
    "--cluster-id",
    `${founded}`,
    "--join",
    addresses[0]!,
  ]);
  expect(stranger).toMatchObject({ code: 1 });
  expect(stranger.stderr).toMatch(/belongs to cluster [0-9a-f]{32}, not to [0-9a-f]{32}\./);
  await old.close();
});

describe("cairn snapshot restore", () => {
  const THREE = "n1=h1:1,n2=h2:1,n3=h3:1";

  test("gives all founders of one list the same base, another base for another list or file, and draws no cluster id (T2)", async () => {
    const { restore, file, directory } = await backup();
    const baseOf = async (id: string, ...args: string[]) => JSON.parse((await restore(id, ...args)).stdout).sha256;
    const first = await baseOf("n1", "--cluster", THREE);
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    expect(await baseOf("n2", "--cluster", "n3=h3:1,n2=h2:1,n1=h1:1")).toBe(first);
    expect(await baseOf("n3", "--cluster", `${THREE},n4=h4:1`)).not.toBe(first);
    await writeFile(file, (await snapshotOf(putEntries(1, 301, 4))).file);
    expect(await baseOf("n5", "--cluster", `${THREE},n5=h5:1`)).not.toBe(first);
    const [one, two] = await Promise.all(["n1", "n2"].map((id) => readFile(join(directory, id, "cairn.json"), "utf8")));
    expect(JSON.parse(one!)).toMatchObject({ clusterId: "", base: { index: 300, term: 4, sha256: first } });
    expect(JSON.parse(one!).incarnation).not.toBe(JSON.parse(two!).incarnation);
  });

  test("refuses a node that is not a member, a damaged file and a missing one, and leaves no data", async () => {
    const { restore, snapshot, file, directory } = await backup();
    const fails = async (text: RegExp, ...args: string[]) => {
      const { code, stderr } = await restore(...(args as [string]));
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(text) });
      expect(await readdir(directory)).toEqual(["backup.snap"]);
    };
    await fails(/--cluster names n1, n2, n3, but not n9/, "n9", "--cluster", THREE);
    const damaged = Buffer.from(snapshot.file);
    damaged[damaged.length >> 1]! ^= 4;
    await writeFile(file, damaged);
    await fails(/backup\.snap is damaged at offset \d+/, "n1", "--cluster", THREE);
    await writeFile(file, snapshot.file.subarray(0, -1));
    await fails(/the file ends here, expected 1 more bytes of the trailer/, "n1", "--cluster", THREE);
    const missing = ["snapshot", "restore", `${file}.not`, "--id", "n1", "--data", join(directory, "n1")];
    expect((await askCommand([...missing, "--cluster", THREE])).stderr).toMatch(
      /NOT_FOUND.*backup\.snap\.not cannot be read/,
    );
  });

  test("refuses a directory with data, and leaves a directory that it did not finish without an owner", async () => {
    const { restore, directory } = await backup();
    expect(await restore("n1", "--cluster", "n1=127.0.0.1:1")).toMatchObject({ code: 0 });
    const before = await readFile(join(directory, "n1", "cairn.json"), "utf8");
    const again = await restore("n1", "--cluster", "n1=127.0.0.1:2");
    expect(again).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/holds .*existing data is never overwritten/),
    });
    expect(await readFile(join(directory, "n1", "cairn.json"), "utf8")).toBe(before);
    // As a crash before the last step leaves it.
    await mkdir(join(directory, "n2", "wal"), { recursive: true });
    expect(await restore("n2", "--cluster", "n2=127.0.0.1:1")).toMatchObject({ code: 1 });
    const started = await runCommand([
      "start",
      "--id",
      "n2",
      "--data",
      join(directory, "n2"),
      "--listen",
      "127.0.0.1:0",
    ]);
    expect(started).toMatchObject({ code: 1, stderr: expect.stringMatching(/holds wal but no cairn\.json/) });
  });

  test("says what to do next, and a node alone starts from it", async () => {
    const { directory, file } = await backup();
    const args = [
      "snapshot",
      "restore",
      file,
      "--id",
      "n1",
      "--data",
      join(directory, "n1"),
      "--cluster",
      "n1=127.0.0.1:0",
    ];
    const { stdout: text } = await runCommand([...args.slice(0, -1), "n1=127.0.0.1:7101"]);
    expect(text).toMatch(
      /holds the state at index 300, term 4, for founder n1 of a new cluster\nthen start it: cairn start --id n1 /,
    );
    const { address, event } = await startNode({ id: "n1", data: join(directory, "n1"), args: QUICK });
    await event("founded");
    expect(await run("kv", "get", "k300", "--endpoints", address)).toBe("4.300");
  });
});

describe("cairn snapshot inspect", () => {
  test("describes a good file under any name", async () => {
    const { file, snapshot } = await backup();
    const text = await run("snapshot", "inspect", file);
    expect(text).toMatch(/^snapshot at index 300, term 4, of cluster cluster-1\nmembers, set at index 0: n1=\n/);
    expect(text).toContain(`verified, SHA-256 ${Buffer.from(snapshot.sha256).toString("hex")}\n`);
  });

  test("says where a damaged file is damaged and what it is known to have held, and exits 3", async () => {
    const { file, snapshot } = await backup();
    const damaged = Buffer.from(snapshot.file);
    damaged[1_000]! ^= 1;
    await writeFile(file, damaged);
    const { code, stdout } = await runCommand(["snapshot", "inspect", file, "--json"]);
    expect(code).toBe(3);
    const found = JSON.parse(stdout);
    expect(found).toMatchObject({ verified: false, index: 300, bytes: damaged.length });
    expect(found.damage).toMatch(/is damaged at offset \d+: chunk 0 has CRC32/);
    expect(found.sha256).toBeUndefined();
    await writeFile(file, "no snapshot at all, but long enough to be looked at");
    expect(await askCommand(["snapshot", "inspect", file])).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/^51 bytes\nNOT GOOD: .*offset 0: it starts with/),
    });
  });

  test("reads the snapshots of a data directory", async () => {
    const { directory, restore } = await backup();
    await restore("n1", "--cluster", "n1=127.0.0.1:1");
    const inside = join(directory, "n1", "snapshots", snapshotFileName({ index: 300, term: 4 }));
    const text = await run("snapshot", "inspect", inside);
    expect(text).toContain("no members: a restored state, whose cluster has yet to be founded\n");
  });
});

test("a file with good checksums whose payload is no state of this program is refused, and nothing is made of it (T5)", async () => {
  const directory = await temporaryDirectory();
  const hostile = await hostileSnapshots({ index: 300, term: 4 }, "cluster-1");
  const { inspectFile, restoreFile } = await import("../../src/cli/commands/snapshot/snapshot_files.js");
  for (const { what, file: bytes } of hostile) {
    // What a cluster begins with: only a node can tell that it is not its own cluster's.
    if (what === "no members, as what a cluster begins with") continue;
    const file = join(directory, "hostile.snap");
    await writeFile(file, bytes);
    const { verified, damage, sha256 } = await inspectFile(file);
    expect({ verified, sha256 }, what).toEqual({ verified: false, sha256: undefined });
    expect(damage, what).toMatch(/damaged|answer/);
    const data = join(directory, "n1");
    const options = { id: "n1", data, cluster: new Map([["n1", "127.0.0.1:7101"]]), clusterId: undefined };
    await failure("CORRUPT", restoreFile(file, options), "");
    expect(await readdir(directory), what).toEqual(["hostile.snap"]);
  }
  const { code, stdout } = await askCommand(["snapshot", "inspect", join(directory, "hostile.snap")]);
  expect({ code, stdout }).toEqual({ code: 3, stdout: expect.stringContaining("NOT GOOD: ") });
});
