import { createHash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import type { KeyValueMachine } from "../../src/machine/kv/key_value_machine.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { LmdbMachine } from "../../src/machine/lmdb_machine.js";
import { StoreMachine } from "../../src/machine/store_machine.js";
import type { Entry } from "../../src/raft/types.js";
import { storeFactory } from "../../src/store/store.js";
import { nodeFileSystem } from "../../src/system/fs.js";
import { manyTurns, until } from "../support/conditions.js";
import { FaultyFileSystem, type Keep } from "../support/disk/faulty_fs.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import {
  bytes,
  type CommandInit,
  cas,
  contents,
  del,
  entry,
  flushPoint,
  getCommand,
  grant,
  inPieces,
  leasedPut,
  leasesOf,
  metaAt,
  newest,
  openStore,
  payloadOf,
  put,
  request,
  storeOptions,
  TINY_RULES,
  uncheckedBytes,
} from "../support/machines/machines.js";
import { Random } from "../support/random.js";
import { runs } from "../support/run/tries_all.js";
import { ModelStores } from "../support/store/model_store.js";

const PATH = "/data/state";

function disk(): FaultyFileSystem {
  return new FaultyFileSystem(["/data"]);
}

/** A log of commands of all kinds on few keys. */
function drawLog(random: Random, length: number): Entry[] {
  return Array.from({ length }, (_, at) => entry(at + 1, uncheckedBytes(drawCommand(random, at + 1)), 1));
}

function drawCommand(random: Random, index: number): CommandInit {
  const key = `key ${random.whole(0, 60)}`;
  const value = "v".repeat(random.whole(0, 80));
  switch (random.whole(0, 9)) {
    case 0:
      return newest(index < 100 ? put(key, value) : grant());
    case 1:
      return newest(leasedPut(key, value, random.whole(1, index)));
    case 2:
      return { operation: del(key) };
    case 3:
      return { operation: cas(key, random.whole(0, index), value, true) };
    case 4:
      return request(
        `client ${random.whole(0, 5)}`,
        index,
        put(key, value),
        Math.max(0, index - random.whole(1, 20)),
        index - 1,
      );
    default:
      return { operation: put(key, value) };
  }
}

async function applyAll(machine: KeyValueMachine, entries: readonly Entry[], size = 5): Promise<void> {
  for (let from = 0; from < entries.length; from += size) {
    const batch = entries.slice(from, from + size);
    await machine.prepare?.(batch);
    machine.apply(batch);
  }
}

async function memoryAt(entries: readonly Entry[], index: number): Promise<MemoryMachine> {
  const machine = new MemoryMachine();
  await applyAll(machine, entries.slice(0, index));
  return machine;
}

async function expectSame(machine: StoreMachine, reference: MemoryMachine): Promise<void> {
  expect(machine.appliedIndex).toBe(reference.appliedIndex);
  expect(contents(machine)).toEqual(contents(reference));
  expect(leasesOf(machine)).toEqual(leasesOf(reference));
  expect((await payloadOf(machine)).equals(await payloadOf(reference))).toBe(true);
}

/** The files of a machine's store, but for the newest steps: those that all have. */
function storeFiles(fs: FaultyFileSystem): Map<string, string> {
  const files = [...fs.image()].filter(([path]) => path.startsWith(`${PATH}/store-`));
  return new Map(
    files.map(([path, data]) => [path.replace(/store-\d+/, "store"), createHash("sha256").update(data).digest("hex")]),
  );
}

describe("a machine on a store", () => {
  test.each([1, 2, 3])("is at a flush point after a power failure, wherever that comes (seed %i)", async (seed) => {
    const random = new Random(seed);
    const entries = drawLog(random, 250);
    const half = await memoryAt(entries, 120);
    const halfPayload = await payloadOf(half);
    const play = async (fs: FaultyFileSystem) => {
      const machine = await StoreMachine.open(storeOptions({ fs }));
      try {
        await applyAll(machine, entries.slice(0, 90));
        await machine.restore(inPieces(halfPayload, 1000), metaAt({ index: 120, term: 1 }));
        await applyAll(machine, entries.slice(120));
      } finally {
        await machine.crash().catch(() => undefined);
      }
    };
    const whole = disk();
    await play(whole);
    for (let tries = 0; tries < runs(15, 60); tries++) {
      const fs = disk();
      fs.cutPowerAfter(random.whole(0, whole.changes - 1));
      // The power may also go off in the last step, of which nobody hears.
      await play(fs).catch(() => expect(fs.powerIsOff).toBe(true));
      const after = fs.crash({
        keep: random.pick<Keep>(["none", "all", "random"]),
        random: () => random.whole(0, 999) / 1000,
      });
      if (after.names("/data").length === 0) continue;
      const machine = await openStore(storeOptions({ fs: after }));
      await expectSame(machine, await memoryAt(entries, machine.appliedIndex));
      await applyAll(machine, entries.slice(machine.appliedIndex));
      await expectSame(machine, await memoryAt(entries, 250));
    }
  });

  test("has files that are a function of the log, however it was cut, stopped and read", async () => {
    const random = new Random(7);
    const entries = drawLog(random, 200);
    entries.push(entry(201, uncheckedBytes(newest(flushPoint()))));
    const play = async (size: number, isDisturbed: boolean) => {
      const fs = disk();
      let machine = await openStore(storeOptions({ fs }));
      while (machine.appliedIndex < 201) {
        const batch = entries.slice(machine.appliedIndex, machine.appliedIndex + size);
        await machine.prepare(batch);
        machine.apply(batch);
        if (!isDisturbed) continue;
        if (random.oneIn(8)) machine.history.keepRecords();
        if (random.oneIn(3)) machine.history.effects([machine.history.since, machine.appliedIndex]);
        if (random.oneIn(3)) contents(machine);
        if (random.oneIn(8)) {
          await machine.crash();
          machine = await openStore(storeOptions({ fs }));
        }
      }
      await manyTurns();
      await machine.close();
      return storeFiles(fs);
    };
    const expected = await play(10, false);
    expect(expected.size).toBeGreaterThan(3);
    expect(await play(1, true)).toEqual(expected);
    expect(await play(37, true)).toEqual(expected);
  });

  test("reads no file while it applies what it has prepared for", async () => {
    const random = new Random(3);
    const entries = drawLog(random, 600);
    const fs = disk();
    const stores = storeFactory({ fs, rules: TINY_RULES, cacheBytes: 64 * 1024 });
    const machine = await openStore({ directory: PATH, fs, stores });
    let prepared = 0;
    for (let from = 0; from < entries.length; from += 4) {
      const batch = entries.slice(from, from + 4);
      batch.push(entry(batch.at(-1)!.index + 1, uncheckedBytes({ operation: getCommand("key 1") })));
      batch.length = Math.min(batch.length, 4);
      // A step that ends between the two may put tables in force whose pages are not loaded.
      await nextTurn();
      const waiting = machine.prepare(batch);
      if (waiting !== undefined) prepared++;
      await waiting;
      const before = fs.calls.readNow;
      machine.apply(batch);
      expect(fs.calls.readNow).toBe(before);
    }
    expect(prepared).toBeGreaterThan(0);
  });

  test("finds a damaged table when it reads, and is rebuilt by the next start", async () => {
    const fs = disk();
    const machine = await openStore(storeOptions({ fs }));
    await applyAll(machine, drawLog(new Random(5), 400));
    await machine.close();
    const tables = [...fs.image().keys()].filter((path) => path.endsWith(".tab"));
    const again = await openStore(storeOptions({ fs }));
    for (const path of tables) if (fs.image().has(path)) fs.flipBit(path, 40);
    expect(() => contents(again)).toThrow(expect.objectContaining({ code: "CORRUPT" }));
    expect(again.damaged.aborted).toBe(true);
    expect(() => again.get(bytes("key 1"))).toThrow(expect.objectContaining({ code: "CORRUPT" }));
    await again.close();
    const third = await openStore(storeOptions({ fs }));
    expect(third).toMatchObject({ appliedIndex: 0, rebuilt: true });
    expect(third.rebuildReason).toContain("found damaged before");
    await third.close();
    expect((await openStore(storeOptions({ fs }))).rebuilt).toBe(false);
  });

  test("is rebuilt when the caller wants that, or its pointer is damaged", async () => {
    const fs = disk();
    const machine = await openStore(storeOptions({ fs }));
    await applyAll(machine, drawLog(new Random(5), 200));
    await machine.close();
    const second = await openStore(storeOptions({ fs }));
    expect(second.appliedIndex).toBeGreaterThan(100);
    await second.close();
    const third = await openStore(storeOptions({ fs, trust: "rebuild" }));
    expect(third).toMatchObject({ appliedIndex: 0, rebuildReason: "the caller wants it rebuilt" });
    await third.close();
    fs.flipBit(`${PATH}/STORE`, 20);
    const fourth = await openStore(storeOptions({ fs }));
    expect(fourth.rebuildReason).toBe(`${PATH}/STORE is damaged`);
    expect(fs.names(PATH).sort()).toEqual(["STORE", expect.stringMatching(/^store-\d+$/)]);
  });

  test("takes the place of a state in LMDB, and gives it up again", async () => {
    const directory = await temporaryDirectory();
    const stores = storeFactory({ fs: nodeFileSystem, rules: TINY_RULES, cacheBytes: 16 * 1024 });
    const names = () => nodeFileSystem.list(directory).then((found) => found.sort());
    const lmdb = await LmdbMachine.open({ directory });
    await lmdb.close();
    expect(await names()).toEqual(["CURRENT", "view-1"]);
    const machine = await openStore({ directory, stores });
    expect(machine.rebuildReason).toContain("LMDB");
    await machine.close();
    expect(await names()).toEqual(["STORE", "store-1"]);
    const back = await LmdbMachine.open({ directory });
    onTestFinished(() => back.crash());
    expect(back.rebuilt).toBe(true);
    expect(await names()).toEqual(["CURRENT", "view-1"]);
  });

  test("keeps a replaced store until its views are released", async () => {
    const fs = disk();
    const machine = await openStore(storeOptions({ fs }));
    await applyAll(machine, drawLog(new Random(5), 200));
    const expected = await payloadOf(machine);
    const view = await machine.capture();
    const empty = await payloadOf(new MemoryMachine());
    await machine.restore(inPieces(empty, 100), metaAt({ index: 0, term: 0 }));
    expect(fs.names(PATH)).toContain("store-1");
    const pieces: Buffer[] = [];
    for await (const piece of view.payload()) pieces.push(Buffer.from(piece));
    expect(Buffer.concat(pieces).equals(expected)).toBe(true);
    view.release();
    await until(() => !fs.names(PATH).includes("store-1"), "the replaced store is removed");
    expect(contents(machine)).toEqual([]);
  });

  test("leaves the present state alone when a snapshot is damaged", async () => {
    const fs = disk();
    const machine = await openStore(storeOptions({ fs }));
    const entries = drawLog(new Random(5), 200);
    await applyAll(machine, entries);
    const payload = await payloadOf(machine);
    const restoring = machine.restore(inPieces(payload.subarray(0, -1), 100), metaAt({ index: 200, term: 1 }));
    await expect(restoring).rejects.toMatchObject({ code: "CORRUPT" });
    await expectSame(machine, await memoryAt(entries, 200));
    expect(fs.names(PATH).filter((name) => name.startsWith("store-"))).toEqual(["store-1"]);
  });

  test("counts its keys, exactly once its tables are written", async () => {
    const stores = new ModelStores({ flushBytes: 500 });
    const machine = await openStore({ directory: await temporaryDirectory(), stores });
    const entries = drawLog(new Random(9), 300);
    entries.push(entry(301, uncheckedBytes(newest(flushPoint()))));
    await applyAll(machine, entries);
    await stores.opened.at(-1)!.settled(0);
    expect(machine.keyCount).toBe((await memoryAt(entries, 301)).keyCount);
  });

  test("asks for a flush point that drains, and passes it on", async () => {
    const stores = new ModelStores();
    const machine = await openStore({ directory: await temporaryDirectory(), stores });
    await applyAll(machine, [
      entry(1, uncheckedBytes({ operation: put("k", "v") })),
      entry(2, uncheckedBytes(newest(flushPoint(true)))),
      entry(3, uncheckedBytes(newest(flushPoint(false)))),
    ]);
    expect(stores.opened[0]!.freezes).toEqual([
      { index: 2, drain: true },
      { index: 3, drain: false },
    ]);
    expect(machine.upkeep).toEqual({ isWanted: false, drains: false, charge: 0 });
  });
});
