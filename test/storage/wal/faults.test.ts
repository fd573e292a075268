import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import type { WriteAheadLog } from "../../../src/storage/wal/wal.js";
import { seededRandom } from "../../support/random.js";
import { createLog, entriesFrom, entry, expectError, files, newFileSystem, openLog, readAll } from "./support.js";

const SIZES = { segmentBytes: 20_000, fillBytes: 4096 };

const random = seededRandom(11);

describe("a full disk under the log", () => {
  async function fullDisk() {
    const fs = newFileSystem();
    const log = await createLog(fs, SIZES);
    await log.append({ entries: entriesFrom(1, 5), sync: true });
    fs.capacityBytes = fs.usedBytes + 300;
    return { fs, log };
  }

  test("refuses an append, changes nothing, and accepts it when there is room", async () => {
    const { fs, log } = await fullDisk();
    const batch = { entries: entriesFrom(6, 9, 1, 3000), hardState: { term: 2, vote: "a", commit: 5 }, sync: true };
    for (let tries = 0; tries < 3; tries++) {
      await expectError(log.append(batch), "DISK_FULL");
      expect(log.last.index).toBe(5);
      expect(log.hardState.term).toBe(0);
      expect(await readAll(log)).toEqual(entriesFrom(1, 5));
    }
    fs.capacityBytes = 1e9;
    await log.append(batch);
    const { log: reopened } = await openLog(fs.crash({ keep: "none" }), SIZES);
    expect(await readAll(reopened)).toEqual([...entriesFrom(1, 5), ...batch.entries]);
    expect(reopened.hardState).toEqual(batch.hardState);
  });

  test("leaves garbage that is never read behind another, shorter append", async () => {
    const { fs, log } = await fullDisk();
    // Whole records of the refused append reach the disk, right behind where the next one will end.
    await expectError(log.append({ entries: entriesFrom(6, 400), sync: true }), "DISK_FULL");
    await log.append({ entries: [entry(6, 2)], sync: true });
    for (const keep of ["none", "all"] as const) {
      const { log: reopened } = await openLog(fs.crash({ keep }), SIZES);
      expect(reopened.last).toEqual({ index: 6, term: 2 });
    }
  });

  test("leaves nothing of refused appends, whether the process continues or dies", async () => {
    const { fs, log } = await fullDisk();
    await expectError(log.append({ entries: entriesFrom(6, 400), sync: true }), "DISK_FULL");
    for (const keep of ["none", "all", "random"] as const) {
      const { log: reopened, tornBytes } = await openLog(fs.crash({ keep }), SIZES);
      expect(await readAll(reopened)).toEqual(entriesFrom(1, 5));
      expect(tornBytes).toBe(0);
    }
  });

  test("is reported with the name of the file", async () => {
    const { log } = await fullDisk();
    const error = await expectError(log.append({ entries: entriesFrom(6, 400), sync: true }), "DISK_FULL");
    expect(error.message).toContain("/data/log/0000000001-0000000000000001.wal:");
  });

  test("accepts the no-ops of leaders for a while, because a leader without a committed one answers no reads", async () => {
    const { fs, log } = await fullDisk();
    await expectError(log.append({ entries: entriesFrom(6, 400), sync: true }), "DISK_FULL");
    fs.capacityBytes = fs.usedBytes;
    for (let term = 2; term < 12; term++) {
      const hardState = { term, vote: "a", commit: 5 };
      await log.append({ entries: [entry(log.last.index + 1, term, 0)], hardState, sync: true });
    }
    const { log: reopened } = await openLog(fs.crash({ keep: "none" }));
    expect(reopened.last).toEqual({ index: 15, term: 11 });
  });

  test("leaves a log that opens when a power cut interrupts the erasure of a refused write", async () => {
    // The write itself, then zeros, cut, and sync.
    for (let cut = 0; cut < 4; cut++) {
      const { fs, log } = await fullDisk();
      fs.cutPowerAfter(cut);
      await expect(log.append({ entries: entriesFrom(6, 400), sync: true })).rejects.toThrow();
      expect(fs.powerIsOff).toBe(true);
      for (const keep of ["none", "all", "random", "random"] as const) {
        const { log: reopened } = await openLog(fs.crash({ keep, random }), SIZES);
        const { index } = reopened.last;
        expect(index).toBeGreaterThanOrEqual(5);
        expect(await readAll(reopened)).toEqual(entriesFrom(1, index));
      }
    }
  });

  test("accepts votes, and trims that make room", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, { segmentBytes: 8000, fillBytes: 1024 });
    for (let index = 1; index <= 30; index++) await log.append({ entries: [entry(index, 1, 1000)], sync: true });
    fs.capacityBytes = fs.usedBytes;
    const next = { entries: entriesFrom(31, 36, 1, 1000), sync: true };
    await expectError(log.append(next), "DISK_FULL");
    for (let term = 2; term < 20; term++) {
      await log.append({ entries: [], hardState: { term, vote: "a", commit: 0 }, sync: true });
    }
    await log.trim(29);
    expect(log.stats().segments).toBe(1);
    await log.append(next);
    const { log: reopened } = await openLog(fs.crash({ keep: "none" }));
    expect(await readAll(reopened)).toEqual([entry(30, 1, 1000), ...next.entries]);
    expect(reopened.hardState.term).toBe(19);
  });

  test("leaves no file behind when a segment is to be started", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, { segmentBytes: 2000, fillBytes: 0 });
    await log.append({ entries: [entry(1, 1, 1400)], sync: true });
    fs.capacityBytes = fs.usedBytes + 100;
    await expectError(log.append({ entries: [entry(2, 1, 1400)], sync: true }), "DISK_FULL");
    await expectError(log.reset({ index: 50, term: 1 }), "DISK_FULL");
    expect((await files(fs)).length).toBe(1);
    expect(fs.openFiles.length).toBe(1);
    expect(log.last.index).toBe(1);
    fs.capacityBytes = 1e6;
    await log.append({ entries: [entry(2, 1, 1400)], sync: true });
    expect(log.stats().segments).toBe(2);
  });
});

test("too many open files refuse a new segment without a change, and it is made when there are fewer", async () => {
  const fs = newFileSystem();
  const log = await createLog(fs, { segmentBytes: 2000, fillBytes: 0 });
  await log.append({ entries: [entry(1, 1, 1400)], sync: true });
  const tooMany = new CairnError("BUSY", "too many open files");
  for (let tries = 0; tries < 3; tries++) {
    fs.failCall("open", 1, tooMany);
    await expectError(log.append({ entries: [entry(2, 1, 1400)], sync: true }), "BUSY", "too many open files");
    expect(log.last.index).toBe(1);
  }
  fs.failCall("open", 1, tooMany);
  await expectError(log.reset({ index: 50, term: 1 }), "BUSY");
  await log.append({ entries: [entry(2, 1, 1400)], sync: true });
  const { log: reopened } = await openLog(fs.crash({ keep: "none" }));
  expect(await readAll(reopened)).toEqual([entry(1, 1, 1400), entry(2, 1, 1400)]);
});

describe("a disk that fails under the log", () => {
  async function expectPoisoned(log: WriteAheadLog): Promise<void> {
    await expectError(log.append({ entries: [entry(99)], sync: true }), "STORAGE_FAILED");
    await expectError(log.append({ entries: [], sync: false }), "STORAGE_FAILED");
    await expectError(log.trim(1), "STORAGE_FAILED");
    await expectError(log.reset({ index: 100, term: 1 }), "STORAGE_FAILED");
    await expectError(log.entries(1, 1, 1), "STORAGE_FAILED");
    await expectError(log.close(), "STORAGE_FAILED");
  }

  for (const kind of ["datasync", "write"] as const) {
    test(`ends the log when it fails in a ${kind}: nothing is retried, and the files are closed`, async () => {
      const fs = newFileSystem();
      const log = await createLog(fs, SIZES);
      await log.append({ entries: entriesFrom(1, 3), sync: true });
      fs.failCall(kind);
      const waiting = [4, 5].map((index) => log.append({ entries: [entry(index)], sync: true }));
      for (const one of waiting) await expectError(one, "STORAGE_FAILED", "/data/log");
      expect(log.last.index).toBe(3);
      const changes = fs.changes;
      await expectPoisoned(log);
      expect(fs.changes).toBe(changes);
      expect(fs.openFiles).toEqual([]);
    });
  }

  describe("in a sync does not harm the entries that the next opening reads", () => {
    test.each([
      ["the first batch of a segment", 0],
      ["a later batch", 3],
    ])("which are then on disk: %s", async (_which, before) => {
      const fs = newFileSystem();
      const log = await createLog(fs, { segmentBytes: 1 << 20 });
      for (let index = 1; index <= before; index++) await log.append({ entries: [entry(index)], sync: true });
      fs.failCall("datasync");
      const batch = entriesFrom(before + 1, before + 9, 1, 3000);
      await expectError(log.append({ entries: batch, sync: true }), "STORAGE_FAILED");
      await log.crash();
      // The kernel hands out the pages that it did not write.
      const { log: reopened } = await openLog(fs);
      expect(reopened.last.index).toBe(before + 9);
      const { log: again } = await openLog(fs.crash({ keep: "none" }));
      expect(again.last.index).toBe(before + 9);
      expect((await readAll(again)).slice(before)).toEqual(batch);
    });

    test("even when the next opening fails in the same way", async () => {
      const fs = newFileSystem();
      const log = await createLog(fs, SIZES);
      await log.append({ entries: entriesFrom(1, 3), sync: true });
      fs.failCall("datasync");
      await expectError(log.append({ entries: entriesFrom(4, 6), sync: true }), "STORAGE_FAILED");
      await log.crash();
      fs.failCall("datasync");
      await expectError(openLog(fs), "STORAGE_FAILED");
      await openLog(fs);
      const { log: again } = await openLog(fs.crash({ keep: "none" }));
      expect(again.last.index).toBe(6);
    });

    test("and no more is rewritten than the unproven part", async () => {
      const fs = newFileSystem();
      const log = await createLog(fs);
      for (let index = 1; index <= 50; index++) await log.append({ entries: [entry(index, 1, 4000)], sync: true });
      await log.close();
      const before = fs.calls.write;
      await openLog(fs);
      // The last batch, about which no later record says anything.
      expect(fs.calls.write - before).toBe(1);
    });
  });

  test("while a segment gets its name makes the name durable once the log is opened again", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, { segmentBytes: 1000, fillBytes: 512 });
    fs.failCall("syncDirectory");
    await log.append({ entries: entriesFrom(1, 20), sync: true });
    await expectError(log.append({ entries: [entry(21)], sync: true }), "STORAGE_FAILED");
    await log.crash();
    const { log: reopened } = await openLog(fs);
    expect(reopened.stats().segments).toBe(2);
    await reopened.append({ entries: [entry(21)], sync: true });
    const { log: again } = await openLog(fs.crash({ keep: "none" }));
    expect(again.last.index).toBe(21);
  });

  test("in any call while segments are started and removed ends the log, and leaves one that opens", async () => {
    for (const kind of ["open", "write", "truncate", "datasync", "rename", "syncDirectory", "unlink"] as const) {
      for (let nth = 1; nth <= 3; nth++) {
        const fs = newFileSystem();
        const log = await createLog(fs, { segmentBytes: 1000, fillBytes: 512 });
        await log.append({ entries: [entry(1)], sync: true });
        fs.failCall(kind, nth);
        let last = 1;
        const run = async (): Promise<void> => {
          for (let index = 2; index <= 40; index++) {
            await log.append({ entries: [entry(index)], sync: true });
            last = index;
          }
          await log.trim(20);
          await log.trim(39);
        };
        await expectError(run(), "STORAGE_FAILED");
        await expectError(log.close(), "STORAGE_FAILED");
        expect(fs.openFiles).toEqual([]);
        const { log: reopened } = await openLog(fs.crash({ keep: "none" }));
        expect(reopened.last.index).toBeGreaterThanOrEqual(last);
        expect(await readAll(reopened)).toEqual(entriesFrom(reopened.boundary.index + 1, reopened.last.index));
      }
    }
  });
});
