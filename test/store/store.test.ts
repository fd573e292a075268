import { describe, expect, test } from "vitest";
import { Store } from "../../src/store/store.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";
import { Random } from "../support/random.js";
import { applyChange, drawLog, modelRecordOf, recordOf, StoreModel, smallRules, spanOf } from "./store_model.js";

const directory = "/data/state";

function open(fs: FaultyFileSystem): Promise<Store> {
  return Store.open(directory, { fs, rules: smallRules, cacheBytes: 16 * 1024 });
}

function expectSame(store: Store, model: StoreModel, random: Random): void {
  expect(spanOf(store)).toEqual(model.span("", undefined));
  const start = random.pick(["k", "k1", "l", "l05", "o"]);
  const end = random.pick(["k2", "l", "l9", "o2", "p"]);
  expect(spanOf(store, start, end)).toEqual(model.span(start, end));
  for (const key of [...model.records.keys(), "k", "k0", "l77", "o999999", "p"]) {
    expect(recordOf(store, key)).toBe(modelRecordOf(model, key));
  }
}

describe("a store", () => {
  test.each(Array.from({ length: 4 }, (_, seed) => seed))(
    "holds what a map holds, after each step (seed %i)",
    async (seed) => {
      const random = new Random(seed);
      const log = drawLog(random, 700);
      const fs = new FaultyFileSystem(["/data"]);
      const store = await open(fs);
      const model = new StoreModel();
      for (const [at, change] of log.entries()) {
        const steps = store.manifest.step;
        applyChange(store, model, at + 1, change);
        if (random.oneIn(3)) await store.settled(random.whole(0, 1));
        if (store.manifest.step !== steps || random.oneIn(100)) expectSame(store, model, random);
      }
      await store.settled(0);
      expectSame(store, model, random);
      expect(store.manifest.step).toBeGreaterThan(10);
      expect(store.damaged.aborted).toBe(false);
      await store.close();
      expect(fs.openFiles).toEqual([]);
    },
  );
});
