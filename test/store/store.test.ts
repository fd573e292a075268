import { describe, expect, test } from "vitest";
import { Store } from "../../src/store/store.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";
import { Random } from "../support/random.js";
import { applyChange, drawLog, modelRecordOf, recordOf, StoreModel, smallRules, spanOf } from "./store_model.js";

const directory = "/data/state";

function expectSame(store: Store, model: StoreModel, random: Random): void {
  expect(spanOf(store)).toEqual(model.span("", undefined));
  const start = random.pick(["k", "k1", "l", "l05", "o"]);
  const end = random.pick(["k2", "l", "l9", "o2", "p"]);
  expect(spanOf(store, start, end)).toEqual(model.span(start, end));
  for (const key of [...model.records.keys(), "k", "k0", "l77", "o999999", "p"]) {
    expect(recordOf(store, key)).toBe(modelRecordOf(model, key));
  }
}

/** Writes some, and takes it back before anything was frozen. */
function applyAndTakeBack(store: Store, model: StoreModel, index: number, random: Random): void {
  const { charge } = store;
  const mark = store.mark();
  const scratch = model.copy();
  for (const change of drawLog(random, 5)) {
    if (change.kind === "drain" || store.charge > smallRules.flushBytes - 700) break;
    applyChange(store, scratch, index, change);
  }
  store.rollback(mark);
  expect(store.charge).toBe(charge);
}

describe("a store", () => {
  test.each([0, 1, 2, 3])("holds what a map holds, and tells which writes made a key (seed %i)", async (seed) => {
    const random = new Random(seed);
    const log = drawLog(random, 700);
    const fs = new FaultyFileSystem(["/data"]);
    const store = await Store.open(directory, { fs, rules: smallRules, cacheBytes: 16 * 1024 });
    const model = new StoreModel();
    /** Blind puts of which the store could not say whether the key existed, and the truth. */
    const unresolved = new Map<number, boolean>();
    let resolved = 0;
    store.onWritten(({ position, created }) => {
      for (const [version, existed] of [...unresolved].filter(([each]) => each <= position.index)) {
        expect(created?.includes(version), `entry ${version}`).toBe(!existed);
        unresolved.delete(version);
        resolved += 1;
      }
    });
    for (const [at, change] of log.entries()) {
      const index = at + 1;
      const steps = store.manifest.step;
      if (random.oneIn(10)) applyAndTakeBack(store, model, index, random);
      const answer = applyChange(store, model, index, change);
      // What made a key that is gone with its whole keyspace, nobody can tell.
      if (change.kind === "clear") for (const version of unresolved.keys()) unresolved.delete(version);
      if (answer?.said === "unknown") {
        unresolved.set(index, answer.existed);
        if (change.kind === "blind" && random.oneIn(4)) {
          expect(store.existedBefore(Buffer.from(change.key), index)).toBe(answer.existed);
        }
      } else if (answer !== undefined) {
        expect(answer.said).toBe(answer.existed ? "yes" : "no");
      }
      if (random.oneIn(3)) await store.settled(random.whole(0, 1));
      if (store.manifest.step !== steps || random.oneIn(100)) expectSame(store, model, random);
    }
    await store.settled(0);
    expectSame(store, model, random);
    expect(store.manifest.step).toBeGreaterThan(5);
    expect(resolved).toBeGreaterThan(20);
    expect([...unresolved.keys()].filter((version) => version <= store.flushed.index)).toEqual([]);
    expect(store.damaged.aborted).toBe(false);
    await store.close();
    expect(fs.openFiles).toEqual([]);
  });

  test("reads no file for what was prepared", async () => {
    const random = new Random(3);
    const fs = new FaultyFileSystem(["/data"]);
    const store = await Store.open(directory, { fs, rules: smallRules, cacheBytes: 1024 * 1024 });
    const model = new StoreModel();
    for (const [at, change] of drawLog(random, 500).entries()) {
      applyChange(store, model, at + 1, change);
      await store.settled(0);
    }
    const keys = [...model.records.keys(), "k", "l3x", "zzz"];
    await store.prepare(keys.map((key) => Buffer.from(key)));
    const reads = fs.calls.read + fs.calls.readNow;
    for (const key of keys) expect(recordOf(store, key)).toBe(modelRecordOf(model, key));
    expect(fs.calls.read + fs.calls.readNow).toBe(reads);
    expect(store.prepare(keys.map((key) => Buffer.from(key)))).toBeUndefined();
    await store.prepareRange(Buffer.from("k"), Buffer.from("l"));
    await store.close();
    await expect(store.settled(-1)).rejects.toMatchObject({ code: "CANCELLED" });
  });
});
