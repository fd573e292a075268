import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Worker } from "node:worker_threads";
import fc from "fast-check";
import { open } from "lmdb";
import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { encodeSnapshot, measureSnapshot } from "../../../src/encoding/snapshot_encoder.js";
import type { SnapshotHeader } from "../../../src/encoding/snapshot_header.js";
import type { KeyValueMachine } from "../../../src/machine/kv/key_value_machine.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import type { LmdbMachine } from "../../../src/machine/lmdb_machine.js";
import type { FromWorker } from "../../../src/machine/worker/messages.js";
import type { Entry } from "../../../src/raft/types.js";
import { temporaryDirectory } from "../../support/disk/temporary_directory.js";
import {
  applyOperation,
  bytes,
  collect,
  entry,
  openLmdb,
  payloadOf,
  put,
  request,
  uncheckedBytes,
} from "../../support/machines/machines.js";
import { UPSET, upset } from "../../support/machines/upset.js";
import { runs } from "../../support/run/tries_all.js";

/** One entry that puts a value of `valueBytes`. */
function putEntry(index: number, key: string, valueBytes: number): Entry {
  const value = Buffer.alloc(valueBytes, `${index} `);
  return entry(index, uncheckedBytes({ operation: { case: "put", value: { key: bytes(key), value } } }));
}

/** Puts keys of 1 KiB each until the state has `kibibytes`. */
function fill(machine: KeyValueMachine, kibibytes: number): void {
  for (let left = kibibytes; left > 0; left -= 100) {
    const first = machine.appliedIndex + 1;
    const count = Math.min(left, 100);
    machine.apply(Array.from({ length: count }, (_, n) => putEntry(first + n, `key ${first + n}`, 1024)));
  }
}

async function openFilled(kibibytes: number): Promise<{ machine: LmdbMachine; path: string }> {
  const directory = await temporaryDirectory();
  const machine = await openLmdb({ directory });
  fill(machine, kibibytes);
  return { machine, path: `${directory}/view-1` };
}

function headerAt(index: number, chunkBytes: number = limits.snapshotChunkBytes): SnapshotHeader {
  const members = [{ id: "n1", address: "127.0.0.1:7001", role: "voter" as const }];
  return { clusterId: "cluster-1", meta: { index, term: 1, membership: { index: 0, members } }, chunkBytes };
}

/** What a generator yields, in one, and what it returns. */
async function drain<Result>(pieces: AsyncGenerator<Uint8Array, Result, void>) {
  const copies: Buffer[] = [];
  for (;;) {
    const step = await pieces.next();
    if (step.done) return { bytes: Buffer.concat(copies), result: step.value };
    copies.push(Buffer.from(step.value));
  }
}

/** The worker that the next capture starts. */
function nextWorker(): Promise<Worker> {
  return once(process, "worker").then(([worker]) => worker);
}

/** Read transactions that are open in the environment that a machine of this process has open. */
function openTransactions(path: string): number {
  const environment = open<Buffer, Uint8Array>({ path, noSubdir: false, noSync: true, readOnly: true });
  // A line for each slot: process, thread, transaction id, which is "-" while there is none.
  const lines = (environment as unknown as { readerList(): string }).readerList().trim().split("\n").slice(1);
  void environment.close();
  return lines.filter((line) => !line.endsWith(" -")).length;
}

/** Runs `body` over and over until it says that it is enough. */
async function until(body: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await body())) await nextTurn();
}

describe("a snapshot file from the worker thread", () => {
  test("equals the one that the main thread makes, to the byte, whatever the state", async () => {
    const value = fc.oneof(fc.integer({ min: 0, max: 50 }), fc.constantFrom(1000, 65_520, 70_000, limits.valueBytes));
    const chunkBytes = fc.constantFrom(1000, 65_536, limits.snapshotChunkBytes, limits.snapshotChunkBytesMax);
    await openLmdb({ directory: await temporaryDirectory() });
    await fc.assert(
      fc.asyncProperty(fc.array(value, { maxLength: 12 }), fc.nat(6), chunkBytes, async (sizes, clients, chunk) => {
        const entries = sizes.map((size, at) => putEntry(at + 1, `key ${(at * 7) % 10}`, size));
        for (let n = 0; n < clients; n++) {
          const command = request(`client ${n % 3}`, n + 1, put("k", `${n}`));
          entries.push(entry(entries.length + 1, uncheckedBytes(command)));
        }
        const [memory, lmdb] = [new MemoryMachine(), await openLmdb({ directory: await temporaryDirectory() })];
        for (const each of entries) for (const machine of [memory, lmdb]) machine.apply([each]);
        const header = headerAt(Math.max(1, entries.length), chunk);
        const expected = encodeSnapshot(header, (await memory.capture()).payload());
        const view = await lmdb.capture();
        expect(view.appliedIndex).toBe(entries.length);
        const [made, wanted] = [await drain(view.snapshotFile(header)), await drain(expected)];
        view.release();
        await lmdb.crash();
        expect(made.bytes.equals(wanted.bytes)).toBe(true);
        expect(made.result).toEqual(wanted.result);
      }),
      { numRuns: runs(15, 40) },
    );
  });

  test("has its size known first, and comes in pieces of one write", async () => {
    const { machine } = await openFilled(3000);
    const view = await machine.capture();
    const header = headerAt(view.appliedIndex);
    const sizes: number[] = [];
    const file = view.snapshotFile(header);
    let step = await file.next();
    for (; !step.done; step = await file.next()) sizes.push(step.value.byteLength);
    view.release();
    const measure = await measureSnapshot(header, (await machine.capture()).payload());
    expect(step.value).toEqual(measure);
    expect(sizes.slice(0, -1).every((size) => size === limits.snapshotWriteBytes)).toBe(true);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(measure.fileBytes);
  });

  test("is refused with a header that no reader would accept, and the view stays usable", async () => {
    const { machine } = await openFilled(1);
    const view = await machine.capture();
    expect(() => view.snapshotFile(headerAt(0))).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    expect((await drain(view.snapshotFile(headerAt(1)))).bytes.byteLength).toBeGreaterThan(1000);
    expect(() => view.payload()).toThrow("read once");
    view.release();
  });
});

test("each view is the state at its index while entries are applied and the file grows", async () => {
  const entryOf = (index: number) => putEntry(index, `key ${(index * 7919) % 500}`, 200 + ((index * 31) % 3000));
  const machine = await openLmdb({ directory: await temporaryDirectory() });
  const seen = new Map<number, Buffer>();
  let capturing = true;
  const captures = Promise.all(
    Array.from({ length: 3 }, async () => {
      for (let round = 0; round < runs(12, 25); round++) {
        const applied = machine.appliedIndex;
        const view = await machine.capture();
        expect(view.appliedIndex).toBeGreaterThanOrEqual(applied);
        expect(view.appliedIndex).toBeLessThanOrEqual(machine.appliedIndex);
        seen.set(view.appliedIndex, await collect(view.payload()));
        view.release();
      }
    }),
  ).finally(() => {
    capturing = false;
  });
  await until(() => {
    const first = machine.appliedIndex + 1;
    machine.apply(Array.from({ length: 10 }, (_, n) => entryOf(first + n)));
    return !capturing;
  });
  await captures;
  const reference = new MemoryMachine();
  expect(seen.size).toBeGreaterThan(10);
  for (const [index, payload] of [...seen].sort(([a], [b]) => a - b)) {
    while (reference.appliedIndex < index) reference.apply([entryOf(reference.appliedIndex + 1)]);
    expect((await payloadOf(reference)).equals(payload), `at index ${index}`).toBe(true);
  }
});

describe("a view of the worker thread that ends early", () => {
  test("frees its transaction when it is released half-way, and the thread serves the next view", async () => {
    const { machine, path } = await openFilled(5000);
    const view = await machine.capture();
    const file = view.snapshotFile(headerAt(view.appliedIndex));
    await file.next();
    expect(openTransactions(path)).toBe(1);
    view.release();
    view.release();
    await expect(file.next()).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    expect(() => view.payload()).toThrow(expect.objectContaining({ code: "FAILED_PRECONDITION" }));
    await view.ended;
    expect(openTransactions(path)).toBe(0);
    expect((await payloadOf(machine)).byteLength).toBeGreaterThan(5_000_000);
  });

  test("frees its transaction when it is released before it is read, or by a caller that does not wait", async () => {
    const { machine, path } = await openFilled(10);
    const view = await machine.capture();
    view.release();
    await view.ended;
    expect(openTransactions(path)).toBe(0);
    await machine.capture().then((other) => other.release());
    await machine.close();
  });

  test("ends with STOPPED when the machine closes, whether it is captured, read or waited for", async () => {
    const { machine } = await openFilled(5000);
    const [idle, read, waiting] = [await machine.capture(), await machine.capture(), await machine.capture()];
    const reading = read.payload()[Symbol.asyncIterator]();
    await reading.next();
    const next = waiting.payload()[Symbol.asyncIterator]().next();
    const capture = machine.capture();
    const results = Promise.allSettled([next, capture]);
    await machine.close();
    const stopped = expect.objectContaining({ code: "STOPPED" });
    await expect(reading.next()).rejects.toThrow(stopped);
    expect(() => idle.payload()).toThrow(stopped);
    expect(await results).toEqual([
      { status: "rejected", reason: stopped },
      { status: "rejected", reason: stopped },
    ]);
  });

  test("leaves no reader and no thread behind after many captures in a row", async () => {
    const { machine, path } = await openFilled(100);
    const started = nextWorker();
    for (let round = 0; round < 300; round++) {
      const view = await machine.capture();
      if (round % 3 === 0) await collect(view.payload());
      if (round % 3 === 1) await view.snapshotFile(headerAt(view.appliedIndex)).next();
      view.release();
      if (round % 50 === 0) applyOperation(machine, put("k", `${round}`));
    }
    const last = await machine.capture();
    last.release();
    await last.ended;
    expect(openTransactions(path)).toBe(0);
    const exited = once(await started, "exit");
    await machine.close();
    expect(await exited).toEqual([0]);
  });
});

test("damage of the state is found by its reader, and is as fatal as on the main thread (T7)", async () => {
  const { machine, path } = await openFilled(10);
  const environment = open<Buffer, Uint8Array>({ path, noSubdir: false, noSync: true });
  const sessions = environment.openDB<Buffer, Uint8Array>("sessions", { encoding: "binary", keyEncoding: "binary" });
  sessions.putSync(Buffer.from("client"), Buffer.from("no session"));
  const view = await machine.capture();
  await expect(collect(view.payload())).rejects.toMatchObject({ code: "CORRUPT" });
  expect(machine.damaged.reason).toMatchObject({ code: "CORRUPT" });
  view.release();
  await view.ended;
  expect(openTransactions(path)).toBe(0);
  await environment.close();
});

describe("the worker thread's memory", () => {
  test("holds at most limits.workerBuffers pieces for a slow reader", async () => {
    const { machine } = await openFilled(8000);
    const started = nextWorker();
    const slow = await machine.capture();
    let arrived = 0;
    (await started).on("message", ({ task, reply }: FromWorker) => {
      if (reply.type === "piece" && task === 1) arrived++;
    });
    const pieces = slow.payload()[Symbol.asyncIterator]();
    for (let taken = 1; taken <= 3; taken++) {
      await pieces.next();
      // Another reader gets all of its pieces meanwhile, so nothing but the limit holds these up.
      await payloadOf(machine);
      expect(arrived).toBe(taken - 1 + limits.workerBuffers);
    }
    slow.release();
  });
});

test("an unexpected error of the thread fails its views and their waiting callers, and the thread continues", async () => {
  const failed = expect.objectContaining({ code: "INTERNAL", message: expect.stringContaining(UPSET) });
  const { machine, path } = await openFilled(5000);
  const other = await openFilled(10);
  const started = nextWorker();
  const [view, idle, elsewhere] = [await machine.capture(), await machine.capture(), await other.machine.capture()];
  const file = view.snapshotFile(headerAt(view.appliedIndex));
  await file.next();
  upset(await started);
  await expect(until(async () => (await file.next()).done === true)).rejects.toThrow(failed);
  await Promise.all([view.ended, idle.ended, elsewhere.ended]);
  expect(() => idle.payload()).toThrow(failed);
  expect(() => elsewhere.payload()).toThrow(failed);
  expect(openTransactions(path)).toBe(0);

  fill(machine, 100);
  expect((await payloadOf(machine)).byteLength).toBeGreaterThan(5_000_000);
  idle.release();
  await machine.close();
  expect((await openLmdb({ directory: path.slice(0, path.lastIndexOf("/")) })).rebuilt).toBe(false);
});

test("a thread that dies before its first view fails that capture, and the next capture starts another thread", async () => {
  const { machine, path } = await openFilled(10);
  // Told in the turn in which the thread is made: it is nowhere near LMDB.
  process.once("worker", (worker: Worker) => void worker.terminate());
  await expect(machine.capture()).rejects.toThrow(
    expect.objectContaining({ code: "BUSY", message: expect.stringContaining("could not start") }),
  );
  expect(openTransactions(path)).toBe(0);
  expect((await payloadOf(machine)).byteLength).toBeGreaterThan(10_000);
});

describe("a process with a worker thread", () => {
  /** Runs a program that has a machine with 5 MB in it and a view. */
  async function run(program: string) {
    const directory = await temporaryDirectory();
    const machine = await openLmdb({ directory });
    fill(machine, 5000);
    await machine.close();
    const module = fileURLToPath(new URL("../../../dist/src/machine/lmdb_machine.js", import.meta.url));
    const source = `
      import { LmdbMachine } from ${JSON.stringify(module)};
      const machine = await LmdbMachine.open({ directory: ${JSON.stringify(directory)} });
      const view = await machine.capture();
      const pieces = view.payload()[Symbol.asyncIterator]();
      ${program}`;
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", source], {
      encoding: "utf8",
      timeout: 30_000,
    });
    return { status, signal, stdout, stderr };
  }

  const clean = { status: 0, signal: null, stderr: "" };

  test("stays alive for a piece that a reader waits for", async () => {
    const program =
      "await pieces.next(); await machine.capture(); console.log((await pieces.next()).value.byteLength);";
    expect(await run(program)).toEqual({ ...clean, stdout: `${limits.snapshotWriteBytes}\n` });
  });

  test("exits although a view is open that nobody reads", async () => {
    expect(await run("await pieces.next();")).toEqual({ ...clean, stdout: "" });
  });

  test("can exit at once while the thread is at work", async () => {
    const program = "await pieces.next(); pieces.next(); pieces.next(); setImmediate(() => process.exit(7));";
    expect(await run(program)).toEqual({ ...clean, status: 7, stdout: "" });
  });
});
