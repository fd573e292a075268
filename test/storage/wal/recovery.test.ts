import { describe, expect, test } from "vitest";
import { RecordType, sealRecord } from "../../../src/storage/wal/record.js";
import { headerCrc } from "../../../src/storage/wal/segment_header.js";
import { FaultyFileSystem } from "../../support/disk/faulty_fs.js";
import { seededRandom } from "../../support/random.js";
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

const SIZES = { segmentBytes: 1 << 20, fillBytes: 4096 };

/** A file system that holds only these files, durably. */
function withFiles(contents: ReadonlyMap<string, Uint8Array>): FaultyFileSystem {
  const fs = new FaultyFileSystem([DIRECTORY]);
  for (const [path, bytes] of contents) fs.setContents(path, bytes);
  return fs;
}

/** A log of one segment with the entries 1 to 5, each appended and synced by itself. */
async function logOfFive(fs = newFileSystem()) {
  const log = await createLog(fs, SIZES);
  for (const one of entriesFrom(1, 5)) await log.append({ entries: [one], sync: true });
  return { fs, log, path: (await files(fs))[0]! };
}

/** Offset of the record that holds an entry made by {@link entry}. */
function recordOffset(bytes: Uint8Array, index: number, term = 1): number {
  const data = Buffer.from(bytes).indexOf(`${index}/${term};`);
  expect(data).toBeGreaterThan(0);
  // Record header, then index, term and type of two bytes each, tag and length of the data.
  return data - 16 - 8;
}

describe("a torn tail of the log", () => {
  test("is cut at the last whole record, for every length that the file may have", async () => {
    const { fs, log, path } = await logOfFive();
    const start = recordOffset(fs.contents(path), 5) + 48;
    const last = entriesFrom(6, 9);
    await log.append({ entries: last, sync: false });
    const whole = fs.contents(path);
    const end = start + 4 * 48;
    expect(whole.subarray(end).every((byte) => byte === 0)).toBe(true);
    for (let length = start; length <= end; length++) {
      const cut = withFiles(new Map([[path, whole.subarray(0, length)]]));
      const { log: reopened, tornBytes } = await openLog(cut, SIZES);
      const kept = Math.floor((length - start) / 48);
      expect(reopened.last.index).toBe(5 + kept);
      expect(tornBytes).toBe(lengthWithoutZeros(whole.subarray(start + kept * 48, length)));
      // What comes next is read back, and nothing of the torn write ever is.
      await reopened.append({ entries: [entry(6 + kept, 2)], sync: true });
      const { log: again, tornBytes: none } = await openLog(cut.crash({ keep: "none" }), SIZES);
      expect(none).toBe(0);
      expect(again.last).toEqual({ index: 6 + kept, term: 2 });
    }
    const all = await openLog(withFiles(new Map([[path, whole.subarray(0, end)]])), SIZES);
    expect(await readAll(all.log)).toEqual([...entriesFrom(1, 5), ...last]);
  });

  test("is cut whatever sectors of the write reached the disk, and synced entries stay", async () => {
    const random = seededRandom(7);
    let torn = 0;
    for (let run = 0; run < 150; run++) {
      const { fs, log } = await logOfFive();
      await log.append({ entries: entriesFrom(6, 8, 1, 700), sync: false });
      await log.append({
        entries: entriesFrom(9, 12, 1, 1500),
        hardState: { term: 1, vote: "a", commit: 5 },
        sync: false,
      });
      const restarted = fs.crash({ keep: "random", random });
      const { log: reopened, tornBytes } = await openLog(restarted, SIZES);
      if (tornBytes > 0) torn++;
      const { index } = reopened.last;
      expect(index).toBeGreaterThanOrEqual(5);
      const all = [...entriesFrom(1, 5), ...entriesFrom(6, 8, 1, 700), ...entriesFrom(9, 12, 1, 1500)];
      expect(await readAll(reopened)).toEqual(all.slice(0, index));
      await reopened.append({ entries: [entry(index + 1, 9)], sync: true });
      const { log: again } = await openLog(restarted.crash({ keep: "none" }), SIZES);
      expect(again.last).toEqual({ index: index + 1, term: 9 });
    }
    expect(torn).toBeGreaterThan(50);
  });

  test("is never read behind a later, shorter write, even if a cut leaves whole records in it", async () => {
    const { fs, log, path } = await logOfFive();
    await log.append({ entries: [entry(6), entry(7), entry(8)], sync: false });
    fs.flipBit(path, recordOffset(fs.contents(path), 6) + 20);
    await log.crash();
    const { log: reopened, tornBytes } = await openLog(fs, SIZES);
    expect(reopened.last.index).toBe(5);
    expect(tornBytes).toBeGreaterThan(2 * 48);
    // Exactly as long as the record that was damaged: the next old one would join on.
    await reopened.append({ entries: [entry(6, 2)], sync: true });
    const { log: again } = await openLog(fs.crash({ keep: "all" }), SIZES);
    expect(again.last).toEqual({ index: 6, term: 2 });
  });
});

describe("damage that is no torn tail is refused with file and offset, and nothing changes", () => {
  test("for a bit anywhere in a record that later records prove durable", async () => {
    const { fs, path } = await logOfFive();
    const whole = fs.contents(path);
    const start = recordOffset(whole, 3);
    for (let bit = 0; bit < 48 * 8; bit += 5) {
      const damaged = withFiles(fs.image());
      damaged.flipBit(path, start + (bit >> 3), bit & 7);
      const before = digests(damaged);
      await expectError(openLog(damaged, SIZES), "CORRUPT", `${path} is damaged at offset ${start}`);
      expect(digests(damaged)).toEqual(before);
      expect(damaged.openFiles).toEqual([]);
    }
  });

  test("for a run of zeros or of garbage", async () => {
    const { fs, path } = await logOfFive();
    const start = recordOffset(fs.contents(path), 2);
    for (const byte of [0, 1, 0xff]) {
      const bytes = fs.contents(path).fill(byte, start, start + 100);
      await expectError(openLog(withFiles(new Map([[path, bytes]])), SIZES), "CORRUPT", `offset ${start}`);
    }
  });

  test("for a record behind megabytes of zeros and garbage", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, { segmentBytes: 1 << 26, fillBytes: 4096 });
    await log.append({ entries: [entry(1)], sync: true });
    await log.append({ entries: entriesFrom(2, 7, 1, 1_500_000), sync: true });
    await log.append({ entries: [entry(8)], sync: true });
    const [path] = await files(fs);
    const bytes = fs.contents(path!);
    const start = recordOffset(bytes, 1);
    const random = seededRandom(1);
    for (let at = start; at < start + 2_000_000; at++) bytes[at] = random() * 256;
    bytes.fill(0, start + 2_000_000, start + 8_000_000);
    await expectError(openLog(withFiles(new Map([[path!, bytes]]))), "CORRUPT", `offset ${start}`);
  });

  test("for any damage in a segment that is not the last", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, { segmentBytes: 1000, fillBytes: 512 });
    for (const one of entriesFrom(1, 30)) await log.append({ entries: [one], sync: true });
    const paths = await files(fs);
    expect(paths.length).toBeGreaterThan(2);
    const bytes = fs.contents(paths[1]!);
    const cases: [string, Uint8Array, string][] = [
      [paths[1]!, bytes.subarray(0, bytes.byteLength - 8), "damaged at offset"],
      [paths[1]!, Uint8Array.from([...bytes, ...new Uint8Array(8)]), `damaged at offset ${bytes.byteLength}`],
      [paths[1]!, bytes.subarray(0, bytes.byteLength - 48), "continues after index"],
      [paths[1]!, bytes.slice().fill(0, 600, 601), "damaged at offset"],
      [paths[0]!, bytes, "has another name than its header says"],
      [paths.at(-1)!, fs.contents(paths.at(-1)!).subarray(0, 500), "header is missing"],
      [paths.at(-1)!, fs.contents(paths.at(-1)!).fill(1, 100, 101), "header fails its CRC"],
    ];
    for (const [path, contents, text] of cases) {
      const damaged = withFiles(new Map([...fs.image(), [path, contents]]));
      const before = digests(damaged);
      await expectError(openLog(damaged), "CORRUPT", text);
      expect(digests(damaged)).toEqual(before);
      expect(damaged.openFiles).toEqual([]);
    }
  });

  test("for a missing segment, with both numbers", async () => {
    const fs = newFileSystem();
    const log = await createLog(fs, { segmentBytes: 1000, fillBytes: 512 });
    for (const one of entriesFrom(1, 40)) await log.append({ entries: [one], sync: true });
    const paths = await files(fs);
    expect(paths.length).toBe(4);
    for (const missing of [[0], [1], [2], [0, 1]]) {
      const left = withFiles(new Map([...fs.image()].filter(([path]) => !missing.includes(paths.indexOf(path)))));
      const before = digests(left);
      const first = Number(paths[Math.max(...missing) + 1]!.slice(-20, -4));
      await expectError(
        openLog(left),
        "CORRUPT",
        new RegExp(`starts at index 1, .* continues after index ${first - 1}:`),
      );
      expect(digests(left)).toEqual(before);
    }
  });
});

test("a value that holds the bytes of a valid record proves nothing, and is not read as one", async () => {
  const { fs, log, path } = await logOfFive();
  // A record that says that all before it was durable, at a place behind where the tail will be torn.
  const bytes = fs.contents(path);
  const record = bytes.slice(recordOffset(bytes, 5), recordOffset(bytes, 5) + 48);
  const start = recordOffset(bytes, 5) + 48;
  for (let shift = 0; shift < 8; shift++) {
    const copies = Buffer.concat([Buffer.alloc(shift), ...Array.from({ length: 20 }, () => record)]);
    await log.append({ entries: [{ index: 6, term: 1, type: "command", data: copies }], sync: false });
    const torn = withFiles(fs.image());
    torn.flipBit(path, start + 30);
    const { log: reopened } = await openLog(torn, SIZES);
    expect(reopened.last.index).toBe(5);
    const intact = withFiles(fs.image());
    const { log: other } = await openLog(intact, SIZES);
    expect(Buffer.compare((await other.entries(6, 6, 1))[0]!.data, copies)).toBe(0);
    await log.append({ entries: [{ index: 6, term: 1, type: "command", data: new Uint8Array(1) }], sync: false });
  }
});

test("a value that holds a record made for another place or segment proves nothing", async () => {
  const { fs, log, path } = await logOfFive();
  const bytes = fs.contents(path);
  const start = recordOffset(bytes, 5) + 48;
  const seed = headerCrc(Buffer.from(bytes.subarray(0, 512)));
  // Where the value begins: record header, then index, term and type of two bytes each, tag and two bytes of length.
  const value = start + 16 + 6 + 3;
  const data = Buffer.alloc(1024);
  for (let position = start + 64; position < start + 600; position += 64) {
    const elsewhere = { position: position + 8, synced: position, seed };
    sealRecord(data, position - value, RecordType.hardState, 0, elsewhere);
    sealRecord(data, position + 16 - value, RecordType.hardState, 0, {
      position: position + 16,
      synced: position,
      seed: seed ^ 1,
    });
  }
  await log.append({ entries: [{ index: 6, term: 1, type: "command", data }], sync: false });
  const torn = withFiles(fs.image());
  torn.flipBit(path, start + 20);
  expect((await openLog(torn, SIZES)).log.last.index).toBe(5);

  // The very same record, made for its own place, is a proof: so the search does come by.
  sealRecord(data, start + 64 - value, RecordType.hardState, 0, { position: start + 64, synced: start + 8, seed });
  const contents = fs.contents(path);
  contents.set(data, value);
  contents[start + 20]! ^= 1;
  await expectError(openLog(withFiles(new Map([[path, contents]])), SIZES), "CORRUPT", `offset ${start + 64} shows`);
});

test("opening returns the configurations above the boundary that were not replaced", async () => {
  const { fs, log } = await logOfFive();
  const configuration = (index: number, term = 1) => ({ ...entry(index, term), type: "configuration" as const });
  await log.append({ entries: [configuration(6), entry(7), configuration(8), configuration(9)], sync: true });
  await log.append({ entries: [entry(9, 2), configuration(10, 2)], sync: true });
  await log.trim(6);
  await log.append({ entries: [], sync: true });
  expect((await openLog(fs.crash({ keep: "none" }), SIZES)).configurations).toEqual([8, 10]);
});

test("a commit index above a torn tail's end is lowered to the end of the log", async () => {
  const { fs, log, path } = await logOfFive();
  await log.append({ entries: entriesFrom(6, 9), hardState: { term: 2, vote: "a", commit: 9 }, sync: false });
  const bytes = fs.contents(path);
  const torn = withFiles(new Map([[path, bytes.subarray(0, recordOffset(bytes, 8) + 20)]]));
  const { log: reopened } = await openLog(torn, SIZES);
  expect(reopened.last.index).toBe(7);
  expect(reopened.hardState).toEqual({ term: 2, vote: "a", commit: 7 });
});

test("a segment of another format version is refused", async () => {
  const { fs, path } = await logOfFive();
  const bytes = Buffer.from(fs.contents(path));
  bytes.writeUInt32LE(2, 8);
  bytes.writeUInt32LE(headerCrc(bytes), 12);
  await expectError(openLog(withFiles(new Map([[path, bytes]]))), "DATA_DIRECTORY", "format version 2");
});

function lengthWithoutZeros(bytes: Uint8Array): number {
  let length = bytes.byteLength;
  while (length > 0 && bytes[length - 1] === 0) length--;
  return length;
}
