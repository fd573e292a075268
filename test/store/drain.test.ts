import { describe, expect, test } from "vitest";
import { tablesOf } from "../../src/store/levels/manifest.js";
import type { StoreRules } from "../../src/store/rules/rules.js";
import { inlineRunner, type MakeRunner } from "../../src/store/steps/runner.js";
import { Store } from "../../src/store/store.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";
import { Random } from "../support/random.js";
import { smallRules, spanOf } from "./store_model.js";

const directory = "/data/state";
const note = Buffer.from("note");
const keyOf = (number: number) => Buffer.from(`k${String(number).padStart(6, "0")}`);
const value = Buffer.alloc(100, "v");
/** Of a key and value above, on disk. */
const RECORD_BYTES = 131;

/** A store whose written bytes are counted. */
async function opened(fs: FaultyFileSystem, rules: StoreRules) {
  const written = { bytes: 0 };
  const runner: MakeRunner = (...place) => {
    const { run, ...others } = inlineRunner(...place);
    return {
      ...others,
      async run(task) {
        const outcome = await run(task);
        written.bytes += outcome.writtenBytes;
        return outcome;
      },
    };
  };
  return { store: await Store.open(directory, { fs, rules, runner }), written };
}

/** A store with so many keys, written in a random order. */
async function filled(keys: number, rules: StoreRules = smallRules) {
  const fs = new FaultyFileSystem(["/data"]);
  const { store, written } = await opened(fs, rules);
  const random = new Random(keys);
  const order = Array.from({ length: keys }, (_, key) => key);
  for (let at = keys - 1; at > 0; at--) {
    const other = random.whole(0, at);
    [order[at], order[other]] = [order[other]!, order[at]!];
  }
  let index = 0;
  for (const key of order) {
    index += 1;
    store.putBlind(keyOf(key), value, index, 0);
    await freezeIfDue(store, index);
  }
  return { fs, store, index, written };
}

async function freezeIfDue(store: Store, index: number): Promise<void> {
  if (!store.isDue) return;
  store.freeze({ index, term: 1 }, note, false);
  await store.settled(0);
}

/** Flush points as the leader asks for them while there are no writes. Returns their number. */
async function drain(store: Store, index: number): Promise<number> {
  let count = 0;
  while (store.wantsDrain || store.wantsFlush) {
    store.freeze({ index: index + ++count, term: 1 }, note, store.wantsDrain);
    await store.settled(0);
  }
  return count;
}

describe("draining", () => {
  test("frees the directory after all keys were deleted", async () => {
    const { fs, store, index } = await filled(1000);
    const full = fs.usedBytes;
    for (let key = 0; key < 1000; key++) {
      store.delete(keyOf(key), index + key + 1);
      await freezeIfDue(store, index + key + 1);
    }
    expect(store.wantsDrain).toBe(true);
    expect(await drain(store, index + 1000)).toBeGreaterThan(1);
    await store.removed();
    expect(full).toBeGreaterThan(100_000);
    expect(fs.usedBytes).toBeLessThan(2 * smallRules.flushBytes);
    expect(spanOf(store)).toEqual([]);
    await store.close();
  });

  test("is wanted for deletes that no flush point has written yet", async () => {
    const { store, index } = await filled(100, { ...smallRules, flushBytes: 1 << 20 });
    store.freeze({ index: index + 1, term: 1 }, note, false);
    await store.settled(0);
    expect(store.wantsDrain).toBe(false);
    for (let key = 0; key < 100; key++) store.delete(keyOf(key), index + 2 + key);
    expect(store.isDue).toBe(false);
    expect(store.wantsDrain).toBe(true);
    expect(await drain(store, index + 200)).toBe(1);
    expect(store.recordsAbout).toBe(0);
    await store.close();
  });

  test("frees the directory after a keyspace was cleared at once", async () => {
    const { fs, store, index } = await filled(500);
    store.raiseFloor("k".charCodeAt(0), index + 1);
    store.putBlind(keyOf(1), value, index + 2, 0);
    store.freeze({ index: index + 2, term: 1 }, note, false);
    await store.settled(0);
    expect(store.wantsDrain).toBe(true);
    expect(spanOf(store)).toHaveLength(1);
    await drain(store, index + 2);
    await store.removed();
    expect(fs.usedBytes).toBeLessThan(2 * smallRules.flushBytes);
    expect(spanOf(store)).toHaveLength(1);
    await store.close();
  });

  test("is not wanted for a few deletes, nor without any", async () => {
    const { store, index } = await filled(300);
    await drain(store, index);
    expect(store.wantsDrain).toBe(false);
    for (let key = 0; key < 10; key++) store.delete(keyOf(key), index + 1000 + key);
    store.freeze({ index: index + 1010, term: 1 }, note, false);
    await store.settled(0);
    expect(store.wantsDrain).toBe(false);
    await store.close();
  });
});

describe("the store writes", () => {
  test("each record a few times, and takes little more room than the state", async () => {
    const rules = {
      ...smallRules,
      ...{ fanOut: 6, baseRuns: 4, sweepFlushes: 8, tableBytesMin: 2048, tableBytesMax: 4096 },
    };
    const { store, index, written } = await filled(800, rules);
    const random = new Random(1);
    const spaces: number[] = [];
    written.bytes = 0;
    for (let at = 1; at <= 3000; at++) {
      store.put(keyOf(random.whole(0, 799)), value, index + at, 1, 0);
      await freezeIfDue(store, index + at);
      const named = [...tablesOf(store.manifest)].reduce((sum, { bytes }) => sum + bytes, 0);
      spaces.push(named / (800 * RECORD_BYTES));
    }
    await store.close();
    // So small tables take more for their indexes and filters than for some records.
    const tables = [...tablesOf(store.manifest)];
    const records = tables.reduce((sum, table) => sum + table.records, 0);
    const recordBytes = tables.reduce((sum, table) => sum + table.bytes, 0) / records;
    expect(written.bytes / (3000 * recordBytes)).toBeLessThan(4.3);
    expect(spaces.reduce((sum, each) => sum + each, 0) / spaces.length).toBeLessThan(2);
    expect(Math.max(...spaces)).toBeLessThan(2.5);
  });

  test("nearly nothing twice when keys ascend: tables that nothing overlaps are moved", async () => {
    const fs = new FaultyFileSystem(["/data"]);
    const { store, written } = await opened(fs, smallRules);
    for (let key = 0; key < 1000; key++) {
      store.putBlind(keyOf(key), value, key + 1, 0);
      await freezeIfDue(store, key + 1);
    }
    expect(written.bytes / (1000 * RECORD_BYTES)).toBeLessThan(2);
    expect(spanOf(store)).toHaveLength(1000);
    await store.close();
  });
});
