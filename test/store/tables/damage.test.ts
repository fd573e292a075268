import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { recordKind, type StoreRecord } from "../../../src/store/record.js";
import { RECORD_HEAD_BYTES } from "../../../src/store/rules/v1.js";
import { filterHash } from "../../../src/store/tables/filter.js";
import { TABLE_FOOTER_BYTES, TABLE_HEADER_BYTES, type TableInfo } from "../../../src/store/tables/format.js";
import { loadRange, TableRange } from "../../../src/store/tables/range.js";
import type { Table } from "../../../src/store/tables/table.js";
import type { FaultyFileSystem } from "../../support/disk/faulty_fs.js";
import { Random } from "../../support/random.js";
import { openTable, randomRecords, readAll, rest, smallRules, storeDisk, textOf, writeTable } from "./support.js";

const PATH = "/store/000000000001.tab";
const START = new Uint8Array(0);
const CRC32_POLYNOMIAL = 0x1_04c1_1db7;

/** A table of several blocks of several pages, in few bytes. */
const rules = { ...smallRules, pageBytes: 100, blockBytesMin: 200, blockBytesMax: 400 };

async function smallTable() {
  const records = randomRecords(new Random(7), 16, 20);
  const fs = storeDisk();
  const info = await writeTable(fs, records, { rules });
  return { records, fs, info, texts: records.map(textOf) };
}

/** What a reader gets: its answer, or "damaged" when it is told so. */
function answer<Result>(read: () => Result): Result | "damaged" {
  try {
    return read();
  } catch (error) {
    return damaged(error);
  }
}

function damaged(error: unknown): "damaged" {
  if (!(error instanceof CairnError) || error.code !== "CORRUPT") throw error;
  if (!/^the table \/store\/\d+\.tab is damaged at byte \d+: /.test(error.text)) throw error;
  return "damaged";
}

/** Asks a table for everything in every way; each answer must be right, unless the reader is told of damage. */
async function expectRightOrDamaged(table: Table, records: readonly StoreRecord[], texts: readonly string[]) {
  for (const [i, { key }] of records.entries()) {
    const found = answer(() => {
      const record = table.find(key, filterHash(rules, key));
      return record && textOf(record);
    });
    if (found !== "damaged" && found !== texts[i]) expect(found).toBe(texts[i]);
  }
  const range = answer(() => rest(new TableRange(table, START, undefined)));
  if (range !== "damaged") expect(range).toEqual(texts);
}

async function openDamaged(fs: FaultyFileSystem, info: TableInfo): Promise<Table | "damaged"> {
  return openTable(fs, info, { rules, cacheBytes: 4096 }).catch(damaged);
}

describe("damage of a table is told, and never gives a wrong record or hides one", () => {
  test("a changed bit in any byte", async () => {
    const { fs, info, records, texts } = await smallTable();
    const random = new Random(1);
    let told = 0;
    for (let offset = 0; offset < info.bytes; offset++) {
      const bit = random.whole(0, 7);
      fs.flipBit(PATH, offset, bit);
      const table = await openDamaged(fs, info);
      if (table === "damaged") {
        told += 1;
      } else {
        await expectRightOrDamaged(table, records, texts);
        if ((await readAll(table).catch(damaged)) === "damaged") told += 1;
        table.close();
      }
      fs.flipBit(PATH, offset, bit);
    }
    expect(told).toBe(info.bytes);
    expect(await readAll(await openTable(fs, info, { rules }))).toEqual(texts);
  });

  test("a changed bit in any page or directory that is loaded in the thread pool", async () => {
    const { fs, info, records, texts } = await smallTable();
    const blocksEnd = (await openTable(fs, info, { rules })).index.start(2);
    let told = 0;
    for (let offset = TABLE_HEADER_BYTES; offset < blocksEnd; offset += 3) {
      fs.flipBit(PATH, offset, offset % 8);
      const table = await openTable(fs, info, { rules, cacheBytes: 100_000 });
      const loads = records.map(({ key }) => table.load(key, filterHash(rules, key)));
      const ends = await Promise.all(loads.map((load) => load?.catch(damaged)));
      if (ends.includes("damaged")) told += 1;
      await expectRightOrDamaged(table, records, texts);
      fs.flipBit(PATH, offset, offset % 8);
    }
    expect(told).toBe(Math.ceil((blocksEnd - TABLE_HEADER_BYTES) / 3));
  });

  test("a changed bit in the part of a long range that is read past the cache, or loaded", async () => {
    const records = randomRecords(new Random(3), 150, 600);
    const texts = records.map(textOf);
    const fs = storeDisk();
    const info = await writeTable(fs, records, { rules });
    const { index } = await openTable(fs, info, { rules });
    const end = index.start(index.blocks);
    expect(end).toBeGreaterThan(30_000);
    for (let offset = 18_000; offset < end; offset += 211) {
      fs.flipBit(PATH, offset, offset % 8);
      const table = await openTable(fs, info, { rules });
      expect(answer(() => rest(new TableRange(table, START, undefined)))).toBe("damaged");
      await expect(loadRange(table, START, undefined, end)).rejects.toThrow("its checksum does not match");
      fs.flipBit(PATH, offset, offset % 8);
    }
    expect(rest(new TableRange(await openTable(fs, info, { rules }), START, undefined))).toEqual(texts);
  });

  test("a change that a CRC-32 cannot see, once a merge reads it", async () => {
    const { fs, info, records } = await smallTable();
    const at = TABLE_HEADER_BYTES + RECORD_HEAD_BYTES + records[0]!.key.byteLength;
    expect(records[0]!.value.byteLength).toBeGreaterThan(5);
    // The checksum is linear: it stays when its own polynomial is added to the bytes.
    for (const [i, bit] of [...CRC32_POLYNOMIAL.toString(2)].entries()) {
      if (bit === "1") fs.flipBit(PATH, at + (i >> 3), i & 7);
    }
    const table = await openTable(fs, info, { rules });
    await expect(readAll(table)).rejects.toThrow("a block does not match its digest");
  });

  test("a file that is too short or too long", async () => {
    const { fs, info } = await smallTable();
    const whole = fs.contents(PATH);
    for (const bytes of [0, 1, TABLE_HEADER_BYTES, info.bytes - TABLE_FOOTER_BYTES, info.bytes - 1]) {
      fs.setContents(PATH, whole.subarray(0, bytes));
      expect(await openDamaged(fs, info)).toBe("damaged");
    }
    fs.setContents(PATH, Buffer.concat([whole, new Uint8Array(1)]));
    expect(await openDamaged(fs, info)).toBe("damaged");
    await fs.unlink(PATH);
    expect(await openDamaged(fs, info)).toBe("damaged");
  });

  test("a file that ends early after it was opened", async () => {
    const { fs, info, records } = await smallTable();
    const table = await openTable(fs, info, { rules });
    const whole = fs.contents(PATH);
    const file = await fs.open(PATH, "update");
    await file.truncate(TABLE_HEADER_BYTES + 10);
    const { key } = records[0]!;
    expect(answer(() => table.find(key, filterHash(rules, key)))).toBe("damaged");
    await expect(table.load(key, filterHash(rules, key))).rejects.toThrow("it ends here");
    await file.write([whole], 0);
    expect(textOf(table.find(key, filterHash(rules, key))!)).toBe(textOf(records[0]!));
  });

  test("the file of another table of the same shape", async () => {
    const { fs, info, records } = await smallTable();
    const others = records.map((record) => ({ ...record, value: record.value.map((byte) => byte ^ 1) }));
    const other = await writeTable(fs, others, { rules, number: 2 });
    expect({ ...other, number: 1, id: info.id }).toEqual(info);
    fs.setContents(PATH, fs.contents("/store/000000000002.tab"));
    expect(await openDamaged(fs, info)).toBe("damaged");
  });

  test("the blocks of another table of the same shape, after the table was opened", async () => {
    const { fs, info, records, texts } = await smallTable();
    const changed = (record: StoreRecord) => record.kind !== recordKind.deleted && record.value.byteLength > 0;
    const others = records.map((record) => ({ ...record, value: record.value.map((byte) => byte ^ 1) }));
    await writeTable(fs, others, { rules, number: 2 });
    const table = await openTable(fs, info, { rules });
    const file = await fs.open(PATH, "update");
    await file.write([fs.contents("/store/000000000002.tab")], 0);
    await expectRightOrDamaged(table, records, texts);
    expect(records.filter(changed).length).toBeGreaterThan(5);
    expect(await readAll(table).catch(damaged)).toBe("damaged");
  });

  test("two pages of one size, or two blocks, in each other's place", async () => {
    const value = (i: number) => Uint8Array.from({ length: 12 }, () => i);
    const records = Array.from({ length: 24 }, (_, i): StoreRecord => {
      const key = Buffer.from(`key-${String(i).padStart(4, "0")}`);
      return { key, kind: recordKind.known, tag: 0, version: i, first: i, value: value(i) };
    });
    const fs = storeDisk();
    const info = await writeTable(fs, records, { rules });
    const pageBytes = 2 * (24 + 8 + 12);
    for (const [a, b] of [
      [0, 1],
      [1, 2],
    ] as const) {
      const whole = fs.contents(PATH);
      const swapped = new Uint8Array(whole);
      const at = (page: number) => TABLE_HEADER_BYTES + page * pageBytes;
      swapped.set(whole.subarray(at(a), at(a) + pageBytes), at(b));
      swapped.set(whole.subarray(at(b), at(b) + pageBytes), at(a));
      fs.setContents(PATH, swapped);
      const table = await openTable(fs, info, { rules });
      const { key } = records[2 * a]!;
      expect(answer(() => table.find(key, filterHash(rules, key)))).toBe("damaged");
      await expectRightOrDamaged(table, records, records.map(textOf));
      expect(await readAll(table).catch(damaged)).toBe("damaged");
      fs.setContents(PATH, whole);
    }
  });

  test("a manifest that describes the table otherwise", async () => {
    const { fs, info } = await smallTable();
    const flipped = info.id.map((byte, i) => (i === 0 ? byte ^ 1 : byte));
    for (const change of [
      { id: flipped },
      { bytes: info.bytes + 1 },
      { records: info.records + 1 },
      { deletes: info.deletes + 1 },
      { first: Buffer.from("x") },
      { last: Buffer.from("x") },
    ]) {
      expect(await openDamaged(fs, { ...info, ...change }), Object.keys(change)[0]).toBe("damaged");
    }
  });

  test("a filter that was made with another seed", async () => {
    const { fs, info } = await smallTable();
    const otherSeed = { ...rules, seeds: [rules.seeds[0], 5] as const };
    await expect(openTable(fs, info, { rules: otherSeed })).rejects.toThrow("its filter has another seed");
  });

  test("a disk that cannot read, and one that can again", async () => {
    const { fs, info, records } = await smallTable();
    const table = await openTable(fs, info, { rules });
    const { key } = records[3]!;
    fs.failCall("readNow");
    expect(answer(() => table.find(key, filterHash(rules, key)))).toBe("damaged");
    fs.failCall("read");
    await expect(table.load(key, filterHash(rules, key))).rejects.toThrow("it cannot be read (EIO)");
    expect(textOf(table.find(key, filterHash(rules, key))!)).toBe(textOf(records[3]!));
  });
});
