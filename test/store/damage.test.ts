import { describe, expect, test } from "vitest";
import { Store } from "../../src/store/store.js";
import { tableName } from "../../src/store/tables/format.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";
import { Random } from "../support/random.js";
import { applyChange, drawLog, isCorrupt, StoreModel, spanOf, tinyRules } from "./store_model.js";

const directory = "/data/state";
const open = (fs: FaultyFileSystem) => Store.open(directory, { fs, rules: tinyRules, cacheBytes: 4 * 1024 });

/** A store's directory, and the states at its flush points. */
async function written(): Promise<{ fs: FaultyFileSystem; states: Map<number, string[]> }> {
  const fs = new FaultyFileSystem(["/data"]);
  const store = await open(fs);
  const model = new StoreModel();
  const states = new Map<number, string[]>();
  for (const [at, change] of drawLog(new Random(2), 300).entries()) {
    applyChange(store, model, at + 1, change);
    await store.settled(0);
    if (store.flushed.index === at + 1) states.set(at + 1, model.span("", undefined));
  }
  await store.close();
  return { fs, states };
}

const manifestsIn = (fs: FaultyFileSystem) =>
  fs
    .names(directory)
    .filter((name) => name.endsWith(".man"))
    .sort();

describe("damage", () => {
  test("to any byte of the newest manifest is noticed, and the one before is used", async () => {
    const { fs, states } = await written();
    const [older, newest] = manifestsIn(fs);
    const { length } = fs.contents(`${directory}/${newest}`);
    for (let at = 0; at < length; at += 1 + Math.floor(length / 200)) {
      const copy = fs.peek("/data", "all");
      copy.flipBit(`${directory}/${newest}`, at, at % 8);
      const store = await open(copy);
      expect(store.flushed.index).toBe(Number.parseInt(older!, 16));
      expect(spanOf(store)).toEqual(states.get(store.flushed.index));
      expect(manifestsIn(copy)).toEqual([older]);
      await store.close();
    }
  });

  test("to both manifests ends the start, unless nothing is left of them", async () => {
    const { fs } = await written();
    for (const name of manifestsIn(fs)) {
      const contents = fs.contents(`${directory}/${name}`);
      fs.setContents(`${directory}/${name}`, contents.subarray(0, contents.length / 2));
    }
    await expect(open(fs)).rejects.toSatisfy(isCorrupt);
    expect(fs.openFiles).toEqual([]);
    for (const name of manifestsIn(fs)) await fs.unlink(`${directory}/${name}`);
    const store = await open(fs);
    expect(store.flushed).toEqual({ index: 0, term: 0 });
    expect(fs.names(directory)).toEqual([]);
    await store.close();
  });

  test("by a table that is missing, or has another's contents, is noticed at the start", async () => {
    const { fs, states } = await written();
    const tables = fs.names(directory).filter((name) => name.endsWith(".tab"));
    expect(tables.length).toBeGreaterThan(3);
    for (const name of tables) {
      for (const kind of ["missing", "another"] as const) {
        const copy = fs.peek("/data", "all");
        const other = tables.find((each) => each !== name)!;
        if (kind === "missing") await copy.unlink(`${directory}/${name}`);
        else copy.setContents(`${directory}/${name}`, copy.contents(`${directory}/${other}`));
        const index = await open(copy).then(
          async (store) => {
            expect(spanOf(store)).toEqual(states.get(store.flushed.index));
            await store.close();
            return store.flushed.index;
          },
          (error) => {
            expect(error).toSatisfy(isCorrupt);
            return -1;
          },
        );
        expect(index).toBeLessThanOrEqual(Math.max(...states.keys()));
      }
    }
  });

  test("to a table is told to the reader and to the machine", async () => {
    const { fs } = await written();
    const store = await open(fs);
    const [table] = store.manifest.levels.flatMap((runs) => runs.flatMap(({ tables }) => tables));
    fs.flipBit(`${directory}/${tableName(table!.number)}`, 100, 3);
    expect(() => spanOf(store)).toThrow(/damaged/);
    expect(store.damaged.aborted).toBe(true);
    expect(store.damaged.reason).toSatisfy(isCorrupt);
    await store.close();
  });
});
