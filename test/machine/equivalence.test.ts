import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeCommand } from "../../src/machine/kv/command.js";
import { type Change, changesOf } from "../../src/machine/kv/effects/changes.js";
import type { KeyValueMachine } from "../../src/machine/kv/key_value_machine.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import type { KeyEntry, KeyRecord } from "../../src/machine/kv/record_store.js";
import { NEWEST_RULES } from "../../src/machine/kv/session_limits.js";
import { LmdbMachine } from "../../src/machine/lmdb_machine.js";
import { StoreMachine } from "../../src/machine/store_machine.js";
import type { Entry } from "../../src/raft/types.js";
import type { StoreFactory } from "../../src/store/reads.js";
import { storeFactory } from "../../src/store/store.js";
import { FaultyFileSystem } from "../support/disk/faulty_fs.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import {
  bytes,
  type CommandInit,
  type ComparisonInit,
  cas,
  contents,
  countedRequest,
  del,
  entry,
  expire,
  flushPoint,
  getCommand,
  grant,
  inPieces,
  keepAlive,
  leasedPut,
  leasesOf,
  load,
  metaAt,
  newest,
  openLmdb,
  payloadOf,
  put,
  request,
  resultHex,
  revoke,
  type StepInit,
  TINY_RULES,
  text,
  txn,
  uncheckedBytes,
} from "../support/machines/machines.js";
import { runs } from "../support/run/tries_all.js";
import { ModelStores } from "../support/store/model_store.js";

/** The bytes are those of a largest session, and a little less than those of four common ones. */
const SESSION_LIMITS = { sessions: 4, answers: 3, valueBytes: 8, bytes: 632 };

const key = fc.constantFrom("a", "ab", "b", "\u{ff}", "z");
const value = fc.constantFrom("", "1", "2", "a value that is a little longer");
const versionOf = (name: string, version: number): ComparisonInit => ({
  key: bytes(name),
  expected: { case: "version", value: BigInt(version) },
});
const readAll: StepInit = { case: "range", value: { keys: {}, limit: 2n } };
const removeAll: StepInit = { case: "deleteRange", value: { keys: { prefix: bytes("a") } } };
const deleteIf = (name: string, version: number) =>
  ({ case: "delete", value: { key: bytes(name), ifVersion: BigInt(version) } }) as const;
/** Indexes at which a lease may have been granted: most logs of this test begin with grants. */
const lease = fc.integer({ min: 1, max: 9 });
const leaseOperation = fc.oneof(
  { weight: 3, arbitrary: fc.constant(grant()) },
  { weight: 6, arbitrary: fc.tuple(key, value, lease).map(([k, v, id]) => leasedPut(k, v, id)) },
  {
    weight: 2,
    arbitrary: fc.tuple(key, key, lease, fc.boolean()).map(([k, other, id, isDelete]) => {
      // A list that changes a key twice is invalid on both machines.
      const second = isDelete ? del(other) : leasedPut(other, "t", id + 1);
      return txn([], [leasedPut(k, "t", id) as StepInit, second as StepInit]);
    }),
  },
  {
    weight: 2,
    arbitrary: fc.uniqueArray(lease, { minLength: 1, maxLength: 3 }).map((ids) => keepAlive(...ids.sort())),
  },
  { weight: 1, arbitrary: lease.map(revoke) },
  {
    weight: 2,
    arbitrary: fc.tuple(lease, fc.nat(1), fc.nat(1)).map(([id, one, two]) => expire([id, one], [id + 1, two])),
  },
);
const operation = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(key, value).map(([k, v]) => put(k, v)) },
  { weight: 3, arbitrary: key.map(del) },
  { weight: 2, arbitrary: key.map(getCommand) },
  { weight: 4, arbitrary: fc.tuple(key, value, value, fc.boolean()).map(([k, e, v, c]) => cas(k, e, v, c)) },
  { weight: 4, arbitrary: fc.tuple(key, fc.nat(40), value, fc.boolean()).map(([k, e, v, c]) => cas(k, e, v, c)) },
  {
    weight: 4,
    arbitrary: fc
      .tuple(key, fc.nat(40), value, key)
      .map(([k, version, v, other]) =>
        txn([versionOf(k, version)], [put(k, v) as StepInit], [getCommand(other) as StepInit, readAll, removeAll]),
      ),
  },
  { weight: 1, arbitrary: key.chain((k) => fc.nat(40).map((version) => deleteIf(k, version))) },
  { weight: 1, arbitrary: value.map((v) => load(["a", v], ["b", v])) },
  { weight: 1, arbitrary: fc.boolean().map(flushPoint) },
);
const requestId = fc.record({
  client: fc.constantFrom("p", "q", "qq", "r", "s"),
  sequence: fc.integer({ min: 1, max: 8 }),
  acknowledged: fc.integer({ min: 0, max: 6 }),
  since: fc.oneof({ weight: 1, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: fc.integer({ min: 1, max: 40 }) }),
  make: fc.constantFrom(request, request, countedRequest),
});
const command: fc.Arbitrary<CommandInit> = fc.oneof(
  { weight: 1, arbitrary: operation.map((op) => ({ operation: op })) },
  { weight: 1, arbitrary: operation.map(newest) },
  { weight: 4, arbitrary: leaseOperation.map(newest) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(requestId, fc.oneof({ weight: 3, arbitrary: operation }, { weight: 1, arbitrary: leaseOperation }))
      .map(([{ client, sequence, acknowledged, since, make }, op]) => ({
        ...make(client, sequence, op, acknowledged, since),
        ...(op.case?.startsWith("lease") && { rules: NEWEST_RULES }),
      })),
  },
);
const entryData = fc.oneof(
  { weight: 12, arbitrary: command.map((init) => ({ type: "command" as const, data: uncheckedBytes(init) })) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 5 }).map((data) => ({ type: "command" as const, data })) },
  { weight: 1, arbitrary: fc.constant({ type: "no-op" as const, data: new Uint8Array(0) }) },
);
const log: fc.Arbitrary<Entry[]> = fc
  .array(entryData, { minLength: 1, maxLength: 40 })
  .map((all) => all.map(({ type, data }, at) => entry(at + 1, data, 1 + Math.floor(at / 10), type)));

/** Applies entries in batches of the given sizes, used in turn; returns the results as bytes. */
function applyAll(
  machine: KeyValueMachine,
  entries: readonly Entry[],
  sizes: readonly number[],
): (string | undefined)[] {
  const results: (string | undefined)[] = [];
  for (let from = 0, turn = 0; from < entries.length; turn++) {
    const to = from + sizes[turn % sizes.length]!;
    results.push(...machine.apply(entries.slice(from, to)).map(({ result }) => resultHex(result)));
    from = to;
  }
  return results;
}

/** The same, with the preparations of a node, and turns of the event loop in which a store's steps proceed. */
async function applyPreparing(
  machine: KeyValueMachine,
  entries: readonly Entry[],
  sizes: readonly number[],
): Promise<(string | undefined)[]> {
  const results: (string | undefined)[] = [];
  for (let from = 0, turn = 0; from < entries.length; turn++) {
    const size = sizes[turn % sizes.length]!;
    const batch = entries.slice(from, from + size);
    if (turn % 3 > 0) await machine.prepare?.(batch);
    if (size % 2 > 0) await nextTurn();
    results.push(...machine.apply(batch).map(({ result }) => resultHex(result)));
    from += size;
  }
  return results;
}

/** The changes that a machine knows of. */
function changesIn({ history }: KeyValueMachine, entries: readonly Entry[], since = history.since): Change[] {
  const last = entries.at(-1)!.index;
  if (since > last) return [];
  const effects = history.effects([since, last]);
  return entries.slice(since - 1).flatMap((entry) => changesOf(entry, effects.get(entry.index)));
}

const sizes = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 4 });

/** Runs `body` with LMDB machines that are gone when it ends. */
async function withMachines(body: (open: (name: string) => Promise<LmdbMachine>) => Promise<void>): Promise<void> {
  const directory = await temporaryDirectory();
  const opened: LmdbMachine[] = [];
  try {
    await body(async (name) => {
      const machine = await LmdbMachine.open({ directory: `${directory}/${name}`, sessionLimits: SESSION_LIMITS });
      opened.push(machine);
      return machine;
    });
  } finally {
    for (const machine of opened) await machine.crash();
  }
}

test("a prefix of the log gives the same results and payload, to the byte, however it was reached", async () => {
  // With one machine open all the time, the worker thread is not started anew for each of the others.
  await openLmdb({ directory: await temporaryDirectory() });
  await fc.assert(
    fc.asyncProperty(log, fc.nat(), sizes, fc.boolean(), async (entries, cutAt, batches, clean) => {
      const last = entries.at(-1)!;
      const reference = new MemoryMachine(SESSION_LIMITS);
      const expectedResults = applyAll(reference, entries, [1]);
      const expectedPayload = await payloadOf(reference);
      const k = cutAt % entries.length;
      const half = new MemoryMachine(SESSION_LIMITS);
      applyAll(half, entries.slice(0, k), [1]);
      const halfPayload = await payloadOf(half);
      const halfMeta = metaAt(entries[k - 1] ?? { index: 0, term: 0 });

      await withMachines(async (open) => {
        // All of it, stopped and opened again in between.
        let machine = await open("reopened");
        const results = applyAll(machine, entries.slice(0, k), batches);
        expect(await payloadOf(machine)).toEqual(halfPayload);
        await (clean ? machine.close() : machine.crash());
        machine = await open("reopened");
        expect(machine.rebuilt).toBe(false);
        expect(machine.appliedIndex).toBe(k);
        results.push(...applyAll(machine, entries.slice(k), batches));
        expect(results).toEqual(expectedResults);
        expect(await payloadOf(machine)).toEqual(expectedPayload);
        expect(contents(machine)).toEqual(contents(reference));
        expect(leasesOf(machine)).toEqual(leasesOf(reference));
        expect([machine.keyCount, machine.sessionCount]).toEqual([reference.keyCount, reference.sessionCount]);

        // Restored in the middle, over another state.
        const restored = await open("restored");
        applyAll(restored, entries.slice(0, Math.floor(k / 2)), batches);
        await restored.restore(inPieces(halfPayload, 7), halfMeta);
        expect(applyAll(restored, entries.slice(k), batches)).toEqual(expectedResults.slice(k));
        expect(await payloadOf(restored)).toEqual(expectedPayload);
        expect(leasesOf(restored)).toEqual(leasesOf(reference));

        const restoredInMemory = new MemoryMachine(SESSION_LIMITS);
        await restoredInMemory.restore(inPieces(halfPayload, 1), halfMeta);
        expect(applyAll(restoredInMemory, entries.slice(k), batches)).toEqual(expectedResults.slice(k));
        expect(await payloadOf(restoredInMemory)).toEqual(expectedPayload);
        await restoredInMemory.restore(inPieces(expectedPayload, 1000), metaAt(last));
        expect(await payloadOf(restoredInMemory)).toEqual(expectedPayload);
      });
    }),
    { numRuns: runs(15, 40) },
  );
});

/** A disk in memory with machines on stores in it, which have a flush point at every few entries. */
function storeHome(flushBytes: number) {
  const fs = new FaultyFileSystem(["/data"]);
  const stores = storeFactory({ fs, rules: { ...TINY_RULES, flushBytes, fanOut: 2, baseRuns: 2 }, cacheBytes: 4096 });
  return homeOf(stores, fs);
}

function modelHome(flushBytes: number, tellsCreated: boolean) {
  const fs = new FaultyFileSystem(["/data"]);
  return homeOf(new ModelStores({ fs, flushBytes, tellsCreated }), fs);
}

function homeOf(stores: StoreFactory, fs: FaultyFileSystem) {
  const opened: StoreMachine[] = [];
  return {
    async open(name: string): Promise<StoreMachine> {
      const machine = await StoreMachine.open({
        directory: `/data/${name}`,
        fs,
        stores,
        sessionLimits: SESSION_LIMITS,
      });
      opened.push(machine);
      return machine;
    },
    async close(): Promise<void> {
      for (const machine of opened) await machine.crash();
    },
  };
}

type Home = ReturnType<typeof homeOf>;

describe.each([
  { kind: "a store", home: () => storeHome(200) },
  { kind: "a store with few flush points", home: () => storeHome(2_000) },
  { kind: "a model of the store", home: () => modelHome(200, true) },
  { kind: "a model whose steps find nothing out", home: () => modelHome(200, false) },
] satisfies { kind: string; home: () => Home }[])("a machine on $kind", ({ home }) => {
  test("gives the same results, payload and changes as the one in memory, whatever stops it in between", async () => {
    await fc.assert(
      fc.asyncProperty(log, fc.nat(), sizes, fc.boolean(), async (entries, cutAt, batches, clean) => {
        const reference = new MemoryMachine(SESSION_LIMITS);
        const expectedResults = applyAll(reference, entries, [1]);
        const k = cutAt % entries.length;
        const half = new MemoryMachine(SESSION_LIMITS);
        applyAll(half, entries.slice(0, k), [1]);
        const halfPayload = await payloadOf(half);
        const { open, close } = home();
        try {
          let machine = await open("reopened");
          expect(await applyPreparing(machine, entries.slice(0, k), batches)).toEqual(expectedResults.slice(0, k));
          expect(await payloadOf(machine)).toEqual(halfPayload);
          await (clean ? machine.close() : machine.crash());
          machine = await open("reopened");
          const from = machine.appliedIndex;
          expect(machine.rebuilt).toBe(false);
          expect(from).toBeLessThanOrEqual(k);
          const view = machine.range();
          const before = new MemoryMachine(SESSION_LIMITS);
          applyAll(before, entries.slice(0, from), [1]);
          expect(await applyPreparing(machine, entries.slice(from), batches)).toEqual(expectedResults.slice(from));
          expect(Array.from(view, entryText)).toEqual(Array.from(before.range(), entryText));
          await expectSame(machine, reference, entries);

          const restored = await open("restored");
          await applyPreparing(restored, entries.slice(0, Math.floor(k / 2)), batches);
          await restored.restore(inPieces(halfPayload, 7), metaAt(entries[k - 1] ?? { index: 0, term: 0 }));
          expect(await applyPreparing(restored, entries.slice(k), batches)).toEqual(expectedResults.slice(k));
          await expectSame(restored, reference, entries);
        } finally {
          await close();
        }
      }),
      { numRuns: runs(12, 100) },
    );
  });
});

const entryText = ({ key, value, ...rest }: KeyEntry) => ({ ...rest, key: text(key), value: text(value) });

async function expectSame(machine: StoreMachine, reference: MemoryMachine, entries: readonly Entry[]): Promise<void> {
  const { since } = machine.history;
  expect(changesIn(machine, entries)).toEqual(changesIn(reference, entries, Math.max(since, reference.history.since)));
  expect(await payloadOf(machine)).toEqual(await payloadOf(reference));
  expect(contents(machine)).toEqual(contents(reference));
  expect(leasesOf(machine)).toEqual(leasesOf(reference));
  expect(machine.sessionCount).toBe(reference.sessionCount);
  const asText = (record: KeyRecord | undefined) => record && { ...record, value: text(record.value) };
  for (const { key } of reference.range()) expect(asText(machine.get(key))).toEqual(asText(reference.get(key)));
}

test("a log gives the same results in memory however it is cut into batches", () => {
  fc.assert(
    fc.property(log, sizes, (entries, batches) => {
      const one = new MemoryMachine(SESSION_LIMITS);
      const other = new MemoryMachine(SESSION_LIMITS);
      expect(applyAll(other, entries, batches)).toEqual(applyAll(one, entries, [1]));
      expect(contents(other)).toEqual(contents(one));
      expect(leasesOf(other)).toEqual(leasesOf(one));
    }),
    { numRuns: runs(100, 300) },
  );
});

test("any bytes decode to a command or to nothing", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (data) => {
      const decoded = decodeCommand(data);
      if (decoded !== undefined) expect(decoded.operation.case).toBeDefined();
    }),
    { numRuns: runs(700, 2000) },
  );
});
