import { describe, expect, test } from "vitest";
import { InvariantViolation } from "../../../src/base/assert.js";
import { limits } from "../../../src/base/limits.js";
import { recordKind, type StoreRecord } from "../../../src/store/record.js";
import { hash, isBlockEnd, isTableEnd, RECORD_HEAD_BYTES } from "../../../src/store/rules/v1.js";
import { pagesOf } from "../../../src/store/tables/directory.js";
import { filterHash } from "../../../src/store/tables/filter.js";
import { RECORD_KEY_BYTES } from "../../../src/store/tables/format.js";
import { TableWriter } from "../../../src/store/tables/writer.js";
import { DIRECTORY, fullRules, openTable, readAll, smallRules, storeDisk, textOf, writeTable } from "./support.js";

function record(key: Uint8Array | string, valueBytes: number): StoreRecord {
  const value = new Uint8Array(valueBytes).fill(valueBytes & 255);
  return { key: Buffer.from(key as string), kind: recordKind.known, tag: 1, version: 5, first: 3, value };
}

/** A key of six digits. */
const key = (i: number) => String(i).padStart(6, "0");

async function expectAll(records: readonly StoreRecord[], rules = fullRules) {
  const fs = storeDisk();
  const info = await writeTable(fs, records, { rules });
  const table = await openTable(fs, info, { rules });
  expect(await readAll(table)).toEqual(records.map(textOf));
  for (const each of records) {
    expect(textOf(table.find(each.key, filterHash(rules, each.key))!)).toBe(textOf(each));
  }
  return table;
}

describe("sizes of records", () => {
  test("the longest keys and values that the cluster takes", async () => {
    const long = "k".repeat(limits.keyBytes);
    await expectAll([
      record(`${long}a`, limits.valueBytes),
      record(`${long}b`, 0),
      record(`${long}c`, limits.valueBytes + 8),
      record("l", 1),
      record("m", limits.valueBytes),
    ]);
  });

  test("one record", async () => {
    await expectAll([record("a", 0)]);
    await expectAll([record(new Uint8Array(RECORD_KEY_BYTES), 0)]);
  });

  test("a key that does not fit, or is empty, is a bug", async () => {
    const writer = await TableWriter.create(storeDisk(), DIRECTORY, fullRules, { number: 1, filter: true });
    expect(() => writer.add(record(new Uint8Array(RECORD_KEY_BYTES + 1), 0))).toThrow(InvariantViolation);
    expect(() => writer.add(record("", 0))).toThrow(InvariantViolation);
  });

  test("a block of long keys whose directory is larger than a page", async () => {
    const rules = { ...fullRules, blockBits: 31, pageBytes: 1024 };
    const keys = Array.from({ length: 200 }, (_, i) => `${key(i)}${"x".repeat(1000)}`);
    const pairs = keys.flatMap((long) => [record(`${long}0`, 0), record(`${long}1`, 0)]);
    const table = await expectAll(pairs, rules);
    expect(table.index.directoryBytes(0)).toBeGreaterThan(rules.pageBytes);
  });
});

describe("places of cuts", () => {
  test("a page ends before the record that would exceed it", async () => {
    const rules = {
      ...smallRules,
      pageBytes: 3 * (RECORD_HEAD_BYTES + 6 + 10),
      blockBytesMin: 10_000,
      blockBytesMax: 10_000,
    };
    const pages = async (records: StoreRecord[]) => pagesOf(await (await expectAll(records, rules)).directory(0), 0);
    const full = [record(key(1), 10), record(key(2), 10), record(key(3), 10)];
    expect(await pages(full)).toBe(1);
    expect(await pages([...full.slice(0, 2), record(key(3), 11)])).toBe(2);
    expect(await pages([...full, record(key(4), 0)])).toBe(2);
    expect(await pages([record(key(0), 5000), ...full])).toBe(2);
  });

  test("blocks and tables end where the rules say", async () => {
    const records = Array.from({ length: 2000 }, (_, i) => record(key(i), 20));
    const writer = await TableWriter.create(storeDisk(), DIRECTORY, smallRules, { number: 1, filter: false });
    let block = 0;
    let blocks = 0;
    let ends = 0;
    for (const each of records) {
      writer.add(each);
      block += RECORD_HEAD_BYTES + 6 + 20;
      const cut = hash(each.key, 0, 6, smallRules.seeds[0]);
      const isEnd = isBlockEnd(smallRules, block, cut);
      expect(writer.mayEnd).toBe(isEnd && isTableEnd(smallRules, writer.bytes, cut));
      if (writer.mayEnd) ends += 1;
      if (isEnd) {
        block = 0;
        blocks += 1;
      }
    }
    expect(ends).toBeGreaterThan(5);
    expect(blocks).toBeGreaterThan(ends);
  });
});

describe("a writer", () => {
  test("takes keys in ascending order only", async () => {
    const writer = await TableWriter.create(storeDisk(), DIRECTORY, smallRules, { number: 1, filter: true });
    writer.add(record("b", 0));
    for (const wrong of ["a", "b", "aa"])
      expect(() => writer.add(record(wrong, 0))).toThrow("the keys of a table ascend");
    writer.add(record("ba", 0));
  });

  test("refuses a record that is gone, and a table without records", async () => {
    const writer = await TableWriter.create(storeDisk(), DIRECTORY, smallRules, { number: 1, filter: true });
    expect(() => writer.add({ ...record("a", 0), kind: recordKind.gone })).toThrow(InvariantViolation);
    await expect(writer.finish()).rejects.toThrow(InvariantViolation);
  });

  test("leaves nothing behind when it is abandoned", async () => {
    const fs = storeDisk();
    const writer = await TableWriter.create(fs, DIRECTORY, smallRules, { number: 1, filter: true });
    for (let i = 0; i < 500; i++) writer.add(record(key(i), 20));
    await writer.flush();
    await writer.abandon();
    expect(fs.names(DIRECTORY)).toEqual([]);
    expect(fs.openFiles).toEqual([]);
  });

  test("has made the contents durable when it has finished", async () => {
    const fs = storeDisk();
    const records = Array.from({ length: 500 }, (_, i) => record(key(i), 20));
    const info = await writeTable(fs, records);
    await fs.syncDirectory(DIRECTORY);
    const after = fs.crash({ keep: "none" });
    expect(await readAll(await openTable(after, info))).toEqual(records.map(textOf));
    expect(fs.openFiles).toEqual([]);
  });

  test("reports a full disk, and can be abandoned then", async () => {
    const fs = storeDisk();
    fs.capacityBytes = 1000;
    const writer = await TableWriter.create(fs, DIRECTORY, smallRules, { number: 1, filter: true });
    for (let i = 0; i < 500; i++) writer.add(record(key(i), 20));
    await expect(writer.flush()).rejects.toMatchObject({ code: "DISK_FULL" });
    await writer.abandon();
    expect(fs.names(DIRECTORY)).toEqual([]);
  });
});
