import { describe, expect, test } from "vitest";
import { Store } from "../../src/store/store.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";
import { Random } from "../support/random.js";
import { smallRules, spanOf } from "./store_model.js";

const directory = "/data/state";
const note = Buffer.from("note");
const keyOf = (number: number) => Buffer.from(`k${String(number).padStart(6, "0")}`);
const value = Buffer.alloc(100, "v");

/** A store with so many keys, written in a random order. */
async function filled(
  keys: number,
  rules = smallRules,
): Promise<{ fs: FaultyFileSystem; store: Store; index: number }> {
  const fs = new FaultyFileSystem(["/data"]);
  const store = await Store.open(directory, { fs, rules });
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
  return { fs, store, index };
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
    const { fs, store, index } = await filled(800, {
      ...smallRules,
      ...{ fanOut: 6, baseRuns: 4, sweepFlushes: 8, tableBytesMin: 2048, tableBytesMax: 4096 },
    });
    const random = new Random(1);
    let written = 0;
    let spaces = 0;
    let peak = 0;
    let steps = 0;
    for (let at = 1; at <= 3000; at++) {
      store.put(keyOf(random.whole(0, 799)), value, index + at, 1, 0);
      if (!store.isDue) continue;
      const before = new Set(fs.names(directory));
      store.freeze({ index: index + at, term: 1 }, note, false);
      await store.settled(0);
      for (const name of fs.names(directory)) {
        if (name.endsWith(".tab") && !before.has(name)) written += fs.contents(`${directory}/${name}`).length;
      }
      const named = [...store.manifest.levels.flat(), store.manifest.base].flatMap(({ tables }) => tables);
      const space = named.reduce((sum, { bytes }) => sum + bytes, 0) / (800 * 131);
      spaces += space;
      peak = Math.max(peak, space);
      steps += 1;
    }
    await store.close();
    console.log(written / (3000 * 131), spaces / steps, peak);
    expect(written / (3000 * 131)).toBeLessThan(5);
    expect(spaces / steps).toBeLessThan(2);
    expect(peak).toBeLessThan(3);
  });

  test("nothing twice when keys ascend: tables that nothing overlaps are moved", async () => {
    const fs = new FaultyFileSystem(["/data"]);
    const store = await Store.open(directory, { fs, rules: smallRules });
    const seen = new Set<string>();
    for (let key = 0; key < 1000; key++) {
      store.putBlind(keyOf(key), value, key + 1, 0);
      await freezeIfDue(store, key + 1);
      for (const name of fs.names(directory)) seen.add(name);
    }
    console.log(
      [...seen].filter((name) => name.endsWith(".tab")).length,
      store.manifest.nextTable,
      store.manifest.step,
    );
    expect(spanOf(store)).toHaveLength(1000);
    await store.close();
  });
});
