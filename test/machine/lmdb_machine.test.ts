import { mkdir, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { CairnError } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import type { KeyRange } from "../../src/machine/kv/key_value_machine.js";
import { LmdbEnvironment } from "../../src/machine/lmdb/environment.js";
import type { LmdbMachine } from "../../src/machine/lmdb_machine.js";
import { type FileSystem, nodeFileSystem } from "../../src/system/fs.js";
import { untilAsync } from "../support/conditions.js";
import { fillDisk, mountSmallDisk } from "../support/disk/small_disk.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import {
  applyCommand,
  applyOperation,
  bytes,
  contents,
  entry,
  inPieces,
  load,
  metaAt,
  openLmdb,
  payloadOf,
  put,
  request,
  resultHex,
  skipTo,
  uncheckedBytes,
} from "../support/machines/machines.js";

const boot = (id: string | undefined) => async () => id;

/** A machine with a key and two sessions at index 3, in a new directory. */
async function openFilled(options: { bootId?: () => Promise<string | undefined>; fs?: FileSystem } = {}) {
  const directory = `${await temporaryDirectory()}/state`;
  const machine = await openLmdb({ directory, ...options });
  applyOperation(machine, put("k", "v"));
  applyCommand(machine, request("b", 1, put("b", "1")));
  applyCommand(machine, request("a", 1, put("a", "1")));
  return { directory, machine };
}

const views = async (directory: string) => (await readdir(directory)).filter((name) => name.startsWith("view-")).sort();

describe("opening the state on disk", () => {
  test("finds a new directory empty, and gives that as the reason", async () => {
    const machine = await openLmdb({ directory: `${await temporaryDirectory()}/not/there` });
    expect(machine).toMatchObject({ appliedIndex: 0, keyCount: 0, sessionCount: 0, rebuilt: true });
    expect(machine.rebuildReason).toContain("no state yet");
  });

  test.each([
    { after: "a clean close", stop: (machine: LmdbMachine) => machine.close() },
    { after: "a crash of the process", stop: (machine: LmdbMachine) => machine.crash() },
  ])("reuses the state after $after", async ({ stop }) => {
    const { directory, machine } = await openFilled();
    const payload = await payloadOf(machine);
    await stop(machine);
    const again = await openLmdb({ directory });
    expect(again).toMatchObject({
      rebuilt: false,
      rebuildReason: undefined,
      appliedIndex: 3,
      keyCount: 3,
      sessionCount: 2,
    });
    expect((await payloadOf(again)).equals(payload)).toBe(true);
    expect(applyCommand(again, request("b", 1, put("b", "retry"))).index).toBe(2n);
  });

  test("discards the state after a crash at another boot", async () => {
    const { directory, machine } = await openFilled({ bootId: boot("first") });
    await machine.crash();
    const again = await openLmdb({ directory, bootId: boot("second") });
    expect(again).toMatchObject({ rebuilt: true, appliedIndex: 0, keyCount: 0, sessionCount: 0 });
    expect(again.rebuildReason).toContain("rebooted without a clean stop");
    expect(await views(directory)).toHaveLength(1);
    skipTo(again, 1);
    await again.crash();
    expect(await openLmdb({ directory, bootId: boot("second") })).toMatchObject({ rebuilt: false, appliedIndex: 1 });
  });

  test("ignores another boot after a clean close, until something is applied", async () => {
    const { directory, machine } = await openFilled({ bootId: boot("first") });
    await machine.close();
    const second = await openLmdb({ directory, bootId: boot("second") });
    expect(second).toMatchObject({ rebuilt: false, appliedIndex: 3 });
    await second.crash();
    expect(await openLmdb({ directory, bootId: boot("third") })).toMatchObject({ rebuilt: true, appliedIndex: 0 });
  });

  test("trusts only a clean close without a boot id", async () => {
    const { directory, machine } = await openFilled({ bootId: boot(undefined) });
    await machine.close();
    const second = await openLmdb({ directory, bootId: boot(undefined) });
    expect(second.rebuilt).toBe(false);
    await second.crash();
    expect((await openLmdb({ directory, bootId: boot(undefined) })).rebuilt).toBe(true);
  });

  test("discards the state when the caller says so", async () => {
    const { directory, machine } = await openFilled();
    await machine.close();
    const again = await openLmdb({ directory, trust: "rebuild" });
    expect(again).toMatchObject({ rebuilt: true, appliedIndex: 0, keyCount: 0 });
  });

  test.each([
    { what: "CURRENT is missing", damage: (directory: string) => rm(`${directory}/CURRENT`) },
    { what: "CURRENT is empty", damage: (directory: string) => writeFile(`${directory}/CURRENT`, "") },
    {
      what: "CURRENT has a flipped bit",
      damage: async (directory: string) => {
        const pointer = await readFile(`${directory}/CURRENT`);
        pointer[pointer.indexOf("view-1") + 5]! ^= 1;
        await writeFile(`${directory}/CURRENT`, pointer);
      },
    },
    {
      what: "the environment is missing",
      damage: (directory: string) => rm(`${directory}/view-1`, { recursive: true }),
    },
    {
      what: "the data file is empty",
      stop: "crash",
      damage: (directory: string) => truncate(`${directory}/view-1/data.mdb`, 0),
    },
    {
      what: "the data file is cut off in its first page",
      stop: "crash",
      damage: (directory: string) => truncate(`${directory}/view-1/data.mdb`, 20),
    },
    {
      what: "the data file is of another format",
      stop: "crash",
      damage: async (directory: string) => {
        const data = await readFile(`${directory}/view-1/data.mdb`);
        data[data.indexOf(Buffer.from("dec0efbe", "hex")) + 4]! = 9;
        await writeFile(`${directory}/view-1/data.mdb`, data);
      },
    },
    {
      what: "the environment is missing after a crash",
      stop: "crash",
      damage: (directory: string) => rm(`${directory}/view-1`, { recursive: true }),
    },
    {
      what: "the data file is emptied after a clean close",
      damage: (directory: string) => truncate(`${directory}/view-1/data.mdb`, 0),
    },
    { what: "the data file is cut off", damage: (directory: string) => truncate(`${directory}/view-1/data.mdb`, 8192) },
    {
      what: "the data file is no environment",
      stop: "crash",
      damage: (directory: string) => writeFile(`${directory}/view-1/data.mdb`, Buffer.alloc(100_000, 0x5a)),
    },
  ])("discards the state when $what", async ({ damage, stop }) => {
    const { directory, machine } = await openFilled();
    await (stop === "crash" ? machine.crash() : machine.close());
    await damage(directory);
    const again = await openLmdb({ directory });
    expect(again).toMatchObject({ rebuilt: true, appliedIndex: 0, keyCount: 0 });
    expect(again.rebuildReason).toBeTruthy();
    applyOperation(again, put("new", "1"));
    expect(contents(again)).toEqual(["new=1@1"]);
    await again.close();
    expect(await openLmdb({ directory })).toMatchObject({ rebuilt: false, appliedIndex: 1 });
  });

  test("discards an environment that does not record its applied index", async () => {
    const { directory, machine } = await openFilled();
    await machine.crash();
    await rm(`${directory}/view-1`, { recursive: true });
    const bare = await LmdbEnvironment.create(nodeFileSystem, `${directory}/view-1`);
    bare.transaction(() => bare.records.put(bytes("k"), { createVersion: 1, version: 1, value: bytes("v") }));
    await bare.close();
    const again = await openLmdb({ directory });
    expect(again).toMatchObject({ rebuilt: true, appliedIndex: 0, keyCount: 0 });
    expect(again.rebuildReason).toContain("record its applied index");
  });

  test("removes the leftovers of a restore", async () => {
    const { directory, machine } = await openFilled();
    await machine.close();
    await mkdir(`${directory}/view-7`);
    await writeFile(`${directory}/view-7/data.mdb`, "half");
    const again = await openLmdb({ directory });
    expect(again.appliedIndex).toBe(3);
    expect(await views(directory)).toEqual(["view-1"]);
  });

  test("writes the mark that allows commits durably before the first commit", async () => {
    const { directory, machine } = await openFilled({ bootId: boot("first") });
    await machine.close();
    const clean = await readFile(`${directory}/CURRENT`, "utf8");
    expect(clean).toMatch(/\nclean [0-9]+\n/);
    const calls: string[] = [];
    await openLmdb({ directory, bootId: boot("first"), fs: recording(calls) });
    expect(await readFile(`${directory}/CURRENT`, "utf8")).toContain("\nboot first\n");
    const publishing = calls.filter((call) => call.includes("CURRENT") || call.endsWith(" state"));
    expect(publishing).toEqual([
      "write CURRENT.tmp",
      "datasync CURRENT.tmp",
      "rename CURRENT.tmp",
      "syncDirectory state",
    ]);
  });
});

describe("closing the state on disk", () => {
  test("syncs the pages before it marks them clean", async () => {
    const calls: string[] = [];
    const { machine } = await openFilled({ fs: recording(calls) });
    calls.length = 0;
    await machine.close();
    const synced = calls.indexOf("datasync data.mdb");
    expect(synced).toBeGreaterThanOrEqual(0);
    expect(calls.indexOf("rename CURRENT.tmp")).toBeGreaterThan(synced);
  });

  test("happens once when it is called twice at the same time", async () => {
    const { directory, machine } = await openFilled({ bootId: boot("first") });
    await Promise.all([machine.close(), machine.close(), machine.crash()]);
    expect(await openLmdb({ directory, bootId: boot("second") })).toMatchObject({ rebuilt: false, appliedIndex: 3 });
  });

  test("fails when the pages cannot be synced, and the state is not trusted afterwards", async () => {
    const failing = faulty("datasync", "data.mdb", new CairnError("STORAGE_FAILED", "the disk is broken"), false);
    const { directory, machine } = await openFilled({ fs: failing });
    failing.active = true;
    await expect(machine.close()).rejects.toMatchObject({ code: "STORAGE_FAILED" });
    expect((await openLmdb({ directory })).rebuilt).toBe(true);
  });

  test("needs no room on the disk, because it overwrites the present mark", async () => {
    const disk = faulty("write", "CURRENT.tmp", new CairnError("DISK_FULL", "no space left"), false);
    const { directory, machine } = await openFilled({ fs: disk, bootId: boot("first") });
    disk.active = true;
    await machine.close();
    // Nor does opening, whose mark is a longer one.
    const again = await openLmdb({ directory, fs: disk, bootId: boot("second") });
    expect(again).toMatchObject({ rebuilt: false, appliedIndex: 3 });
    await again.crash();
    expect(await openLmdb({ directory, bootId: boot("second") })).toMatchObject({ rebuilt: false, appliedIndex: 3 });
  });

  test("succeeds when nothing can be overwritten, and the state without its mark is treated as after a crash", async () => {
    const disk = faulty("write", /^CURRENT/, new CairnError("DISK_FULL", "no space left"), false);
    const { directory, machine } = await openFilled({ fs: disk, bootId: boot("first") });
    disk.active = true;
    await machine.close();
    expect(await openLmdb({ directory, bootId: boot("first") })).toMatchObject({ rebuilt: false, appliedIndex: 3 });
  });
});

describe("a restore of the state on disk", () => {
  const at = metaAt({ index: 50, term: 3 });

  /** The payload of a state at index 50 of term 3 with `keys` keys. */
  async function payloadAt50(keys = 20): Promise<Buffer> {
    const machine = await openLmdb({ directory: await temporaryDirectory() });
    for (let n = 1; n <= 20; n++) applyOperation(machine, put(`key ${n}`, "x".repeat(Math.ceil((keys * 100) / 20))));
    applyCommand(machine, request("restored", 1, put("k", "v")));
    skipTo(machine, 49);
    skipTo(machine, 50, 3);
    return payloadOf(machine);
  }

  test("replaces the state, for readers and on disk", async () => {
    const { directory, machine } = await openFilled();
    const payload = await payloadAt50();
    await machine.restore(inPieces(payload, 100), at);
    expect(machine).toMatchObject({ appliedIndex: 50, keyCount: 21, sessionCount: 1 });
    expect(machine.get(bytes("a"))).toBeUndefined();
    expect((await payloadOf(machine)).equals(payload)).toBe(true);
    expect(applyCommand(machine, request("restored", 1, put("k", "retry")), 3).index).toBe(21n);
    await machine.crash();
    const again = await openLmdb({ directory });
    expect(again).toMatchObject({ rebuilt: false, appliedIndex: 51, keyCount: 21 });
    expect(await views(directory)).toEqual(["view-2"]);
  });

  test("may go back, and may be repeated without leaving directories behind", async () => {
    const { directory, machine } = await openFilled();
    const payload = await payloadAt50();
    const back = await payloadOf(machine);
    for (let round = 0; round < 5; round++) {
      await machine.restore(inPieces(payload, 1000), at);
      await machine.restore(inPieces(back, 1000), metaAt({ index: 3, term: 1 }));
    }
    expect(machine).toMatchObject({ appliedIndex: 3, keyCount: 3 });
    await machine.close();
    const left = await views(directory);
    expect(left).toHaveLength(1);
    expect(Number(left[0]!.slice("view-".length))).toBeLessThanOrEqual(3);
  });

  test("removes the old environment only when its last reader has let go", async () => {
    const { directory, machine } = await openFilled();
    const view = await machine.capture();
    const range = machine.range();
    await machine.restore(inPieces(await payloadAt50(), 1000), at);
    await nextTurn();
    expect(await views(directory)).toEqual(["view-1", "view-2"]);
    view.release();
    expect([...range]).toHaveLength(3);
    await untilAsync(async () => (await views(directory)).join() === "view-2", "the old environment is gone");
  });

  test("shows readers the old state until the new one is complete", async () => {
    const { machine } = await openFilled();
    const before = contents(machine);
    const payload = await payloadAt50(60_000);
    const expectBefore = () => expect([machine.appliedIndex, ...contents(machine)]).toEqual([3, ...before]);
    let pieces = 0;
    const watched = (async function* () {
      for await (const piece of inPieces(payload, 10_000)) {
        expectBefore();
        yield piece;
        pieces++;
      }
      expectBefore();
    })();
    const restored = machine.restore(watched, at);
    let done = false;
    void restored.finally(() => {
      done = true;
    });
    while (!done) {
      await nextTurn();
      if (done) break;
      if (machine.appliedIndex === 3) expect(contents(machine)).toEqual(before);
      else expect([machine.appliedIndex, machine.keyCount]).toEqual([50, 21]);
    }
    await restored;
    expect(pieces).toBe(Math.ceil(payload.byteLength / 10_000));
    expect(pieces).toBeGreaterThan(5);
    expect(machine.appliedIndex).toBe(50);
  });

  test.each([
    ["is cut off", (payload: Buffer) => inPieces(payload.subarray(0, payload.byteLength - 1), 100), "CORRUPT"],
    ["is empty", () => inPieces(Buffer.alloc(0), 100), "CORRUPT"],
    ["has a byte changed", (payload: Buffer) => inPieces(changed(payload), 100), "CORRUPT"],
    ["has a byte more", (payload: Buffer) => inPieces(Buffer.concat([payload, Buffer.alloc(1)]), 100), "CORRUPT"],
    ["fails on its way", (payload: Buffer) => failing(payload), "STORAGE_FAILED"],
  ])("keeps the old state when the payload %s", async (_, pieces, code) => {
    const { directory, machine } = await openFilled();
    const before = await payloadOf(machine);
    const view = await machine.capture();
    await expect(machine.restore(pieces(await payloadAt50()), at)).rejects.toMatchObject({ code });
    expect((await payloadOf(machine)).equals(before)).toBe(true);
    expect(await views(directory)).toEqual(["view-1"]);
    view.release();
    applyOperation(machine, put("on", "goes"));
    await machine.crash();
    expect(await openLmdb({ directory })).toMatchObject({ rebuilt: false, appliedIndex: 4, sessionCount: 2 });
  });

  test.each([
    { index: 49, term: 3 },
    { index: 51, term: 3 },
    { index: 50, term: 2 },
  ])("keeps the old state when the payload is not at index $index of term $term", async (position) => {
    const { directory, machine } = await openFilled();
    await expect(machine.restore(inPieces(await payloadAt50(), 100), metaAt(position))).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("holds the state at index 50 of term 3"),
    });
    expect(machine.appliedIndex).toBe(3);
    expect(await views(directory)).toEqual(["view-1"]);
  });

  test("keeps the old state when it cannot publish its environment", async () => {
    const disk = faulty("write", /^CURRENT/, new CairnError("DISK_FULL", "no space left"), false);
    const { directory, machine } = await openFilled({ fs: disk });
    const before = contents(machine);
    disk.active = true;
    await expect(machine.restore(inPieces(await payloadAt50(), 100), at)).rejects.toMatchObject({ code: "DISK_FULL" });
    disk.active = false;
    expect(contents(machine)).toEqual(before);
    expect(await views(directory)).toEqual(["view-1"]);
    await machine.restore(inPieces(await payloadAt50(), 100), at);
    expect(machine.appliedIndex).toBe(50);
  });

  test("is refused while another is in progress", async () => {
    const { machine } = await openFilled();
    const payload = await payloadAt50();
    const first = machine.restore(inPieces(payload, 100), at);
    await expect(machine.restore(inPieces(payload, 100), at)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    await first;
    expect(machine.appliedIndex).toBe(50);
  });

  test.each([
    { how: "close", stop: (machine: LmdbMachine) => machine.close(), left: ["view-1"] },
    { how: "crash", stop: (machine: LmdbMachine) => machine.crash(), left: ["view-1", "view-2"] },
  ])("ends with STOPPED at a $how, even when its payload never continues", async ({ stop, left }) => {
    const { directory, machine } = await openFilled();
    const payload = await payloadAt50();
    const stuck = (async function* () {
      yield payload.subarray(0, 200);
      await new Promise(() => {});
    })();
    const restored = machine.restore(stuck, at);
    const outcome = expect(restored).rejects.toMatchObject({ code: "STOPPED" });
    await nextTurn();
    await stop(machine);
    await outcome;
    expect(await views(directory)).toEqual(left);
    expect(await openLmdb({ directory })).toMatchObject({ rebuilt: false, appliedIndex: 3 });
    expect(await views(directory)).toEqual(["view-1"]);
  });
});

describe("a full disk under the LMDB state", () => {
  test("undoes the whole batch, in memory too, and the same entries can be applied later", async () => {
    const { machine } = await openFilled();
    const before = await payloadOf(machine);
    const retry = request("a", 1, put("a", "again"));
    const commands = [
      request("a", 2, put("k", "2"), 1),
      request("c", 1, put("c", "1")),
      { operation: put("d", "1") },
      retry,
    ];
    const entries = commands.map((command, at) => entry(4 + at, uncheckedBytes(command)));
    const reference = await openLmdb({ directory: await temporaryDirectory() });
    await reference.restore(inPieces(before, 1000), metaAt({ index: 3, term: 1 }));

    // The batch is carried out in a real transaction, and fails at its end as a commit does.
    const real = LmdbEnvironment.prototype.transaction;
    const full = vi.spyOn(LmdbEnvironment.prototype, "transaction").mockImplementationOnce(function (
      this: LmdbEnvironment,
      action,
    ) {
      return real.call(this, () => {
        action();
        throw Object.assign(new Error("No space left on device"), { code: 28 });
      }) as never;
    });
    onTestFinished(() => full.mockRestore());
    expect(() => machine.apply(entries)).toThrow(expect.objectContaining({ code: "DISK_FULL" }));
    expect(machine).toMatchObject({ appliedIndex: 3, keyCount: 3, sessionCount: 2 });
    expect((await payloadOf(machine)).equals(before)).toBe(true);

    const hexes = (from: LmdbMachine) => from.apply(entries).map(({ result }) => resultHex(result));
    expect(hexes(machine)).toEqual(hexes(reference));
    expect((await payloadOf(machine)).equals(await payloadOf(reference))).toBe(true);
  });

  test("ends opening with DISK_FULL, and not the process", async ({ skip }) => {
    const disk = mountSmallDisk();
    if (disk === undefined) return skip("only root can make a small disk");
    let failures = 0;
    // From no room at all to just enough, page by page.
    for (let pages = 0; ; pages++) {
      await fillDisk(disk, pages);
      try {
        const machine = await openLmdb({ directory: `${disk}/state` });
        skipTo(machine, 1);
        await machine.crash();
        break;
      } catch (error) {
        expect(error).toMatchObject({ code: "DISK_FULL" });
        failures++;
        await rm(`${disk}/state`, { recursive: true, force: true });
      }
    }
    expect(failures).toBeGreaterThan(20);
    expect(failures).toBeLessThan(200);
  });

  test("does not hinder readers, nor end the process when there are more of them", async ({ skip }) => {
    const disk = mountSmallDisk();
    if (disk === undefined) return skip("only root can make a small disk");
    const machine = await openLmdb({ directory: `${disk}/state` });
    // Leaves free pages in the data file, so that commits go on when the disk takes nothing more.
    applyOperation(
      machine,
      load(...Array.from({ length: 1000 }, (_, n): [string, string] => [`${n + 1000}`, "v".repeat(4000)])),
    );
    applyOperation(machine, load(["k", "v"]));
    skipTo(machine, machine.appliedIndex + 2);
    await fillDisk(disk, 0);
    const ranges: KeyRange[] = [];
    for (let n = 0; n < 200; n++) {
      skipTo(machine, machine.appliedIndex + 1);
      ranges.push(machine.range());
    }
    for (const range of ranges) expect([...range]).toHaveLength(1);
  });

  test("ends a batch and a restore with DISK_FULL", async ({ skip }) => {
    const disk = mountSmallDisk();
    if (disk === undefined) return skip("only root can make a small disk");
    const directory = `${disk}/state`;
    const machine = await openLmdb({ directory });
    const value = Buffer.alloc(1_000_000, 1);
    const next = (count: number) =>
      Array.from({ length: count }, (_, n) => {
        const at = machine.appliedIndex + 1 + n;
        return entry(at, uncheckedBytes({ operation: { case: "put", value: { key: bytes(`${at}`), value } } }));
      });
    const diskFull = expect.objectContaining({ code: "DISK_FULL" });
    for (let n = 0; n < 5; n++) machine.apply(next(1));
    const before = await payloadOf(machine);
    // More than there is room for: once far more, then one by one.
    expect(() => machine.apply(next(20))).toThrow(diskFull);
    expect(machine.appliedIndex).toBe(5);
    expect(() => {
      for (;;) machine.apply(next(1));
    }).toThrow(diskFull);
    const applied = machine.appliedIndex;
    await expect(machine.restore(inPieces(before, 100_000), metaAt({ index: 5, term: 1 }))).rejects.toThrow(diskFull);
    expect(await views(directory)).toEqual(["view-1"]);
    expect(machine.keyCount).toBe(applied);
    // Room comes back where keys are deleted and their pages used again.
    machine.apply([entry(applied + 1, uncheckedBytes({ operation: { case: "load", value: { pairs: [] } } }))]);
    skipTo(machine, applied + 2);
    machine.apply(next(1));
    expect(contents(machine)).toHaveLength(1);
  });
});

test("the LMDB state refuses readers beyond the limit with BUSY, and still serves single reads and writes", async () => {
  const machine = await openLmdb({ directory: await temporaryDirectory() });
  const ranges: KeyRange[] = [];
  const full = () => {
    for (;;) {
      applyOperation(machine, put("k", `${ranges.length}`));
      ranges.push(machine.range());
    }
  };
  expect(full).toThrow(expect.objectContaining({ code: "BUSY", message: expect.stringContaining("stateReaders") }));
  expect(ranges).toHaveLength(limits.stateReaders);
  await expect(machine.capture()).rejects.toMatchObject({ code: "BUSY" });
  applyOperation(machine, put("k", "last"));
  expect(machine.get(bytes("k"))).toMatchObject({ version: limits.stateReaders + 2 });
  expect(ranges.map((range) => range.next().value!.version)).toEqual(ranges.map((_, at) => at + 1));
  ranges[0]!.close();
  expect([...machine.range()]).toHaveLength(1);
});

test("a view or range that ended half-way retains no old pages of the LMDB state", async () => {
  const directory = await temporaryDirectory();
  const machine = await openLmdb({ directory });
  const pairs = Array.from({ length: 100 }, (_, n): [string, string] => [`key ${1000 + n}`, "v".repeat(2000)]);
  const sizeAfter = async (rounds: number) => {
    for (let round = 0; round < rounds; round++) {
      applyOperation(machine, load(...pairs));
      const view = await machine.capture();
      await view.payload()[Symbol.asyncIterator]().next();
      view.release();
      const range = machine.range();
      range.next();
      range.close();
    }
    return (await stat(`${directory}/view-1/data.mdb`)).size;
  };
  const before = await sizeAfter(10);
  expect(await sizeAfter(50)).toBeLessThan(before * 1.5);
});

test("the LMDB environment grows with the state while it is read", async () => {
  const machine = await openLmdb({ directory: await temporaryDirectory() });
  applyOperation(machine, put("first", "1"));
  const range = machine.range();
  const view = await machine.capture();
  const value = Buffer.alloc(100_000, 2);
  for (let batch = 0; batch < 20; batch++) {
    const first = machine.appliedIndex + 1;
    machine.apply(
      Array.from({ length: 20 }, (_, n) => {
        const key = bytes(`key ${first + n}`);
        return entry(first + n, uncheckedBytes({ operation: { case: "put", value: { key, value } } }));
      }),
    );
    await nextTurn();
  }
  expect(machine.keyCount).toBe(401);
  expect([...range]).toHaveLength(1);
  view.release();
  expect((await payloadOf(machine)).byteLength).toBeGreaterThan(40_000_000);
});

function changed(payload: Buffer): Buffer {
  const copy = Buffer.from(payload);
  // The tag of the first key.
  copy[24]! = 0xff;
  return copy;
}

async function* failing(payload: Buffer): AsyncGenerator<Uint8Array> {
  yield payload.subarray(0, payload.byteLength - 10);
  throw new CairnError("STORAGE_FAILED", "the sender's disk is broken");
}

/** The operating system's files, writing down the calls that change something as "kind name". */
function recording(calls: string[]): FileSystem {
  return watching((kind, name) => void calls.push(`${kind} ${name}`));
}

/** The operating system's files, one call of which fails while `active`. */
function faulty(kind: string, name: string | RegExp, error: Error, active = true): FileSystem & { active: boolean } {
  const fs = Object.assign(
    watching((k, n) => {
      if (fs.active && k === kind && (name instanceof RegExp ? name.test(n) : n === name)) throw error;
    }),
    { active },
  );
  return fs;
}

function watching(before: (kind: string, name: string) => void): FileSystem {
  const nameOf = (path: string) => path.slice(path.lastIndexOf("/") + 1);
  return {
    ...nodeFileSystem,
    async open(path, mode) {
      const file = await nodeFileSystem.open(path, mode);
      return {
        read: (buffer, position) => file.read(buffer, position),
        readNow: (buffer, position) => file.readNow(buffer, position),
        size: () => file.size(),
        truncate: (size) => file.truncate(size),
        async write(parts, position) {
          before("write", nameOf(path));
          await file.write(parts, position);
        },
        async datasync() {
          before("datasync", nameOf(path));
          await file.datasync();
        },
        renamed: (name) => file.renamed(name),
        close: () => file.close(),
        closeNow: () => file.closeNow(),
      };
    },
    async rename(from, to) {
      before("rename", nameOf(from));
      await nodeFileSystem.rename(from, to);
    },
    async syncDirectory(path) {
      before("syncDirectory", nameOf(path));
      await nodeFileSystem.syncDirectory(path);
    },
  };
}
