import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { INITIAL_HARD_STATE, LOG_START } from "../../../src/raft/types.js";
import { WriteAheadLog } from "../../../src/storage/wal/wal.js";
import { nodeFileSystem } from "../../../src/system/fs.js";
import {
  createLog,
  DIRECTORY,
  digests,
  entriesFrom,
  entry,
  expectError,
  files,
  newFileSystem,
  openLog,
  readAll,
} from "./support.js";

describe("an append to the log", () => {
  test("is durable with entries and hard state when it returns", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs);
    const hardState = { term: 3, vote: "node-2", commit: 1 };
    await log.append({ entries: entriesFrom(1, 3, 1), hardState, sync: true });
    await log.append({ entries: [entry(4, 2, 0), entry(5, 3, 5000)], sync: true });
    const { log: reopened, tornBytes } = await openLog(fs.crash({ keep: "none" }));
    expect(await readAll(reopened)).toEqual([...entriesFrom(1, 3, 1), entry(4, 2, 0), entry(5, 3, 5000)]);
    expect(reopened.hardState).toEqual(hardState);
    expect(reopened.last).toEqual({ index: 5, term: 3 });
    expect(reopened.boundary).toEqual(LOG_START);
    expect([0, 1, 3, 4, 5, 6].map((index) => reopened.termAt(index))).toEqual([0, 1, 1, 2, 3, undefined]);
    expect(reopened.termRanges()).toEqual(log.termRanges());
    expect(tornBytes).toBe(0);
  });

  test("may be lost in a power failure without a sync, and is made durable by a later sync", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs);
    await log.append({ entries: entriesFrom(1, 7), sync: true });
    const syncs = fs.calls.datasync;
    const hardState = { term: 0, vote: undefined, commit: 7 };
    await log.append({ entries: [], hardState, sync: false });
    expect(fs.calls.datasync).toBe(syncs);
    expect(log.hardState.commit).toBe(7);

    const other = newFileSystem();
    const second = await createLog(other);
    await second.append({ entries: entriesFrom(1, 7), sync: true });
    await second.append({ entries: [], hardState, sync: false });
    await second.append({ entries: [], sync: true });

    expect((await openLog(fs.crash({ keep: "none" }))).log.hardState.commit).toBe(0);
    expect((await openLog(other.crash({ keep: "none" }))).log.hardState.commit).toBe(7);
  });

  test("takes one write and one sync, and none for an unchanged hard state", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs);
    const hardState = { term: 1, vote: "a", commit: 0 };
    const before = { ...fs.calls };
    await log.append({ entries: entriesFrom(1, 100), hardState, sync: true });
    expect(fs.calls.write - before.write).toBe(1);
    expect(fs.calls.datasync - before.datasync).toBe(1);
    await log.append({ entries: [], hardState: { ...hardState }, sync: true });
    expect(fs.calls.write - before.write).toBe(1);
    expect(fs.calls.datasync - before.datasync).toBe(1);
  });

  test("at or below the last index removes the tail, even across segments and after reopening", async () => {
    const fs = newFileSystem();
    const sizes = { segmentBytes: 1500, fillBytes: 512 };
    const log = await createLog(fs, sizes);
    for (let index = 1; index <= 60; index++) await log.append({ entries: [entry(index)], sync: true });
    expect((await files(fs)).length).toBeGreaterThan(2);
    await log.append({ entries: entriesFrom(20, 22, 2), sync: true });
    const expected = [...entriesFrom(1, 19), ...entriesFrom(20, 22, 2)];
    expect(await readAll(log)).toEqual(expected);
    expect(log.last).toEqual({ index: 22, term: 2 });
    const restarted = fs.crash({ keep: "none" });
    const { log: reopened } = await openLog(restarted, sizes);
    expect(await readAll(reopened)).toEqual(expected);
    await reopened.append({ entries: [entry(22, 5), entry(23, 5)], sync: true });
    const { log: again } = await openLog(restarted.crash({ keep: "none" }), sizes);
    expect(await readAll(again)).toEqual([...expected.slice(0, -1), entry(22, 5), entry(23, 5)]);
  });

  test("is carried out in the order of the calls when calls overlap", async () => {
    const log = await createLog(newFileSystem(), { segmentBytes: 2000 });
    await Promise.all(entriesFrom(1, 50).map((one) => log.append({ entries: [one], sync: true })));
    expect(await readAll(log)).toEqual(entriesFrom(1, 50));
  });

  test("that breaks a rule of the log is an invariant violation that changes nothing", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, {}, { index: 10, term: 3 });
    await log.append({ entries: entriesFrom(11, 12, 4), hardState: { term: 4, vote: "a", commit: 0 }, sync: true });
    const before = digests(fs);
    const refused = [
      { entries: [entry(14, 4)] },
      { entries: [entry(10, 4)] },
      { entries: [entry(13, 3)] },
      { entries: [entry(11, 2)] },
      { entries: [entry(13, 4), entry(15, 4)] },
      { entries: [entry(13, 5), entry(14, 4)] },
      { entries: [], hardState: { term: 3, vote: "a", commit: 0 } },
      { entries: [], hardState: { term: 5, vote: "a".repeat(65), commit: 0 } },
    ];
    for (const batch of refused) {
      await expect(log.append({ ...batch, sync: true })).rejects.toThrow("broken invariant");
    }
    expect(digests(fs)).toEqual(before);
    await log.append({ entries: [entry(13, 4)], sync: true });
    expect(log.last.index).toBe(13);
  });

  test("takes a largest entry, and refuses a larger one by the limit's name", async () => {
    const log = await createLog(newFileSystem());
    const overhead = 2 + 2 + 2 + 5;
    const largest = { ...entry(1), data: new Uint8Array(limits.entryBytes - overhead).fill(7) };
    await log.append({ entries: [largest], sync: true });
    expect((await log.entries(1, 1, 1))[0]!.data.byteLength).toBe(largest.data.byteLength);
    const larger = { ...entry(2), data: new Uint8Array(limits.entryBytes - overhead + 2) };
    await expectError(log.append({ entries: [larger], sync: true }), "LIMIT_EXCEEDED", "entryBytes");
    expect(log.last.index).toBe(1);
  });

  test("that is larger than a segment gets one of its own", async () => {
    const fs = newFileSystem();
    const sizes = { segmentBytes: 4096, fillBytes: 1024 };
    const log = await createLog(fs, sizes);
    await log.append({ entries: [entry(1)], sync: true });
    await log.append({ entries: entriesFrom(2, 101, 1, 200), sync: true });
    await log.append({ entries: [entry(102)], sync: true });
    expect(log.stats().segments).toBe(3);
    const all = await readAll((await openLog(fs.crash({ keep: "none" }), sizes)).log);
    expect(all).toEqual([entry(1), ...entriesFrom(2, 101, 1, 200), entry(102)]);
  });
});

describe("entries that are read from the log", () => {
  test("stop before they exceed maxBytes, but are one at least", async () => {
    const log = await createLog(newFileSystem(), { segmentBytes: 3000 });
    for (let index = 1; index <= 60; index++) await log.append({ entries: [entry(index, 1, 68)], sync: true });
    const counts = [1, 100, 199, 200, 250, 1000, 6000].map(
      async (maxBytes) => (await log.entries(1, 60, maxBytes)).length,
    );
    expect(await Promise.all(counts)).toEqual([1, 1, 1, 2, 2, 10, 60]);
    expect(await log.entries(31, 33, 1e6)).toEqual(entriesFrom(31, 33, 1, 68));
  });

  test("are refused with the numbers outside of the log", async () => {
    const log = await createLog(newFileSystem(), {}, { index: 4, term: 1 });
    await log.append({ entries: entriesFrom(5, 9), sync: true });
    await expectError(log.entries(4, 6, 1e6), "OUT_OF_RANGE", "holds 5 to 9");
    await expectError(log.entries(5, 10, 1e6), "OUT_OF_RANGE", "5 to 10");
  });

  test("are refused with file and offset when they were damaged after they were written", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs);
    await log.append({ entries: entriesFrom(1, 3), sync: true });
    const [path] = await files(fs);
    const offset = Buffer.from(fs.contents(path!)).indexOf("2/1;");
    fs.flipBit(path!, offset);
    await expectError(log.entries(1, 3, 1e6), "CORRUPT", `${path}: the record at offset`);
    expect(await log.entries(1, 1, 1e6)).toEqual([entry(1)]);
    expect(await log.entries(3, 3, 1e6)).toEqual([entry(3)]);
  });

  test("are plain byte arrays", async () => {
    const log = await createLog(newFileSystem());
    await log.append({ entries: [entry(1)], sync: true });
    const [one] = await log.entries(1, 1, 1);
    expect(Object.getPrototypeOf(one!.data)).toBe(Uint8Array.prototype);
  });
});

test("a segment that is being read is closed only when the read ends", async () => {
  const fs = newFileSystem();
  const log = await createLog(fs, { segmentBytes: 2000, fillBytes: 512 });
  for (let index = 1; index <= 100; index++) await log.append({ entries: [entry(index)], sync: true });
  let goOn = (): void => {};
  const gate = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  fs.onCall = (call) => (call.kind === "read" ? gate : undefined);
  const read = log.entries(1, 90, 1e6);
  const trimmed = log.trim(100);
  await expectCall(fs, "unlink");
  goOn();
  expect(await read).toEqual(entriesFrom(1, 90));
  await trimmed;
  expect(fs.openFiles.length).toBe(log.stats().segments);
});

async function expectCall(fs: ReturnType<typeof newFileSystem>, kind: "unlink"): Promise<void> {
  while (fs.calls[kind] === 0) await new Promise((resolve) => setImmediate(resolve));
}

test("bytesBetween counts the bytes that the entries take on disk, in all segments", async () => {
  const log = await createLog(newFileSystem(), { segmentBytes: 4096 });
  for (let index = 1; index <= 100; index++) await log.append({ entries: [entry(index, 1, 100)], sync: true });
  expect(log.stats().segments).toBeGreaterThan(3);
  const record = log.bytesBetween(1, 1);
  expect(record).toBeGreaterThan(100);
  for (const [first, last] of [
    [1, 100],
    [1, 50],
    [30, 31],
    [17, 83],
    [100, 100],
  ] as const) {
    expect(log.bytesBetween(first, last)).toBe((last - first + 1) * record);
  }
  expect(log.bytesBetween(0, 1_000)).toBe(100 * record);
  expect(log.bytesBetween(101, 200)).toBe(0);
  expect(log.bytesBetween(9, 8)).toBe(0);
  await log.trim(40);
  expect(log.bytesBetween(1, 99)).toBe(59 * record);
  // The record that says where the log starts comes after the last entry.
  expect(log.bytesBetween(1, 100)).toBeGreaterThan(60 * record);
  expect(log.bytesBetween(1, 40)).toBe(0);
});

test("firstIndexKeeping returns the highest index that keeps so many bytes on disk", async () => {
  const log = await createLog(newFileSystem(), { segmentBytes: 4000 });
  for (let index = 1; index <= 100; index++) await log.append({ entries: [entry(index, 1, 100)], sync: true });
  // A record takes 16 bytes, and the entry's 108 or 109, up to a multiple of 8: 128.
  expect(log.firstIndexKeeping(0)).toBe(101);
  expect(log.firstIndexKeeping(1)).toBe(100);
  expect(log.firstIndexKeeping(128)).toBe(100);
  expect(log.firstIndexKeeping(129)).toBe(99);
  expect(log.firstIndexKeeping(50 * 128)).toBe(51);
  expect(log.firstIndexKeeping(100 * 128)).toBe(1);
  expect(log.firstIndexKeeping(1e9)).toBe(1);
  await log.trim(70);
  expect(log.firstIndexKeeping(1e9)).toBe(71);
  expect(log.firstIndexKeeping(256)).toBe(99);
});

describe("creating, opening and closing a log", () => {
  test("fails for an existing log, or one that does not exist", async () => {
    const fs = newFileSystem();
    await expectError(openLog(fs), "DATA_DIRECTORY", "the log is missing");
    await createLog(fs);
    await expectError(createLog(fs), "DATA_DIRECTORY", "holds a log already");
  });

  test("leaves a closed log durable, without open files, and refusing calls", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs);
    await log.append({ entries: [entry(1)], sync: false });
    await log.close();
    await log.close();
    expect(fs.openFiles).toEqual([]);
    await expectError(log.append({ entries: [entry(2)], sync: true }), "STOPPED");
    await expectError(log.entries(1, 1, 1), "STOPPED");
    expect(await readAll((await openLog(fs.crash({ keep: "none" }))).log)).toEqual([entry(1)]);
  });

  test("writes nothing and leaves no file open when the log crashes", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs);
    await log.append({ entries: [entry(1)], sync: false });
    const before = fs.changes;
    await log.crash();
    expect(fs.changes).toBe(before);
    expect(fs.openFiles).toEqual([]);
    await expectError(log.append({ entries: [], sync: true }), "STOPPED");
  });

  test("makes the unsynced writes of a crashed process durable once the log is open", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs);
    await log.append({ entries: [entry(1)], sync: false });
    await log.crash();
    await openLog(fs);
    expect(await readAll((await openLog(fs.crash({ keep: "none" }))).log)).toEqual([entry(1)]);
  });

  test("removes leftover temporary files", async () => {
    const fs = newFileSystem();
    await (await createLog(fs)).close();
    fs.setContents(`${DIRECTORY}/0000000002-0000000000000001.wal.tmp`, new Uint8Array(100));
    await openLog(fs);
    expect((await files(fs)).length).toBe(1);
  });
});

test("the log works on the operating system's files", async () => {
  const directory = await mkdtemp(join(tmpdir(), "cairn-wal-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const options = { fs: nodeFileSystem, directory: join(directory, "log"), segmentBytes: 20_000, fillBytes: 4096 };
  const log = await WriteAheadLog.create(options, LOG_START, INITIAL_HARD_STATE);
  for (let low = 1; low <= 401; low += 20) {
    await log.append({ entries: entriesFrom(low, low + 19, 1, 100), sync: true });
  }
  await log.trim(200);
  await log.append({ entries: entriesFrom(400, 410, 2, 3000), sync: true });
  await log.close();
  const { log: reopened, tornBytes } = await WriteAheadLog.open(options);
  onTestFinished(() => reopened.close());
  expect(tornBytes).toBe(0);
  expect(reopened.boundary).toEqual({ index: 200, term: 1 });
  expect(await readAll(reopened)).toEqual([...entriesFrom(201, 399, 1, 100), ...entriesFrom(400, 410, 2, 3000)]);
});
