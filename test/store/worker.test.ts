import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, onTestFinished, test } from "vitest";
import { inlineRunner, type MakeRunner } from "../../src/store/steps/runner.js";
import { StepControl } from "../../src/store/steps/step_control.js";
import { WorkerRunner, workerRunner } from "../../src/store/steps/worker_runner.js";
import { Store } from "../../src/store/store.js";
import { nodeFileSystem } from "../../src/system/fs.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { Random } from "../support/random.js";
import { applyChange, drawLog, StoreModel, smallRules, spanOf } from "./store_model.js";

const rules = { ...smallRules, flushBytes: 8 * 1024, tableBytesMin: 4 * 1024, tableBytesMax: 8 * 1024 };

/** Applies a log to a store on the real disk; returns the store's files by name. */
async function filesBy(runner: MakeRunner, entries = 700): Promise<Map<string, Buffer>> {
  const directory = `${await temporaryDirectory()}/store`;
  const store = await Store.open(directory, { fs: nodeFileSystem, rules, runner });
  onTestFinished(() => store.close());
  const model = new StoreModel();
  for (const [at, change] of drawLog(new Random(5), entries).entries()) {
    await store.settled(1);
    applyChange(store, model, at + 1, change);
  }
  await store.settled(0);
  expect(spanOf(store)).toEqual(model.span("", undefined));
  await store.removed();
  expect(store.manifest.step).toBeGreaterThan(4);
  return new Map(readdirSync(directory).map((name) => [name, readFileSync(`${directory}/${name}`)]));
}

describe("a worker thread", () => {
  test("makes the same files as steps on the same thread", async () => {
    expect(await filesBy(workerRunner)).toEqual(await filesBy(inlineRunner));
  });

  test("that dies is replaced, and the step repeated", async () => {
    const deaths = new Set<number>();
    const runner: MakeRunner = (_fs, directory) => {
      const good = new WorkerRunner(directory);
      const bad = new WorkerRunner(directory, new URL("dying_worker.mjs", import.meta.url));
      return {
        progress: 1,
        hurry() {},
        async run(task) {
          const { step } = task.manifest;
          if (step % 2 === 0 || deaths.has(step)) return good.run(task);
          deaths.add(step);
          return bad.run(task);
        },
        close: async () => {
          await good.close();
          await bad.close();
        },
      };
    };
    expect(await filesBy(runner)).toEqual(await filesBy(inlineRunner));
    expect(deaths.size).toBeGreaterThan(1);
  });

  test("that dies three times in one step ends the store", async () => {
    const directory = `${await temporaryDirectory()}/store`;
    const runner: MakeRunner = () => new WorkerRunner(directory, new URL("dying_worker.mjs", import.meta.url));
    const store = await Store.open(directory, { fs: nodeFileSystem, rules, runner });
    onTestFinished(() => store.close());
    store.putBlind(Buffer.from("key"), Buffer.from("value"), 1, 0);
    store.freeze({ index: 1, term: 1 }, Buffer.from("note"), false);
    await expect(store.settled(0)).rejects.toThrow("killed by the test");
    expect(store.damaged.aborted).toBe(true);
    await expect(store.settled(0)).rejects.toThrow("killed by the test");
  });
});

describe("the pace of a step", () => {
  test("keeps to its rate, unless it is urgent", async () => {
    const control = new StepControl();
    expect(control.pace(1e9)).toBeUndefined();
    control.bytesPerSecond = 1024 * 1024;
    const startedMs = performance.now();
    await control.pace(50 * 1024);
    await control.pace(50 * 1024);
    expect(performance.now() - startedMs).toBeGreaterThan(90);
    const waiting = control.pace(1e9);
    control.isUrgent = true;
    await waiting;
    expect(control.pace(1e9)).toBeUndefined();
  });
});
