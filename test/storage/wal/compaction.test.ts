import { describe, expect, test } from "vitest";
import type { WriteAheadLog } from "../../../src/storage/wal/wal.js";
import {
  createLog,
  DIRECTORY,
  entriesFrom,
  entry,
  expectError,
  files,
  newFileSystem,
  openLog,
  readAll,
} from "./support.js";

const SIZES = { segmentBytes: 2000, fillBytes: 512 };

async function appendEach(log: WriteAheadLog, low: number, high: number, term = 1): Promise<void> {
  for (const one of entriesFrom(low, high, term)) await log.append({ entries: [one], sync: true });
}

describe("trimming the log", () => {
  test("durably removes the segments that hold nothing above the index", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, SIZES);
    await appendEach(log, 1, 100);
    const before = await files(fs);
    expect(before.length).toBe(4);
    const secondStart = Number(before[2]!.slice(-20, -4));
    await log.trim(secondStart - 2);
    expect(await files(fs)).toEqual(before.slice(1));
    await log.trim(secondStart - 1);
    expect(await files(fs)).toEqual(before.slice(2));
    expect(log.stats().segments).toBe(2);
    const restarted = fs.crash({ keep: "none" });
    expect(await files(restarted)).toEqual(before.slice(2));
    const { log: reopened } = await openLog(restarted, SIZES);
    expect(reopened.boundary).toEqual({ index: secondStart - 1, term: 1 });
    expect(await readAll(reopened)).toEqual(entriesFrom(secondStart, 100));
  });

  test("keeps the term at the boundary, and refuses entries below it", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, SIZES);
    await log.append({ entries: [...entriesFrom(1, 4, 2), ...entriesFrom(5, 9, 7)], sync: true });
    await log.trim(4);
    expect(log.boundary).toEqual({ index: 4, term: 2 });
    expect([3, 4, 5].map((index) => log.termAt(index))).toEqual([undefined, 2, 7]);
    await expectError(log.entries(4, 5, 1e6), "OUT_OF_RANGE", "holds 5 to 9");
    await log.trim(3);
    expect(log.boundary.index).toBe(4);
    await expect(log.trim(10)).rejects.toThrow("broken invariant");
    await log.append({ entries: [], sync: true });
    const { log: reopened } = await openLog(fs.crash({ keep: "none" }), SIZES);
    expect(reopened.boundary).toEqual({ index: 4, term: 2 });
    expect(reopened.termRanges()).toEqual(log.termRanges());
    expect(await readAll(reopened)).toEqual(entriesFrom(5, 9, 7));
  });

  test("removes a large active segment when the whole log is trimmed, and the log continues", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, SIZES);
    await appendEach(log, 1, 25);
    expect(log.stats().segments).toBe(1);
    await log.trim(25);
    expect((await files(fs)).map((path) => path.slice(DIRECTORY.length + 1))).toEqual([
      "0000000002-0000000000000026.wal",
    ]);
    const restarted = fs.crash({ keep: "none" });
    const { log: reopened } = await openLog(restarted, SIZES);
    expect(reopened.boundary).toEqual({ index: 25, term: 1 });
    expect(reopened.last).toEqual({ index: 25, term: 1 });
    expect(reopened.termAt(25)).toBe(1);
    await appendEach(reopened, 26, 27, 3);
    expect(await readAll((await openLog(restarted.crash({ keep: "none" }), SIZES)).log)).toEqual(
      entriesFrom(26, 27, 3),
    );
  });

  test("costs no sync when there is no segment to remove", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, SIZES);
    await appendEach(log, 1, 10);
    const syncs = fs.calls.datasync + fs.calls.syncDirectory;
    await log.trim(5);
    expect(fs.calls.datasync + fs.calls.syncDirectory).toBe(syncs);
    // Lost by a power failure, it was harmless: the entries are still there.
    const { log: reopened } = await openLog(fs.crash({ keep: "none" }), SIZES);
    expect(await readAll(reopened)).toEqual(entriesFrom(1, 10));
  });

  test("keeps the directory bounded, however much is written", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, SIZES);
    for (let index = 1; index <= 1000; index++) {
      await log.append({ entries: [entry(index)], sync: true });
      if (index % 10 === 0) await log.trim(index - 5);
      // The active one, and one that holds the last entries kept.
      expect((await fs.list(DIRECTORY)).length).toBeLessThanOrEqual(2);
    }
    expect(log.stats().diskBytes).toBeLessThanOrEqual(2 * (SIZES.segmentBytes + 4096 + 512));
    expect(log.stats().diskBytes).toBe(fs.usedBytes);
  });

  test("works after the tail was replaced down to below the first entry of a later segment", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, SIZES);
    await appendEach(log, 1, 70);
    const [, second] = await files(fs);
    await log.append({ entries: entriesFrom(20, 40, 2), sync: true });
    await log.trim(19);
    expect((await files(fs))[0]).not.toBe(second);
    const { log: reopened } = await openLog(fs.crash({ keep: "none" }), SIZES);
    expect(reopened.boundary).toEqual({ index: 19, term: 1 });
    expect(await readAll(reopened)).toEqual(entriesFrom(20, 40, 2));
  });

  test("is finished at the next start after a crash, even when newer segments were removed first", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, SIZES);
    await appendEach(log, 1, 150);
    const old = fs.image();
    const paths = await files(fs);
    await log.trim(150 - 10);
    const kept = await files(fs);
    const gone = paths.length - kept.length;
    expect(gone).toBeGreaterThan(3);
    for (const back of [[gone - 1], [gone - 2, gone - 1], [0, 1], [1], [0, 2]]) {
      const restarted = fs.crash({ keep: "none" });
      for (const at of back) restarted.setContents(paths[at]!, old.get(paths[at]!)!);
      const { log: reopened } = await openLog(restarted, SIZES);
      expect(await files(restarted)).toEqual(kept);
      expect(await readAll(reopened)).toEqual(entriesFrom(141, 150));
    }
  });
});

describe("resetting the log", () => {
  test("durably drops it and continues behind the position", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, SIZES);
    await appendEach(log, 1, 70);
    await log.reset({ index: 500, term: 9 }, { term: 9, vote: "b", commit: 500 });
    expect((await files(fs)).length).toBe(1);
    const restarted = fs.crash({ keep: "none" });
    const { log: reopened } = await openLog(restarted, SIZES);
    for (const one of [log, reopened]) {
      expect(one.boundary).toEqual({ index: 500, term: 9 });
      expect(one.last).toEqual({ index: 500, term: 9 });
      expect(one.hardState).toEqual({ term: 9, vote: "b", commit: 500 });
      expect(one.termAt(70)).toBe(undefined);
    }
    await appendEach(reopened, 501, 505, 9);
    expect(await readAll((await openLog(restarted.crash({ keep: "none" }), SIZES)).log)).toEqual(
      entriesFrom(501, 505, 9),
    );
  });

  test("to a place inside the log keeps the hard state", async () => {
    const fs = newFileSystem();
    const hardState = { term: 4, vote: "a", commit: 3 };
    const log = await createLog(fs, SIZES);
    await log.append({ entries: entriesFrom(1, 9), hardState, sync: true });
    await log.reset({ index: 5, term: 3 });
    const { log: reopened } = await openLog(fs.crash({ keep: "none" }), SIZES);
    expect(reopened.last).toEqual({ index: 5, term: 3 });
    expect(reopened.hardState).toEqual(hardState);
    await expect(reopened.reset({ index: 4, term: 3 })).rejects.toThrow("broken invariant");
  });

  test("makes old segments that a crash left behind count for nothing", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, SIZES);
    await appendEach(log, 1, 70);
    const old = fs.image();
    await log.reset({ index: 50, term: 3 });
    const restarted = fs.crash({ keep: "none" });
    for (const [path, bytes] of old) restarted.setContents(path, bytes);
    const { log: reopened } = await openLog(restarted, SIZES);
    expect((await files(restarted)).length).toBe(1);
    expect(reopened.last).toEqual({ index: 50, term: 3 });
  });
});
