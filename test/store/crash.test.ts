import { describe, expect, test } from "vitest";
import { Store } from "../../src/store/store.js";
import { type CallKind, FaultyFileSystem, type Keep } from "../support/disk/faulty_fs.js";
import { Random } from "../support/random.js";
import { triesAll } from "../support/run/tries_all.js";
import { applyChange, type Change, drawLog, recordOf, StoreModel, spanOf, tinyRules } from "./store_model.js";

const directory = "/data/state";

function open(fs: FaultyFileSystem): Promise<Store> {
  return Store.open(directory, { fs, rules: tinyRules, cacheBytes: 16 * 1024 });
}

/** What a store that nothing disturbs makes of a log. */
interface Reference {
  readonly log: readonly Change[];
  /** All files that there ever were, by name: none is ever changed. */
  readonly files: Map<string, Uint8Array>;
  /** The state at each flush point, by index. */
  readonly states: Map<number, StoreModel>;
  readonly changes: number;
}

function filesOf(fs: FaultyFileSystem): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const [path, contents] of fs.image()) if (/\.(tab|man)$/.test(path)) files.set(path, contents);
  return files;
}

async function referenceOf(log: readonly Change[]): Promise<Reference> {
  const fs = new FaultyFileSystem(["/data"]);
  const store = await open(fs);
  const model = new StoreModel();
  const reference = { log, files: new Map<string, Uint8Array>(), states: new Map([[0, new StoreModel()]]) };
  let stopped = 0;
  for (const [at, change] of log.entries()) {
    applyChange(store, model, at + 1, change);
    if (store.frozen === 0) continue;
    await store.settled(0);
    stopped += store.manifest.sweeps.length;
    reference.states.set(at + 1, model.copy());
    for (const [path, contents] of filesOf(fs)) reference.files.set(path, contents);
  }
  await store.close();
  expect(stopped, "sweeps that were stopped within").toBeGreaterThan(0);
  return { ...reference, changes: fs.changes };
}

/** Carries on with the log from where the store is. `wait`: before each entry. */
async function follow(store: Store, { log, states }: Reference, wait: (store: Store) => Promise<void> | undefined) {
  const from = store.flushed.index;
  const model = states.get(from)!.copy();
  for (let index = from + 1; index <= log.length; index++) {
    await wait(store);
    applyChange(store, model, index, log[index - 1]!);
  }
  await store.settled(0);
  expect(spanOf(store)).toEqual(model.span("", undefined));
}

function expectFilesOf(fs: FaultyFileSystem, reference: Reference): void {
  for (const [path, contents] of filesOf(fs)) {
    expect(Buffer.compare(contents, reference.files.get(path) ?? Buffer.from("no such file")), path).toBe(0);
  }
}

describe("the files of a store", () => {
  test.each([1, 2, 3, 4])("are the same whatever is read, and however slow steps are (seed %i)", async (seed) => {
    const random = new Random(seed);
    const reference = await referenceOf(drawLog(random, 600));
    const fs = new FaultyFileSystem(["/data"]);
    const store = await open(fs);
    fs.onEffect = ({ kind }) => (kind === "rename" ? expectFilesOf(fs, reference) : undefined);
    await follow(store, reference, async () => {
      if (random.oneIn(4)) recordOf(store, `k${random.whole(0, 99)}`);
      if (random.oneIn(40)) spanOf(store, "k", "l5");
      if (random.oneIn(100)) await store.settled(random.whole(0, 1));
    });
    await store.close();
    fs.onEffect = undefined;
    expectFilesOf(fs, reference);
  });
});

describe("a power cut", () => {
  /** Cuts the power in the midst of the nth change of the disk, starts again, and goes on to the end of the log. */
  async function cutAt(nth: number, keep: Keep, reference: Reference, random: Random): Promise<void> {
    const fs = new FaultyFileSystem(["/data"]);
    fs.cutPowerAfter(nth);
    let store: Store | undefined;
    try {
      store = await open(fs);
      await follow(store, reference, (each) => each.settled(1));
    } catch (error) {
      if (!fs.powerIsOff) throw error;
    }
    await store?.crash();
    const after = fs.crash({ keep, random: () => random.fraction() });
    const again = await open(after);
    const state = reference.states.get(again.flushed.index);
    expect(spanOf(again)).toEqual(state!.span("", undefined));
    expectFilesOf(after, reference);
    await follow(again, reference, (each) => each.settled(1));
    await again.close();
    expectFilesOf(after, reference);
  }

  test("at any change of the disk loses nothing that a manifest named, and the next run makes the same files", async () => {
    const random = new Random(7);
    const reference = await referenceOf(drawLog(random, 140));
    for (let nth = triesAll ? 0 : random.whole(0, 3); nth < reference.changes; nth += triesAll ? 1 : 4) {
      await cutAt(nth, random.pick<Keep>(["none", "all", "random"]), reference, random);
    }
  });

  test("during the start that follows another one is no different", async () => {
    const random = new Random(8);
    const reference = await referenceOf(drawLog(random, 140));
    for (let nth = 3; nth < reference.changes; nth += triesAll ? 3 : 17) {
      const fs = new FaultyFileSystem(["/data"]);
      fs.cutPowerAfter(nth);
      const store = await open(fs);
      await follow(store, reference, (each) => each.settled(1)).catch(() => {});
      await store.crash();
      let left = fs.crash({ keep: "all" });
      for (let cut = 0; ; cut++) {
        left.cutPowerAfter(cut);
        const isOpen = await open(left).then(
          () => true,
          () => false,
        );
        if (isOpen) break;
        left = left.crash({ keep: random.pick<Keep>(["none", "all", "random"]), random: () => random.fraction() });
      }
      left = left.crash({ keep: "none" });
      const again = await open(left);
      await follow(again, reference, () => undefined);
      await again.close();
      expectFilesOf(left, reference);
    }
  });
});

describe("a step", () => {
  test.each<CallKind>(["write", "datasync", "rename", "open"])(
    "that fails at a %s is repeated, or ends the store",
    async (kind) => {
      const random = new Random(9);
      const reference = await referenceOf(drawLog(random, 200));
      for (let nth = 1; nth < 12; nth += triesAll ? 1 : 3) {
        const fs = new FaultyFileSystem(["/data"]);
        const store = await open(fs);
        fs.failCall(kind, nth);
        await follow(store, reference, (each) => each.settled(1)).catch((error) => {
          expect(error.code).toBe("STORAGE_FAILED");
          expect(store.damaged.aborted).toBe(true);
        });
        expect(store.damaged.aborted).toBe(kind === "datasync");
        await store.close();
        const again = await open(fs);
        await follow(again, reference, (each) => each.settled(1));
        await again.close();
        expectFilesOf(fs, reference);
      }
    },
  );

  test("that finds the disk full tells those who wait, and is repeated until there is room", async () => {
    const random = new Random(10);
    const reference = await referenceOf(drawLog(random, 300));
    const fs = new FaultyFileSystem(["/data"]);
    const store = await open(fs);
    let told = 0;
    fs.capacityBytes = 9_000;
    await follow(store, reference, async (each) => {
      while (each.frozen > 1) {
        await each.settled(1)?.catch((error) => {
          expect(error).toMatchObject({ code: "DISK_FULL" });
          told += 1;
          fs.capacityBytes = 1_000_000;
        });
        await new Promise(setImmediate);
      }
    });
    expect(told).toBeGreaterThan(0);
    expect(store.damaged.aborted).toBe(false);
    await store.close();
    expectFilesOf(fs, reference);
  });
});
