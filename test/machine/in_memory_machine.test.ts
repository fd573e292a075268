import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { InMemoryMachine } from "../../src/machine/in_memory_machine.js";
import { checkKnownPayload } from "../../src/machine/known_payloads.js";
import type { Entry, SnapshotMeta } from "../../src/raft/types.js";
import { failure } from "../support/conditions.js";
import { answer, command, Words } from "../support/machines/words.js";

function entry(index: number, word: string, term = 1): Entry {
  return { index, term, type: "command", data: command(word) };
}

function metaAt(index: number, term = 1): SnapshotMeta {
  return { index, term, membership: { index: 0, members: [] } };
}

function machineOf(...words: string[]): InMemoryMachine<Words> {
  const machine = new InMemoryMachine(() => new Words());
  if (words.length > 0) machine.apply(words.map((word, at) => entry(at + 1, word)));
  return machine;
}

async function payloadOf(machine: InMemoryMachine<Words>): Promise<Buffer> {
  const view = await machine.capture();
  const pieces = [];
  for await (const piece of view.payload()) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

/** Bytes in pieces of this size, in one buffer that is used again and again. */
async function* lent(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(size);
  for (let start = 0; start < bytes.byteLength; start += size) {
    const piece = bytes.subarray(start, start + size);
    buffer.set(piece);
    yield buffer.subarray(0, piece.byteLength);
  }
}

describe("an in-memory machine that applies entries", () => {
  test("applies commands in order and answers them; other entries only move the applied index", () => {
    const machine = machineOf();
    const results = machine.apply([
      { index: 1, term: 1, type: "no-op", data: new Uint8Array(0) },
      entry(2, "a"),
      { index: 3, term: 1, type: "configuration", data: command("no word") },
      entry(4, "quiet"),
    ]);
    expect(results.map(({ index, result }) => [index, result && answer(result)])).toEqual([
      [1, undefined],
      [2, "1"],
      [3, undefined],
      [4, ""],
    ]);
    expect(machine.state.words).toEqual(["a", "quiet"]);
    expect(machine.appliedIndex).toBe(4);
  });

  test("throws for entries that do not follow each other", () => {
    expect(() => machineOf("a").apply([entry(3, "c")])).toThrow(/entries follow/);
  });

  test("cannot be used after its code threw, because half a command may show", async () => {
    const machine = machineOf("a");
    const text = "command at index 3: Error: this command is not for me";
    await failure("INTERNAL", () => machine.apply([entry(2, "b"), entry(3, "throw")]), text);
    expect(machine.appliedIndex).toBe(1);
    await failure("INTERNAL", () => machine.apply([entry(2, "b")]), "index 3");
    await failure("INTERNAL", () => machine.capture(), "index 3");
    await failure("INTERNAL", () => machine.state, "index 3");
  });

  test.each([
    ["a promise", async () => Buffer.from("1")],
    ["a text", () => "1"],
  ])("stops when its answer is %s", async (_, apply) => {
    const machine = new InMemoryMachine(() => Object.assign(new Words(), { apply: apply as never }));
    await failure("INTERNAL", () => machine.apply([entry(1, "a")]), "must return a Uint8Array");
  });
});

describe("a snapshot of an in-memory machine", () => {
  test("carries the state to another machine, in borrowed pieces of any size", async () => {
    const payload = await payloadOf(machineOf("a", "b"));
    for (const size of [1, 7, payload.byteLength]) {
      const other = machineOf("x", "y", "z");
      await other.restore(lent(payload, size), metaAt(2));
      expect(other.state.words).toEqual(["a", "b"]);
      expect(other.appliedIndex).toBe(2);
      expect(answer(other.apply([entry(3, "c")])[0]!.result)).toBe("3");
    }
  });

  test("has the same payload for the same commands, in pieces of bounded size", async () => {
    const word = "w".repeat(3 * limits.payloadPieceBytes);
    expect(await payloadOf(machineOf("a", word))).toEqual(await payloadOf(machineOf("a", word)));
    const view = await machineOf(word).capture();
    for await (const piece of view.payload()) expect(piece.byteLength).toBeLessThanOrEqual(limits.payloadPieceBytes);
  });

  test("captures the state at the call, whatever is applied meanwhile", async () => {
    const machine = machineOf("a");
    const view = await machine.capture();
    machine.apply([entry(2, "b")]);
    const pieces = [];
    for await (const piece of view.payload()) pieces.push(Buffer.from(piece));
    expect(view.appliedIndex).toBe(1);
    expect(Buffer.concat(pieces).toString("latin1")).toContain('["a"]');
  });

  test("may be serialized in pieces, which are requested while further commands are applied", async () => {
    class InPieces extends Words {
      override async *serialize() {
        const words = [...this.words];
        yield Buffer.from("[");
        yield Buffer.from(words.map((word) => JSON.stringify(word)).join(","));
        yield Buffer.from("]");
      }
    }
    const machine = new InMemoryMachine(() => new InPieces());
    machine.apply([entry(1, "a"), entry(2, "b")]);
    const payload = await payloadOf(machine);
    const other = machineOf();
    await other.restore(lent(payload, 5), metaAt(2));
    expect(other.state.words).toEqual(["a", "b"]);
  });

  test("fails when it is read after its view was released", async () => {
    const view = await machineOf("a").capture();
    const pieces = view.payload()[Symbol.asyncIterator]();
    await pieces.next();
    view.release();
    await failure("FAILED_PRECONDITION", pieces.next());
  });

  test("is refused when the machine cannot read it, and the old state stays", async () => {
    const payload = await payloadOf(machineOf("a", "b"));
    const machine = machineOf("x");
    await failure("CORRUPT", machine.restore(lent(payload.subarray(0, -1), 9), metaAt(2)), "cannot restore");
    expect(machine.state.words).toEqual(["x"]);
    expect(machine.appliedIndex).toBe(1);
  });

  test.each([
    ["of another index", metaAt(3), (payload: Buffer) => payload, "another index or term"],
    ["of another term", metaAt(2, 2), (payload: Buffer) => payload, "another index or term"],
    ["of another machine", metaAt(2), () => Buffer.from("CAIRNKV1 and so on, and so on"), "another kind of machine"],
    ["that is empty", metaAt(2), () => Buffer.alloc(0), "another kind of machine"],
  ])("is refused while it arrives with a payload %s", async (_, at, change, text) => {
    const payload = change(await payloadOf(machineOf("a", "b")));
    await failure("CORRUPT", machineOf().restore(lent(payload, 10), at), text);
    const check = InMemoryMachine.checkPayload(at);
    for await (const piece of lent(payload, 10)) check.push(piece);
    await failure("CORRUPT", () => check.finish(), text);
  });

  test("passes the check while it arrives when its payload is good", async () => {
    const check = InMemoryMachine.checkPayload(metaAt(2));
    for await (const piece of lent(await payloadOf(machineOf("a", "b")), 3)) check.push(piece);
    check.finish();
  });
});

test("the check for files of any machine tells an in-memory machine's payloads from the key-value store's", async () => {
  const payload = await payloadOf(machineOf("a", "b"));
  for (const size of [3, payload.byteLength]) {
    const check = checkKnownPayload(metaAt(2));
    for await (const piece of lent(payload, size)) check.push(piece);
    check.finish();
    const other = checkKnownPayload(metaAt(3));
    for await (const piece of lent(payload, size)) other.push(piece);
    await failure("CORRUPT", () => other.finish(), "another index or term");
  }
  // A payload of neither is judged as the store's.
  await failure("CORRUPT", () => checkKnownPayload(metaAt(2)).push(Buffer.from("CAIRNXX1 and so on and on")));
  await failure("CORRUPT", () => checkKnownPayload(metaAt(2)).finish());
});

test("a closed in-memory machine refuses every call", async () => {
  const machine = machineOf("a");
  const payload = await payloadOf(machine);
  await machine.close();
  await failure("STOPPED", () => machine.apply([entry(2, "b")]));
  await failure("STOPPED", () => machine.state);
  await failure("STOPPED", machine.capture());
  await failure("STOPPED", machine.restore(lent(payload, 9), metaAt(1)));
});
