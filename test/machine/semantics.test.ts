import { describe, expect, test } from "vitest";
import { CommandOutcome } from "../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../src/base/limits.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { NEWEST_RULES } from "../../src/machine/kv/session_limits.js";
import {
  applyBytes,
  applyCommand,
  applyOperation,
  bytes,
  cas,
  contents,
  countedRequest,
  del,
  entry,
  flushPoint,
  getCommand,
  load,
  machines,
  newest,
  payloadOf,
  put,
  request,
  skipTo,
  text,
  uncheckedBytes,
} from "../support/machines/machines.js";

const { OK, NOT_FOUND, MISMATCH } = CommandOutcome;

describe.each(machines)("the $kind machine", ({ make }) => {
  test("sets the version of a put key to its index and keeps the create version", async () => {
    const machine = await make();
    expect(applyOperation(machine, put("k", "1"))).toMatchObject({ outcome: OK, index: 1n, version: 0n });
    expect(machine.get(bytes("k"))).toMatchObject({ createVersion: 1, version: 1 });
    expect(applyOperation(machine, put("k", "2"))).toMatchObject({ outcome: OK, index: 2n });
    const record = machine.get(bytes("k"))!;
    expect(record).toMatchObject({ createVersion: 1, version: 2 });
    expect(text(record.value)).toBe("2");
  });

  test("gives a key that is put again after a delete a new create version", async () => {
    const machine = await make();
    applyOperation(machine, put("k", "1"));
    applyOperation(machine, del("k"));
    applyOperation(machine, put("k", "2"));
    expect(machine.get(bytes("k"))).toMatchObject({ createVersion: 3, version: 3 });
  });

  test("answers a delete with OK or NOT_FOUND", async () => {
    const machine = await make();
    applyOperation(machine, put("k", "1"));
    expect(applyOperation(machine, del("k"))).toMatchObject({ outcome: OK, index: 2n });
    expect(machine.get(bytes("k"))).toBeUndefined();
    expect(machine.keyCount).toBe(0);
    expect(applyOperation(machine, del("k"))).toMatchObject({ outcome: NOT_FOUND, index: 3n });
  });

  test("answers a get in the log with value and version, or NOT_FOUND", async () => {
    const machine = await make();
    applyOperation(machine, put("k", "value"));
    const found = applyOperation(machine, getCommand("k"));
    expect(found).toMatchObject({ outcome: OK, index: 2n, version: 1n });
    expect(text(found.value)).toBe("value");
    const missing = applyOperation(machine, getCommand("other"));
    expect(missing).toMatchObject({ outcome: NOT_FOUND, index: 3n, version: 0n });
    expect(missing.value).toHaveLength(0);
  });

  test.each([
    { what: "a version", expected: 7 },
    { what: "a value", expected: "x" },
  ])("answers NOT_FOUND to a compare-and-set of a missing key with $what", async ({ expected }) => {
    const machine = await make();
    expect(applyOperation(machine, cas("k", expected, "new"))).toMatchObject({ outcome: NOT_FOUND, index: 1n });
    expect(machine.keyCount).toBe(0);
  });

  test.each([
    { what: "version 0", operation: cas("k", 0, "new") },
    { what: "create_if_missing and a version", operation: cas("k", 7, "new", true) },
    { what: "create_if_missing and a value", operation: cas("k", "x", "new", true) },
  ])("creates a missing key by a compare-and-set with $what", async ({ operation }) => {
    const machine = await make();
    skipTo(machine, 4);
    expect(applyOperation(machine, operation)).toMatchObject({ outcome: OK, index: 5n });
    const record = machine.get(bytes("k"))!;
    expect(record).toMatchObject({ createVersion: 5, version: 5 });
    expect(text(record.value)).toBe("new");
  });

  test.each([
    { what: "the version", operation: cas("k", 2, "new") },
    { what: "the value", operation: cas("k", "old", "new") },
    { what: "the value, with create_if_missing", operation: cas("k", "old", "new", true) },
  ])("sets a key by a compare-and-set with $what of the present one", async ({ operation }) => {
    const machine = await make();
    applyOperation(machine, put("k", "older"));
    applyOperation(machine, put("k", "old"));
    expect(applyOperation(machine, operation)).toMatchObject({ outcome: OK, index: 3n, version: 0n });
    const record = machine.get(bytes("k"))!;
    expect(record).toMatchObject({ createVersion: 1, version: 3 });
    expect(text(record.value)).toBe("new");
  });

  test.each([
    { what: "another version", operation: cas("k", 2, "new") },
    { what: "another value", operation: cas("k", "olds", "new") },
    { what: "the start of the value", operation: cas("k", "ol", "new") },
    { what: "version 0", operation: cas("k", 0, "new") },
    { what: "another value, with create_if_missing", operation: cas("k", "x", "new", true) },
  ])(
    "answers a compare-and-set with $what by MISMATCH, value and version, and changes nothing",
    async ({ operation }) => {
      const machine = await make();
      applyOperation(machine, put("k", "old"));
      const result = applyOperation(machine, operation);
      expect(result).toMatchObject({ outcome: MISMATCH, index: 2n, version: 1n });
      expect(text(result.value)).toBe("old");
      expect(contents(machine)).toEqual(["k=old@1"]);
    },
  );

  test("has nothing changed by a flush point, for which the rules must be named", async () => {
    const machine = await make();
    applyOperation(machine, put("k", "v"));
    for (const drain of [false, true]) {
      expect(applyCommand(machine, newest(flushPoint(drain)))).toMatchObject({ outcome: OK });
    }
    expect(applyOperation(machine, flushPoint())).toMatchObject({ outcome: CommandOutcome.INVALID });
    const remembered = { ...request("c", 1, flushPoint()), rules: NEWEST_RULES };
    expect(applyCommand(machine, remembered)).toMatchObject({ outcome: CommandOutcome.INVALID });
    expect(contents(machine)).toEqual(["k=v@1"]);
    const reference = new MemoryMachine();
    applyOperation(reference, put("k", "v"));
    applyCommand(reference, newest(flushPoint()));
    skipTo(reference, machine.appliedIndex);
    expect((await payloadOf(machine)).equals(await payloadOf(reference))).toBe(true);
  });

  test("keeps an empty value as a value", async () => {
    const machine = await make();
    applyOperation(machine, put("k", ""));
    expect(machine.get(bytes("k"))!.value).toHaveLength(0);
    expect(applyOperation(machine, cas("k", "", "x")).outcome).toBe(OK);
    expect(applyOperation(machine, cas("k", "", "y")).outcome).toBe(MISMATCH);
  });

  test("replaces all keys by load, with its index as their versions, and keeps sessions", async () => {
    const machine = await make();
    applyCommand(machine, request("c", 1, put("a", "1")));
    applyOperation(machine, put("gone", "1"));
    expect(applyOperation(machine, load(["a", "2"], ["b", "3"]))).toMatchObject({ outcome: OK, index: 3n });
    expect(contents(machine)).toEqual(["a=2@3", "b=3@3"]);
    expect(machine.get(bytes("a"))!.createVersion).toBe(3);
    expect(machine.keyCount).toBe(2);
    expect(machine.sessionCount).toBe(1);
    expect(applyOperation(machine, load()).outcome).toBe(OK);
    expect(machine.keyCount).toBe(0);
  });

  test("only moves its applied index for entries that are no commands", async () => {
    const machine = await make();
    const data = uncheckedBytes({ operation: put("k", "v") });
    const results = machine.apply([
      entry(1, data, 1, "no-op"),
      entry(2, data, 1, "configuration"),
      entry(3, data, 2, "command"),
    ]);
    expect(results.map(({ index, result }) => [index, result?.outcome])).toEqual([
      [1, undefined],
      [2, undefined],
      [3, OK],
    ]);
    expect(contents(machine)).toEqual(["k=v@3"]);
    expect(machine.apply([])).toEqual([]);
    expect(machine.appliedIndex).toBe(3);
  });

  test("lets commands of one batch see each other", async () => {
    const machine = await make();
    const operations = [put("k", "1"), getCommand("k"), cas("k", 1, "2"), del("k"), getCommand("k"), put("k", "3")];
    const results = machine.apply(operations.map((operation, at) => entry(at + 1, uncheckedBytes({ operation }))));
    expect(results.map(({ result }) => result!.outcome)).toEqual([OK, OK, OK, OK, NOT_FOUND, OK]);
    expect(contents(machine)).toEqual(["k=3@6"]);
  });

  test.each([
    { what: "a gap", next: entry(3, new Uint8Array(0)) },
    { what: "a repetition", next: entry(1, new Uint8Array(0)) },
    { what: "a fallen term", next: entry(2, new Uint8Array(0), 0) },
  ])("throws for entries with $what, and applies none", async ({ next }) => {
    const machine = await make();
    applyOperation(machine, put("k", "v"));
    expect(() => machine.apply([next])).toThrow(/broken invariant/);
    expect(machine.appliedIndex).toBe(1);
  });

  test("takes the largest keys and values", async () => {
    const machine = await make();
    const key = Buffer.alloc(limits.keyBytes, 0xff);
    const value = Buffer.alloc(limits.valueBytes, 7);
    applyCommand(machine, { operation: { case: "put", value: { key, value } } });
    expect(Buffer.compare(machine.get(key)!.value, value)).toBe(0);
    const read = applyCommand(machine, countedRequest("c", 1, { case: "get", value: { key } }));
    expect(Buffer.compare(read.value, value)).toBe(0);
    expect(Buffer.compare(applyCommand(machine, countedRequest("c", 1, del("x"))).value, value)).toBe(0);
    expect((await payloadOf(machine)).byteLength).toBeGreaterThan(2 * limits.valueBytes);
  });

  test("lets a reader keep what it has read", async () => {
    const machine = await make();
    applyOperation(machine, put("a", "11111111"));
    applyOperation(machine, put("b", "22222222"));
    const a = machine.get(bytes("a"))!;
    const range = [...machine.range()];
    const logged = applyOperation(machine, getCommand("a"));
    machine.get(bytes("b"));
    applyOperation(machine, put("a", "33333333"));
    applyOperation(machine, getCommand("b"));
    expect([text(a.value), text(range[0]!.value), text(logged.value)]).toEqual(["11111111", "11111111", "11111111"]);
    a.value.fill(0);
    expect(text(machine.get(bytes("a"))!.value)).toBe("33333333");
  });

  test("does not retain the bytes of an entry", async () => {
    const machine = await make();
    const data = Buffer.from(uncheckedBytes(request("c", 1, put("key", "value"))));
    const before = Buffer.from(data);
    applyBytes(machine, data);
    expect(data.equals(before)).toBe(true);
    data.fill(0);
    expect(contents(machine)).toEqual(["key=value@1"]);
  });

  test("answers STOPPED when it is closed", async () => {
    const machine = await make();
    applyOperation(machine, put("k", "v"));
    const view = await machine.capture();
    const range = machine.range();
    await machine.close();
    const stopped = expect.objectContaining({ code: "STOPPED" });
    expect(() => machine.get(bytes("k"))).toThrow(stopped);
    expect(() => machine.range()).toThrow(stopped);
    expect(() => applyOperation(machine, put("k", "v"))).toThrow(stopped);
    expect(() => range.next()).toThrow(stopped);
    expect(() => view.payload()).toThrow(stopped);
    await expect(machine.capture()).rejects.toThrow(stopped);
    await machine.close();
  });
});
