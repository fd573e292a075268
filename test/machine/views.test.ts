import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import type { KeyValueMachine } from "../../src/machine/kv/key_value_machine.js";
import {
  applyOperation,
  bytes,
  collect,
  contents,
  entry,
  inPieces,
  machinesFlushing,
  metaAt,
  payloadOf,
  put,
  skipTo,
  text,
  uncheckedBytes,
} from "../support/machines/machines.js";

/** Puts `count` keys of ~1 KB in batches of 100; `salt` makes other values. */
function fill(machine: KeyValueMachine, count: number, salt: string): void {
  const value = bytes(salt.repeat(1000));
  for (let from = 0; from < count; from += 100) {
    const first = machine.appliedIndex + 1;
    machine.apply(
      Array.from({ length: 100 }, (_, n) => {
        const key = bytes(`key ${String(((from + n) * 7919) % count).padStart(6, "0")}`);
        return entry(first + n, uncheckedBytes({ operation: { case: "put", value: { key, value } } }));
      }),
    );
  }
}

describe.each(machinesFlushing(256 * 1024))("the $kind machine", ({ make }) => {
  test("serves a range with the keys of its prefix, in order, up to its limit", async () => {
    const machine = await make();
    const keys = ["b", "ba", "b\0", "c", "a", "bz", "b\u{ff}"];
    for (const key of keys) applyOperation(machine, put(key, `value of ${key}`));
    machine.apply([
      entry(
        8,
        uncheckedBytes({ operation: { case: "put", value: { key: Buffer.from("62ff", "hex"), value: bytes("max") } } }),
      ),
    ]);
    const hexes = (options?: { prefix?: Uint8Array; after?: Uint8Array; limit?: number }) =>
      Array.from(machine.range(options), ({ key }) => Buffer.from(key).toString("hex"));
    expect(hexes()).toEqual(["61", "62", "6200", "6261", "627a", "62c3bf", "62ff", "63"]);
    expect(hexes({ prefix: bytes("b") })).toEqual(["62", "6200", "6261", "627a", "62c3bf", "62ff"]);
    expect(hexes({ prefix: bytes("b"), limit: 2 })).toEqual(["62", "6200"]);
    expect(hexes({ limit: 100 })).toHaveLength(8);
    expect(hexes({ prefix: Buffer.from("62ff", "hex") })).toEqual(["62ff"]);
    expect(hexes({ prefix: bytes("bb") })).toEqual([]);
    expect(hexes({ prefix: Buffer.from("ff", "hex") })).toEqual([]);
    expect(hexes({ after: bytes("bz") })).toEqual(["62c3bf", "62ff", "63"]);
    expect(hexes({ after: bytes("b"), limit: 1 })).toEqual(["6200"]);
    expect(hexes({ after: bytes("by") })).toEqual(["627a", "62c3bf", "62ff", "63"]);
    expect(hexes({ after: bytes("c") })).toEqual([]);
    expect(hexes({ prefix: bytes("b"), after: bytes("ba") })).toEqual(["627a", "62c3bf", "62ff"]);
    expect(hexes({ prefix: bytes("b"), after: bytes("a") })).toHaveLength(6);
    expect(hexes({ prefix: bytes("b"), after: bytes("bzz") })).toEqual(["62c3bf", "62ff"]);
    expect(hexes({ prefix: bytes("b"), after: bytes("c") })).toEqual([]);
    expect(hexes({ after: new Uint8Array(limits.keyBytes).fill(98) })).toEqual(["627a", "62c3bf", "62ff", "63"]);
    const [first] = machine.range({ prefix: bytes("bz") });
    expect({ ...first, key: text(first!.key), value: text(first!.value) }).toEqual({
      key: "bz",
      value: "value of bz",
      createVersion: 6,
      version: 6,
    });
  });

  test("serves a range from one state while entries are applied and a snapshot is restored", async () => {
    const machine = await make();
    fill(machine, 500, "a");
    const empty = await payloadOf(await make());
    const expected = contents(machine);
    const range = machine.range();
    const seen = [range.next().value!];
    fill(machine, 500, "b");
    seen.push(range.next().value!);
    await machine.restore(inPieces(empty, 100), metaAt({ index: 0, term: 0 }));
    expect(machine.keyCount).toBe(0);
    fill(machine, 500, "c");
    await nextTurn();
    seen.push(...range);
    expect(seen.map(({ key, value, version }) => `${text(key)}=${text(value)}@${version}`)).toEqual(expected);
  });

  test("frees ranges that were left, closed or abandoned in an error", async () => {
    const machine = await make();
    fill(machine, 100, "a");
    for (let round = 0; round < 5000; round++) {
      for (const { key } of machine.range()) if (key.byteLength > 0) break;
      machine.range().close();
      if (round % 100 === 0) applyOperation(machine, put("k", `${round}`));
    }
    const range = machine.range();
    range.close();
    range.close();
    expect(range.next().done).toBe(true);
  });

  test("writes a captured state unchanged while thousands of entries are applied", async () => {
    const machine = await make();
    fill(machine, 2000, "a");
    const expected = await payloadOf(machine);
    const view = await machine.capture();
    const applied = view.appliedIndex;
    const pieces: Buffer[] = [];
    for await (const piece of view.payload()) {
      pieces.push(Buffer.from(piece));
      fill(machine, 1000, `${pieces.length}`);
    }
    view.release();
    expect(machine.appliedIndex).toBeGreaterThan(applied + 2000);
    expect(view.appliedIndex).toBe(2000);
    expect(Buffer.concat(pieces).equals(expected)).toBe(true);
    expect((await payloadOf(machine)).equals(expected)).toBe(false);
  });

  test("writes a captured state unchanged while another is restored, twice", async () => {
    const machine = await make();
    fill(machine, 1000, "a");
    const expected = await payloadOf(machine);
    const other = await make();
    fill(other, 500, "b");
    const otherPayload = await payloadOf(other);
    const view = await machine.capture();
    const iterator = view.payload()[Symbol.asyncIterator]();
    const pieces = [Buffer.from((await iterator.next()).value!)];
    await machine.restore(inPieces(otherPayload, 10_000), metaAt({ index: 500, term: 1 }));
    pieces.push(Buffer.from((await iterator.next()).value!));
    await machine.restore(inPieces(otherPayload, 10_000), metaAt({ index: 500, term: 1 }));
    for (let next = await iterator.next(); !next.done; next = await iterator.next())
      pieces.push(Buffer.from(next.value));
    view.release();
    expect(Buffer.concat(pieces).equals(expected)).toBe(true);
    expect((await payloadOf(machine)).equals(otherPayload)).toBe(true);
  });

  test("yields the event loop while it writes a payload", async () => {
    const machine = await make();
    fill(machine, 2000, "a");
    const view = await machine.capture();
    let turns = 0;
    let writing = true;
    const counting = (async () => {
      while (writing) {
        await nextTurn();
        turns++;
      }
    })();
    await collect(view.payload());
    writing = false;
    await counting;
    view.release();
    expect(turns).toBeGreaterThanOrEqual(7);
  });

  test("ends the payload of a released view with an error, and allows a second release", async () => {
    const machine = await make();
    fill(machine, 500, "a");
    const view = await machine.capture();
    const iterator = view.payload()[Symbol.asyncIterator]();
    await iterator.next();
    view.release();
    view.release();
    await expect(iterator.next()).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    expect(() => view.payload()).toThrow(expect.objectContaining({ code: "FAILED_PRECONDITION" }));
    fill(machine, 500, "b");
    expect(contents(machine)).toHaveLength(500);
  });

  test("releases a view whose payload is left half-way", async () => {
    const machine = await make();
    fill(machine, 500, "a");
    const view = await machine.capture();
    for await (const piece of view.payload()) {
      expect(piece.byteLength).toBeGreaterThan(0);
      break;
    }
    view.release();
    fill(machine, 500, "b");
    await machine.close();
  });

  test("ends a payload that is being read with STOPPED when it closes", async () => {
    const machine = await make();
    fill(machine, 500, "a");
    const view = await machine.capture();
    const iterator = view.payload()[Symbol.asyncIterator]();
    await iterator.next();
    await machine.close();
    await expect(iterator.next()).rejects.toMatchObject({ code: "STOPPED" });
    view.release();
  });

  test("gives a view all that was applied before the call, and says what else the view has", async () => {
    const machine = await make();
    skipTo(machine, 3);
    const capture = machine.capture();
    applyOperation(machine, put("later", "v"));
    const view = await capture;
    expect([3, 4]).toContain(view.appliedIndex);
    expect((await collect(view.payload())).includes("later")).toBe(view.appliedIndex === 4);
    view.release();
  });
});
