import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Change, changesOf } from "../../../../src/machine/kv/effects/changes.js";
import { decodeEffects, type Effects, EffectsEncoder } from "../../../../src/machine/kv/effects/effects.js";
import type { KeyValueMachine } from "../../../../src/machine/kv/key_value_machine.js";
import { MemoryMachine } from "../../../../src/machine/kv/memory_machine.js";
import type { Entry } from "../../../../src/raft/types.js";
import { temporaryDirectory } from "../../../support/disk/temporary_directory.js";
import {
  bytes,
  type CommandInit,
  cas,
  del,
  entry,
  inPieces,
  load,
  metaAt,
  newest,
  openLmdb,
  payloadOf,
  put,
  request,
  type StepInit,
  txn,
  uncheckedBytes,
} from "../../../support/machines/machines.js";
import { runs } from "../../../support/run/tries_all.js";

const key = fc.constantFrom("a", "ab", "b", "c");
const value = fc.constantFrom("", "1", "2");
const removeAll: StepInit = { case: "deleteRange", value: { keys: { prefix: bytes("a") } } };
const operation = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(key, value).map(([k, v]) => put(k, v)) },
  { weight: 3, arbitrary: key.map(del) },
  { weight: 3, arbitrary: fc.tuple(key, value, value, fc.boolean()).map(([k, e, v, c]) => cas(k, e, v, c)) },
  {
    weight: 4,
    arbitrary: fc
      .tuple(key, fc.boolean(), value, key)
      .map(([k, exists, v, other]) =>
        txn(
          [{ key: bytes(k), expected: { case: "exists", value: exists } }],
          [{ case: "put", value: { key: bytes("c"), value: bytes(v) } }, removeAll],
          [{ case: "delete", value: { key: bytes(other) } }],
        ),
      ),
  },
  { weight: 1, arbitrary: value.map((v) => load(["a", v], ["b", v])) },
);
const command: fc.Arbitrary<CommandInit> = fc.oneof(
  operation.map(newest),
  fc
    .tuple(fc.constantFrom("p", "q"), fc.integer({ min: 1, max: 6 }), operation)
    .map(([client, sequence, op]) => request(client, sequence, op)),
);
const log: fc.Arbitrary<Entry[]> = fc
  .array(command, { minLength: 1, maxLength: 30 })
  .map((all) => all.map((init, at) => entry(at + 1, uncheckedBytes(init), 1)));

/** All keys with what a watch tells of them: value, version, and the index that created them. */
function state(machine: KeyValueMachine): Map<string, string> {
  const keys = new Map<string, string>();
  for (const { key: name, value: content, version, createVersion } of machine.range()) {
    keys.set(text(name), `${text(content)} ${version} ${createVersion}`);
  }
  return keys;
}

const text = (of: Uint8Array) => Buffer.from(of).toString("latin1");

/** Applies changes to a state as somebody who watches would. */
function follow(keys: Map<string, string>, changes: readonly Change[]): void {
  for (const { type, key: name, value: content, index } of changes) {
    const present = keys.get(text(name));
    expect(present !== undefined, `${type} at ${index}`).toBe(type !== "created");
    if (type === "deleted") keys.delete(text(name));
    else keys.set(text(name), `${text(content)} ${index} ${type === "created" ? index : present!.split(" ")[2]}`);
  }
}

/** Follows a machine from entry to entry; a load begins anew. Returns the indexes of the loads. */
function followAll(machine: KeyValueMachine, entries: readonly Entry[], batch: number): number[] {
  const { history } = machine;
  const loads: number[] = [];
  let keys = state(machine);
  for (let from = 0; from < entries.length; from += batch) {
    const some = entries.slice(from, from + batch);
    const since = history.since;
    machine.apply(some);
    if (history.since !== since) {
      loads.push(history.since - 1);
      keys = state(machine);
      continue;
    }
    const effects = history.effects([some[0]!.index, some.at(-1)!.index]);
    for (const each of some) follow(keys, changesOf(each, effects.get(each.index)));
    expect(keys).toEqual(state(machine));
  }
  return loads;
}

/** The changes since a load or the start, as one reader gets them. */
function allChanges(machine: KeyValueMachine, entries: readonly Entry[]): Change[] {
  const { since } = machine.history;
  if (since > machine.appliedIndex) return [];
  const effects = machine.history.effects([since, machine.appliedIndex]);
  return entries.slice(since - 1).flatMap((each) => changesOf(each, effects.get(each.index)));
}

describe("the changes of entries", () => {
  test("lead a follower to the same state, whatever the entries and the batches are", () => {
    fc.assert(
      fc.property(log, fc.integer({ min: 1, max: 5 }), (entries, batch) => {
        followAll(new MemoryMachine(), entries, batch);
      }),
      { numRuns: runs(100, 300) },
    );
  });

  test("are the same on LMDB, also after it was opened again, and after a restore", async () => {
    await fc.assert(
      fc.asyncProperty(log, fc.integer({ min: 1, max: 5 }), async (entries, batch) => {
        const reference = new MemoryMachine();
        followAll(reference, entries, 1);
        const options = { directory: await temporaryDirectory() };
        const machine = await openLmdb(options);
        followAll(machine, entries, batch);
        expect(allChanges(machine, entries)).toEqual(allChanges(reference, entries));
        await machine.crash();
        const again = await openLmdb(options);
        expect(again.rebuilt).toBe(false);
        expect(again.history.since).toBe(reference.history.since);
        expect(allChanges(again, entries)).toEqual(allChanges(reference, entries));
        const last = metaAt(entries.at(-1)!);
        await again.restore(inPieces(await payloadOf(reference), 100), last);
        expect(again.history.since).toBe(last.index + 1);
        await again.crash();
      }),
      { numRuns: runs(5, 15) },
    );
  });

  test("come with the records before them while somebody keeps these, and not after", () => {
    fc.assert(
      fc.property(log, (entries) => {
        const machine = new MemoryMachine();
        const stop = machine.history.keepRecords();
        for (const each of entries) {
          const before = new Map([...machine.range()].map((record) => [text(record.key), record]));
          machine.apply([each]);
          const changes = changesOf(each, machine.history.effects([each.index, each.index]).get(each.index));
          const records = machine.history.recordsBefore(each.index) ?? [];
          expect(records.length).toBe(changes.length);
          for (const [at, change] of changes.entries()) {
            expect(records[at]?.version).toBe(before.get(text(change.key))?.version);
            expect(records[at]?.value).toEqual(before.get(text(change.key))?.value);
          }
        }
        stop();
        for (const { index } of entries) expect(machine.history.recordsBefore(index)).toBeUndefined();
      }),
      { numRuns: runs(70, 200) },
    );
  });
});

describe("noted effects", () => {
  const index = fc.integer({ min: 1, max: 2 ** 48 });
  const listed = fc.oneof(
    fc.record({ type: fc.constantFrom("put" as const, "created" as const), step: fc.nat(127) }),
    fc.record({
      type: fc.constant("deleted" as const),
      key: fc.uint8Array({ minLength: 1, maxLength: 40 }).map((key) => Buffer.from(key)),
      lease: fc.constant(0),
      isExpired: fc.constant(false),
    }),
    fc.record({
      type: fc.constant("deleted" as const),
      key: fc.uint8Array({ minLength: 1, maxLength: 40 }).map((key) => Buffer.from(key)),
      lease: index,
      isExpired: fc.boolean(),
    }),
  );
  const effects: fc.Arbitrary<Effects> = fc.oneof(
    fc.constant<Effects>({ type: "nothing" }),
    fc.constant<Effects>({ type: "created" }),
    fc.record({ type: fc.constantFrom("then", "otherwise", "removed"), changes: fc.array(listed) }),
  );

  test("are decoded to what was encoded, and to no more than is asked for", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(index, { maxLength: 8 }),
        fc.array(effects, { minLength: 8, maxLength: 8 }),
        (at, all) => {
          const encoder = new EffectsEncoder();
          const wanted = new Map<number, Effects>();
          for (const [place, each] of at.sort((a, b) => a - b).entries()) {
            encoder.put(each, all[place]!);
            wanted.set(each, all[place]!);
          }
          const found = new Map<number, Effects>();
          decodeEffects(encoder.bytes, [0, 2 ** 49], found);
          expect(found).toEqual(wanted);
          const some = new Map<number, Effects>();
          const [first, last] = [at[1] ?? 0, at.at(-2) ?? 0];
          decodeEffects(encoder.bytes, [first, last], some);
          expect([...some.keys()]).toEqual(at.filter((each) => each >= first && each <= last));
        },
      ),
    );
  });

  test("of bytes that are none end with CORRUPT or with some effects, never in any other way", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (data) => {
        try {
          decodeEffects(data, [0, 2 ** 49], new Map());
        } catch (error) {
          expect(error).toMatchObject({ code: "CORRUPT" });
        }
      }),
      { numRuns: runs(700, 2000) },
    );
  });

  test("cost no byte for puts of keys that exist", () => {
    const machine = new MemoryMachine();
    machine.apply([entry(1, uncheckedBytes(newest(put("a", "1"))), 1)]);
    machine.apply([entry(2, uncheckedBytes(newest(put("a", "2"))), 1), entry(3, uncheckedBytes(newest(del("a"))), 1)]);
    expect([...machine.history.effects([1, 3])]).toEqual([[1, { type: "created" }]]);
  });
});
