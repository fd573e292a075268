import { expect, test } from "vitest";
import type { StoreView } from "../../src/store/reads.js";
import { Store } from "../../src/store/store.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";
import { Random } from "../support/random.js";
import { applyChange, drawLog, modelRecordOf, recordOf, StoreModel, spanOf, tinyRules } from "./store_model.js";

const directory = "/data/state";

interface Captured {
  readonly view: StoreView;
  readonly model: StoreModel;
}

function expectAsCaptured({ view, model }: Captured, random: Random): void {
  expect(spanOf(view)).toEqual(model.span("", undefined));
  for (let key = 0; key < 5; key++) {
    const name = `k${random.whole(0, 99)}`;
    expect(recordOf(view, name)).toBe(modelRecordOf(model, name));
  }
}

test.each([1, 2, 3])("a view stays as it was captured, and only then do its files go (seed %i)", async (seed) => {
  const random = new Random(seed);
  const fs = new FaultyFileSystem(["/data"]);
  const store = await Store.open(directory, { fs, rules: tinyRules, cacheBytes: 16 * 1024 });
  const model = new StoreModel();
  const captured: Captured[] = [];
  const log = drawLog(random, 500);
  // A whole keyspace goes while views of it are open.
  log[250] = { kind: "clear", firstByte: "k".charCodeAt(0) };
  for (const [at, change] of log.entries()) {
    applyChange(store, model, at + 1, change);
    if (random.oneIn(4)) await store.settled(random.whole(0, 1));
    if (random.oneIn(20) || at === 249) {
      captured.push({ view: store.capture({ index: at + 1, term: 1 }), model: model.copy() });
    }
    if (captured.length > 0 && random.oneIn(15)) expectAsCaptured(random.pick(captured), random);
    if (captured.length > 6) {
      const [oldest] = captured.splice(random.whole(0, 5), 1);
      expectAsCaptured(oldest!, random);
      oldest!.view.release();
    }
  }
  await store.settled(0);
  for (const each of captured) {
    expectAsCaptured(each, random);
    each.view.release();
    each.view.release();
  }
  await store.removed();
  const left = fs.names(directory).sort();
  expect(left.filter((name) => name.endsWith(".man"))).toHaveLength(2);
  await store.close();

  // Nothing is left that the next start would remove.
  const again = await Store.open(directory, { fs, rules: tinyRules });
  expect(fs.names(directory).sort()).toEqual(left);
  await again.close();
});

test("a range of a view continues while the state changes", async () => {
  const fs = new FaultyFileSystem(["/data"]);
  const store = await Store.open(directory, { fs, rules: tinyRules });
  const random = new Random(4);
  const log = drawLog(random, 400);
  const model = new StoreModel();
  for (const [at, change] of log.slice(0, 200).entries()) applyChange(store, model, at + 1, change);
  const view = store.capture({ index: 200, term: 1 });
  const expected = model.span("", undefined);
  let next = 200;
  const found: string[] = [];
  for (const { key } of view.range(Buffer.from(""), undefined)) {
    found.push(Buffer.from(key).toString("latin1"));
    if (next === log.length) continue;
    applyChange(store, model, next + 1, log[next]!);
    next += 1;
    await store.settled(0);
  }
  expect(found).toEqual(expected.map((record) => record.split("=")[0]));
  view.release();
  await store.close();
});
