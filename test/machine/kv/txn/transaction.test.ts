import fc from "fast-check";
import { expect, describe as suite, test } from "vitest";
import { CommandOutcome, ComparisonOperator } from "../../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../../src/base/limits.js";
import { decodeCommand, encodeCommand } from "../../../../src/machine/kv/command.js";
import { MemoryMachine } from "../../../../src/machine/kv/memory_machine.js";
import { NEWEST_RULES } from "../../../../src/machine/kv/session_limits.js";
import { LmdbMachine } from "../../../../src/machine/lmdb_machine.js";
import { temporaryDirectory } from "../../../support/disk/temporary_directory.js";
import {
  applyCommand,
  applyOperation,
  bytes,
  type CommandInit,
  type ComparisonInit,
  contents,
  del,
  entry,
  getCommand,
  machines,
  newest,
  openLmdb,
  payloadOf,
  put,
  request,
  type StepInit,
  text,
  txn,
  uncheckedBytes,
} from "../../../support/machines/machines.js";
import { runs } from "../../../support/run/tries_all.js";
import { outcomeOf, TxnModel } from "./model.js";

const { EQUAL, NOT_EQUAL, LESS, GREATER } = ComparisonOperator;

const prefix = (start: string) => ({ prefix: bytes(start) });
const version = (key: string, expected: number, operator = EQUAL): ComparisonInit => ({
  key: bytes(key),
  operator,
  expected: { case: "version", value: BigInt(expected) },
});
const value = (key: string, expected: string, operator = EQUAL): ComparisonInit => ({
  key: bytes(key),
  operator,
  expected: { case: "value", value: bytes(expected) },
});
const all = (keys: ComparisonInit["keys"], expected: ComparisonInit["expected"], operator = EQUAL): ComparisonInit => ({
  keys: keys!,
  operator,
  expected: expected!,
});
const exists = (expected: boolean) => ({ case: "exists", value: expected }) as const;
const step = (operation: object) => operation as StepInit;
const deleteRange = (keys: object) => step({ case: "deleteRange", value: { keys } });
const range = (keys: object, limit = 0, keysOnly = false) =>
  step({ case: "range", value: { keys, limit: BigInt(limit), keysOnly } });

suite.each(machines)("a transaction in the $kind machine", ({ make }) => {
  test("changes all its keys at one index, and its steps see the earlier ones", async () => {
    const machine = await make();
    applyOperation(machine, put("a", "old"));
    const result = applyCommand(
      machine,
      newest(
        txn(
          [value("a", "old"), version("b", 0)],
          [put("a", "1"), put("b", "2"), getCommand("a"), range(prefix("")), del("c")].map(step),
        ),
      ),
    );
    expect(result).toMatchObject({ outcome: CommandOutcome.OK, index: 2n, succeeded: true });
    expect(result.results.map(({ outcome }) => outcome)).toEqual([1, 1, 1, 1, CommandOutcome.NOT_FOUND]);
    expect(result.results[2]).toMatchObject({ version: 2n, createVersion: 1n });
    expect(text(result.results[2]!.value)).toBe("1");
    expect(result.results[3]!.records.map(({ key, version }) => [text(key), version])).toEqual([
      ["a", 2n],
      ["b", 2n],
    ]);
    expect(contents(machine)).toEqual(["a=1@2", "b=2@2"]);
  });

  test("carries out the other list when one comparison does not hold", async () => {
    const machine = await make();
    applyOperation(machine, put("a", "1"));
    const result = applyCommand(
      machine,
      newest(txn([version("a", 1), version("b", 7)], [step(put("a", "2"))], [step(getCommand("a"))])),
    );
    expect(result).toMatchObject({ succeeded: false, index: 2n });
    expect(text(result.results[0]!.value)).toBe("1");
    expect(contents(machine)).toEqual(["a=1@1"]);
  });

  test("sees the changes of the entries before it in the same batch", async () => {
    const machine = await make();
    applyOperation(machine, put("p/1", "x"));
    const commands: CommandInit[] = [
      { operation: put("p/2", "x") },
      { operation: del("p/1") },
      newest(txn([all(prefix("p/"), { case: "value", value: bytes("x") })], [range(prefix("p/"))])),
      newest(txn([], [deleteRange(prefix("p/"))])),
      newest(txn([all(prefix("p/"), exists(false))], [step(put("p/3", "y"))])),
    ];
    const results = machine.apply(commands.map((init, at) => entry(at + 2, uncheckedBytes(init))));
    expect(results[2]!.result!.results[0]!.records.map(({ key }) => text(key))).toEqual(["p/2"]);
    expect(results[3]!.result!.results[0]!.deleted).toBe(1n);
    expect(contents(machine)).toEqual(["p/3=y@6"]);
  });

  test("compares a span without keys: all but exists hold", async () => {
    const machine = await make();
    applyOperation(machine, put("other", "x"));
    const none = prefix("p/");
    const judge = (comparison: ComparisonInit) => applyCommand(machine, newest(txn([comparison], []))).succeeded;
    for (const operator of [EQUAL, NOT_EQUAL, LESS, GREATER]) {
      expect(judge(all(none, { case: "version", value: 0n }, operator))).toBe(true);
      expect(judge(all(none, { case: "createVersion", value: 5n }, operator))).toBe(true);
    }
    expect(judge(all(none, { case: "value", value: bytes("v") }))).toBe(true);
    expect(judge(all(none, { case: "value", value: bytes("v") }, NOT_EQUAL))).toBe(true);
    expect(judge(all(none, exists(true)))).toBe(false);
    expect(judge(all(none, exists(false)))).toBe(true);
    expect(judge(all(none, exists(true), NOT_EQUAL))).toBe(true);
    applyOperation(machine, put("p/1", "v"));
    expect(judge(all(none, { case: "version", value: 0n }))).toBe(false);
    expect(judge(all(none, exists(true)))).toBe(true);
  });

  test("compares a missing key as one of version 0 without a value", async () => {
    const machine = await make();
    const judge = (comparison: ComparisonInit) => applyCommand(machine, newest(txn([comparison], []))).succeeded;
    expect(judge(version("a", 0))).toBe(true);
    expect(judge(version("a", 1, LESS))).toBe(true);
    expect(judge(value("a", ""))).toBe(false);
    expect(judge(value("a", "", NOT_EQUAL))).toBe(true);
    expect(judge({ key: bytes("a"), expected: exists(false) })).toBe(true);
  });

  test("takes a prefix of the highest bytes, and spans without an end", async () => {
    const machine = await make();
    const high = (...numbers: number[]) => ({
      case: "put",
      value: { key: Uint8Array.from(numbers), value: bytes("v") },
    });
    for (const put of [high(1), high(0xfe, 0xff), high(0xff), high(0xff, 0xff, 1)]) {
      applyOperation(machine, put as Parameters<typeof applyOperation>[1]);
    }
    const count = (keys: object) => applyCommand(machine, newest(txn([], [range(keys)]))).results[0]!.records.length;
    expect(count({ prefix: Uint8Array.from([0xff]) })).toBe(2);
    expect(count({ prefix: Uint8Array.from([0xfe, 0xff]) })).toBe(1);
    expect(count({ start: Uint8Array.from([0xff]) })).toBe(2);
    expect(count({ end: Uint8Array.from([0xff]) })).toBe(2);
    expect(count({})).toBe(4);
  });

  test("reads a span up to a limit, with or without values", async () => {
    const machine = await make();
    for (const key of ["a", "b", "c"]) applyOperation(machine, put(key, "v"));
    const read = (limit: number, keysOnly: boolean) =>
      applyCommand(machine, newest(txn([], [range({}, limit, keysOnly)]))).results[0]!;
    expect(read(2, true)).toMatchObject({ more: true, records: [{ value: bytes("") }, { value: bytes("") }] });
    expect(read(3, false)).toMatchObject({ more: false });
    expect(read(3, false).records.map(({ value }) => text(value))).toEqual(["v", "v", "v"]);
  });

  test("changes nothing when it would touch too many keys, at its last step", async () => {
    const machine = await make();
    for (let at = 0; at < limits.txnKeys + 1; at += 100) {
      const puts = Array.from({ length: Math.min(100, limits.txnKeys + 1 - at) }, (_, n) =>
        step(put(`k${at + n}`, "v")),
      );
      applyCommand(machine, newest(txn([], puts)));
    }
    const before = contents(machine);
    const tooMuch = txn(
      [],
      [step(put("k0", "new")), step(put("new", "v")), step(del("k1")), deleteRange(prefix("k2")), range({})],
    );
    const refused = applyCommand(machine, newest(tooMuch));
    expect(refused).toMatchObject({ outcome: CommandOutcome.LIMIT_EXCEEDED, limit: "txnKeys", results: [] });
    expect(contents(machine)).toEqual(before);
    expect(applyCommand(machine, newest(txn([], [deleteRange({})]))).outcome).toBe(CommandOutcome.LIMIT_EXCEEDED);
    const most = applyCommand(machine, newest(txn([], [step(del("k0")), deleteRange({})])));
    expect(most.results[1]!.deleted).toBe(BigInt(limits.txnKeys));
    expect(machine.keyCount).toBe(0);
  });

  test("changes nothing when it would return or look at too many bytes", async () => {
    const machine = await make();
    const long = "v".repeat(1.5 * 1024 * 1024);
    for (let at = 0; at < 12; at++) applyOperation(machine, put(`k${at}`, long));
    const two = txn([], [put("a", "1"), getCommand("k0"), getCommand("k1")].map(step));
    expect(applyCommand(machine, newest(two))).toMatchObject({
      outcome: CommandOutcome.LIMIT_EXCEEDED,
      limit: "txnResultBytes",
    });
    expect(machine.get(bytes("a"))).toBeUndefined();
    const removal = txn([], [step(put("a", "1")), deleteRange(prefix("k"))]);
    expect(applyCommand(machine, newest(removal))).toMatchObject({
      outcome: CommandOutcome.LIMIT_EXCEEDED,
      limit: "txnReadBytes",
    });
    expect(machine.get(bytes("a"))).toBeUndefined();
    expect(contents(machine)).toHaveLength(12);
  });

  test("gets the same answer again, without long values", async () => {
    const machine = await make();
    applyOperation(machine, put("long", "x".repeat(2 * limits.sessionValueBytes)));
    applyOperation(machine, put("short", "x"));
    const short = request("c", 1, txn([], [put("a", "1"), getCommand("short"), del("none")].map(step)), 0, 2);
    const first = applyCommand(machine, short);
    expect(applyCommand(machine, short)).toEqual(first);
    const long = request(
      "c",
      2,
      txn([], [put("b", "1"), getCommand("long"), getCommand("none"), deleteRange(prefix("a"))].map(step)),
      0,
      2,
    );
    const whole = applyCommand(machine, long);
    expect(whole.results[1]!.value.byteLength).toBe(2 * limits.sessionValueBytes);
    const again = applyCommand(machine, long);
    expect(again).toMatchObject({ index: whole.index, succeeded: true, valueForgotten: false });
    expect(again.results.map(({ outcome, valueForgotten, deleted }) => [outcome, valueForgotten, deleted])).toEqual([
      [CommandOutcome.OK, false, 0n],
      [CommandOutcome.OK, true, 0n],
      [CommandOutcome.NOT_FOUND, false, 0n],
      [CommandOutcome.OK, false, 1n],
    ]);
    expect(contents(machine).filter((line) => line.startsWith("a"))).toEqual([]);
  });

  test("has an answer of any steps that is remembered but for what was read", async () => {
    const machine = await make();
    applyCommand(
      machine,
      newest(
        txn(
          [],
          Array.from({ length: 128 }, (_, at) => step(put(`k${at}`, "v"))),
        ),
      ),
    );
    const reads = Array.from({ length: 128 }, (_, at) => step(getCommand(`k${at}`)));
    const command = request("c", 1, txn([], reads), 0, 1);
    applyCommand(machine, command);
    const again = applyCommand(machine, command);
    expect(again.valueForgotten).toBe(false);
    expect(again.results.map(({ valueForgotten }) => valueForgotten)).toEqual(reads.map(() => true));
  });

  test("keeps its refusal as its answer", async () => {
    const machine = await make();
    applyOperation(machine, put("k0", "v".repeat(1.5 * 1024 * 1024)));
    const command = request("c", 1, txn([], [step(getCommand("k0")), step(range({}))]), 0, 1);
    const refused = applyCommand(machine, command);
    expect(refused.limit).toBe("txnResultBytes");
    expect(applyCommand(machine, command)).toEqual(refused);
  });

  test("is not carried out when it names rules that did not have it, nor is a delete with if_version", async () => {
    const machine = await make();
    applyOperation(machine, put("a", "1"));
    const conditional = { case: "delete", value: { key: bytes("a"), ifVersion: 1n } } as const;
    for (const rules of [0, 1, 2]) {
      expect(applyCommand(machine, { rules, operation: txn([], [step(del("a"))]) }).outcome).toBe(
        CommandOutcome.INVALID,
      );
      expect(applyCommand(machine, { rules, operation: conditional }).outcome).toBe(CommandOutcome.INVALID);
    }
    expect(contents(machine)).toEqual(["a=1@1"]);
  });

  test("removes a key if it has a version", async () => {
    const machine = await make();
    applyOperation(machine, put("a", "1"));
    const removal = (key: string, ifVersion: bigint) =>
      applyCommand(machine, newest({ case: "delete", value: { key: bytes(key), ifVersion } }));
    expect(removal("a", 2n)).toMatchObject({ outcome: CommandOutcome.MISMATCH, version: 1n });
    expect(removal("a", 0n)).toMatchObject({ outcome: CommandOutcome.MISMATCH, version: 1n });
    expect(removal("b", 0n).outcome).toBe(CommandOutcome.NOT_FOUND);
    expect(removal("b", 3n).outcome).toBe(CommandOutcome.NOT_FOUND);
    expect(removal("a", 1n).outcome).toBe(CommandOutcome.OK);
    expect(machine.keyCount).toBe(0);
  });
});

test("a transaction and a delete with if_version name the third rules, with or without a request id", () => {
  const rulesOf = (init: CommandInit) => decodeCommand(encodeCommand(init))?.rules;
  const conditional = { case: "delete", value: { key: bytes("a"), ifVersion: 0n } } as const;
  const plain = [put("a", "1"), del("a"), getCommand("a")];
  expect([txn([], [step(del("a"))]), conditional].map((operation) => rulesOf({ operation }))).toEqual([3, 3]);
  expect(plain.map((operation) => rulesOf({ operation }))).toEqual([0, 0, 0]);
  expect(rulesOf({ ...request("c", 1, conditional), rules: 0 })).toBe(3);
});

test("a command of later rules stops a machine, also without a request id", () => {
  const machine = new MemoryMachine();
  const later = { rules: NEWEST_RULES + 1, operation: txn([], [step(del("a"))]) };
  expect(() => applyCommand(machine, later)).toThrow(`needs version ${NEWEST_RULES + 1} of the rules`);
  expect(machine.appliedIndex).toBe(0);
});

const key = fc.constantFrom("a", "a/1", "a/2", "b", "b/1", "c");
const span = fc.oneof(
  fc.constantFrom("", "a", "a/", "b", "z").map((start) => ({ prefix: bytes(start) })),
  fc.constantFrom(["a/1", "b"], ["a", "a/2"], ["", "b"], ["b", ""], ["x", "y"]).map(([start, end]) => ({
    start: bytes(start!),
    end: bytes(end!),
  })),
);
const ordered = fc.constantFrom(0, EQUAL, NOT_EQUAL, LESS, GREATER);
const equality = fc.constantFrom(0, EQUAL, NOT_EQUAL);
const expectation = fc.oneof(
  fc.record({
    expected: fc
      .tuple(fc.constantFrom("version" as const, "createVersion" as const), fc.bigInt(0n, 30n))
      .map(([name, number]) => ({ case: name, value: number })),
    operator: ordered,
  }),
  fc.record({
    expected: fc.constantFrom("1", "2", "").map((v) => ({ case: "value" as const, value: bytes(v) })),
    operator: equality,
  }),
  fc.record({ expected: fc.boolean().map(exists), operator: equality }),
);
const comparison: fc.Arbitrary<ComparisonInit> = fc
  .tuple(
    fc.oneof(
      key.map((name) => ({ key: bytes(name) })),
      span.map((keys) => ({ keys })),
    ),
    expectation,
  )
  .map(([target, rest]) => ({ ...target, ...rest }) as ComparisonInit);
const reading = fc.oneof(
  key.map((name) => step(getCommand(name))),
  fc.tuple(span, fc.nat(3), fc.boolean()).map(([keys, limit, keysOnly]) => range(keys, limit, keysOnly)),
);
/** Steps of a list that changes no key twice: removals, or puts of different keys, and reads between. */
const steps = fc.oneof(
  fc.array(
    fc.oneof(
      reading,
      key.map((name) => step(del(name))),
      span.map(deleteRange),
    ),
    { maxLength: 5 },
  ),
  fc
    .tuple(
      fc.uniqueArray(fc.tuple(key, fc.constantFrom("1", "2", "")), { selector: ([name]) => name }),
      fc.array(reading, { maxLength: 3 }),
    )
    .chain(([puts, reads]) =>
      fc.shuffledSubarray([...puts.map(([name, v]) => step(put(name, v))), ...reads], {
        minLength: puts.length + reads.length,
      }),
    ),
);
const transaction = fc
  .tuple(fc.array(comparison, { maxLength: 2 }), steps, steps)
  // One with nothing in it is no valid command.
  .filter((parts) => parts.some(({ length }) => length > 0))
  .map(([compare, then, otherwise]) => newest(txn(compare, then, otherwise)));

test("transactions do in memory and in LMDB what a plain model does", async () => {
  await openLmdb({ directory: await temporaryDirectory() });
  await fc.assert(
    fc.asyncProperty(fc.array(transaction, { minLength: 1, maxLength: 30 }), fc.nat(10), async (commands, cut) => {
      const model = new TxnModel();
      const expected = commands.map((init, at) => model.apply(init, at + 1));
      const memory = new MemoryMachine();
      const lmdb = await LmdbMachine.open({ directory: await temporaryDirectory() });
      try {
        const entries = commands.map((init, at) => entry(at + 1, uncheckedBytes(init)));
        for (const machine of [memory, lmdb]) {
          const results = [...machine.apply(entries.slice(0, cut)), ...machine.apply(entries.slice(cut))];
          expect(results.map(({ result }, at) => outcomeOf(commands[at]!, result!))).toEqual(expected);
          expect(contents(machine)).toEqual(model.contents());
        }
        expect(await payloadOf(lmdb)).toEqual(await payloadOf(memory));
      } finally {
        await lmdb.crash();
      }
    }),
    { numRuns: runs(20, 60) },
  );
});
