import { describe, expect, test } from "vitest";
import { bytesOf, CrashModel, type Operation, type ReadKey, type Value } from "./crash_model.js";

const A: Value = { write: 1, bytes: 10 };
const B: Value = { write: 2, bytes: 10 };

describe("the model of a node under crashes", () => {
  test("accepts the last acknowledged value of a key, and no other", () => {
    const model = acknowledged(A, 5);
    model.observe("k", read(A, 5), 9);
    expect(() => model.observe("k", undefined, 9)).toThrow("holds what was last acknowledged");
    expect(() => model.observe("k", read(B, 6), 9)).toThrow("holds what was last acknowledged");
    expect(() => model.observe("k", read(A, 6, 5), 9)).toThrow("holds what was last acknowledged");
  });

  test("lets a write of unknown outcome take effect or not, and settles that once it is seen", () => {
    for (const seen of [false, true]) {
      const { model } = pendingAfter(A, 5, { kind: "put", value: B });
      model.observe("k", seen ? read(B, 7, 5) : read(A, 5), 8);
      if (!seen) continue;
      expect(() => model.observe("k", read(A, 5), 9)).toThrow();
    }
  });

  test("requires that a retry gets the answer of the attempt that took effect", () => {
    const { model, write } = pendingAfter(A, 5, { kind: "put", value: B });
    model.observe("k", read(B, 7, 5), 8);
    expect(() => model.acknowledge(write, { kind: "put", version: 12 })).toThrow("no second effect");
  });

  test("places a retry behind a read that did not see the write", () => {
    const { model, write } = pendingAfter(A, 5, { kind: "put", value: B });
    model.observe("k", read(A, 5), 8);
    expect(() => model.acknowledge(write, { kind: "put", version: 7 })).toThrow("no earlier");
    model.acknowledge(write, { kind: "put", version: 9 });
    model.observe("k", read(B, 9, 5), 9);
  });

  test("rejects versions that fall", () => {
    const { model, write } = pendingAfter(A, 5, { kind: "put", value: B });
    expect(() => model.acknowledge(write, { kind: "put", version: 5 })).toThrow("versions never fall");
  });

  test("requires a new create version for a key that was deleted", () => {
    const { model, write } = pendingAfter(A, 5, { kind: "delete" });
    expect(() => model.acknowledge(write, { kind: "delete", deleted: false, appliedIndex: 8 })).toThrow("says whether");
    model.acknowledge(write, { kind: "delete", deleted: true, appliedIndex: 8 });
    model.observe("k", undefined, 8);
    put(model, B, 9);
    model.observe("k", read(B, 9), 9);
    expect(() => model.observe("k", read(B, 9, 5), 9)).toThrow();
  });

  test("lets a compare-and-set swap when its expectation holds, and only then", () => {
    const swap = (version: number): Operation => {
      return { kind: "compare-and-set", expected: { version }, value: B, createIfMissing: false };
    };
    const fits = pendingAfter(A, 5, swap(5));
    const current = read(A, 5);
    const kept = { kind: "compare-and-set", swapped: false, current, isValueForgotten: false } as const;
    expect(() => fits.model.acknowledge(fits.write, kept)).toThrow("that fits its key swaps");
    const differs = pendingAfter(A, 5, swap(4));
    const swapped = { kind: "compare-and-set", swapped: true, version: 6 } as const;
    expect(() => differs.model.acknowledge(differs.write, swapped)).toThrow("changes nothing");
    const wrong = pendingAfter(A, 5, swap(4));
    expect(() => wrong.model.acknowledge(wrong.write, { ...kept, current: read(B, 5) })).toThrow("says what is there");
    const right = pendingAfter(A, 5, swap(4));
    right.model.acknowledge(right.write, kept);
    right.model.observe("k", read(A, 5), 8);
  });

  test("rejects an effect of a write that was reported as not done", () => {
    const { model, write } = pendingAfter(A, 5, { kind: "put", value: B }, false);
    model.nothingHappened(write);
    expect(() => model.observe("k", read(B, 7, 5), 8)).toThrow("holds what was last acknowledged");
  });

  test("requires the state at its index of a snapshot", () => {
    const model = acknowledged(A, 5);
    put(model, B, 9);
    const at = (index: number, key: ReadKey | undefined) =>
      model.checkStateAt(index, new Map(key === undefined ? [] : [["k", key]]));
    at(4, undefined);
    at(5, read(A, 5));
    at(8, read(A, 5));
    at(9, read(B, 9, 5));
    for (const [index, key] of [
      [4, read(A, 5)],
      [5, undefined],
      [8, read(B, 9, 5)],
      [9, read(A, 5)],
    ] as const) {
      expect(() => at(index, key)).toThrow("holds the state at its index");
    }
    expect(() => model.checkStateAt(9, new Map([["other", read(A, 5)]]))).toThrow("only keys that were written");
  });

  test("lets a snapshot hold a write of unknown outcome only behind the write before it", () => {
    const { model } = pendingAfter(A, 5, { kind: "put", value: B });
    model.checkStateAt(7, new Map([["k", read(B, 7, 5)]]));
    model.checkStateAt(7, new Map([["k", read(A, 5)]]));
    expect(() => model.checkStateAt(6, new Map([["k", read(B, 7, 5)]]))).toThrow("holds the state at its index");
    expect(() => model.checkStateAt(7, new Map())).toThrow("holds the state at its index");
  });
});

function read(value: Value, version: number, createVersion = version): ReadKey {
  return { value: bytesOf(value), version, createVersion };
}

function put(model: CrashModel, value: Value, version: number): void {
  model.acknowledge(model.begin("k", { kind: "put", value }), { kind: "put", version });
}

function acknowledged(value: Value, version: number): CrashModel {
  const model = new CrashModel(["k"]);
  put(model, value, version);
  return model;
}

/** A key with a write that has no answer yet, and whose outcome is unknown. */
function pendingAfter(value: Value, version: number, operation: Operation, unknown = true) {
  const model = acknowledged(value, version);
  const write = model.begin("k", operation);
  write.unknown = unknown;
  return { model, write };
}
