import { describe, expect, test } from "vitest";
import { recordKind, type StoreRecord } from "../../../src/store/record.js";
import { filterHash } from "../../../src/store/tables/filter.js";
import { loadRange, TableRange } from "../../../src/store/tables/range.js";
import { TableWriter } from "../../../src/store/tables/writer.js";
import { Random } from "../../support/random.js";
import {
  openTable,
  randomKey,
  randomRecords,
  readAll,
  rest,
  smallRules,
  storeDisk,
  textOf,
  writeTable,
} from "./support.js";

const SEEDS = [1, 2, 3, 4, 5, 6];

/** Rules that place the ends of pages and blocks at other records. */
function randomRules(random: Random) {
  const pageBytes = random.whole(40, 600);
  const blockBytesMin = random.whole(1, 1000);
  return {
    ...smallRules,
    pageBytes,
    blockBytesMin,
    blockBytesMax: blockBytesMin + random.whole(0, 2000),
    blockBits: random.whole(0, 4),
    seeds: [random.whole(0, 2 ** 32 - 1), random.whole(0, 2 ** 32 - 1)] as const,
  };
}

async function randomTable(seed: number, options: { filter?: boolean; cacheBytes?: number } = {}) {
  const random = new Random(seed);
  const records = randomRecords(random, random.whole(1, 300));
  const rules = randomRules(random);
  const fs = storeDisk();
  const info = await writeTable(fs, records, { rules, filter: options.filter ?? random.oneIn(2) });
  const table = await openTable(fs, info, { rules, cacheBytes: options.cacheBytes ?? random.pick([1024, 100_000]) });
  return { random, records, rules, fs, info, table };
}

describe.each(SEEDS)("a table of random records, seed %i", (seed) => {
  test("describes its contents", async () => {
    const { records, info, fs } = await randomTable(seed);
    expect(info.records).toBe(records.length);
    expect(info.deletes).toBe(records.filter(({ kind }) => kind === recordKind.deleted).length);
    expect([...info.first]).toEqual([...records[0]!.key]);
    expect([...info.last]).toEqual([...records.at(-1)!.key]);
    expect(fs.contents("/store/000000000001.tab").byteLength).toBe(info.bytes);
  });

  test("gives every record for its key, and none for other keys", async () => {
    const { random, records, rules, table } = await randomTable(seed);
    const byKey = new Map(records.map((record) => [Buffer.from(record.key).toString("hex"), record]));
    const others = Array.from({ length: 200 }, () => randomKey(random));
    for (const key of [...records.map((record) => record.key), ...others]) {
      const expected = byKey.get(Buffer.from(key).toString("hex"));
      const found = table.find(key, filterHash(rules, key));
      expect(found && textOf(found)).toEqual(expected && textOf(expected));
      if (expected !== undefined) expect(table.has(key, filterHash(rules, key))).toBe("maybe");
    }
  });

  test("gives all records in order to a merge, from any key on, whatever a read takes", async () => {
    const { random, records, table } = await randomTable(seed);
    const copies = records.map(textOf);
    expect(await readAll(table)).toEqual(copies);
    for (const readBytes of [1, 700, 5000]) expect(await readAll(table, undefined, readBytes)).toEqual(copies);
    for (let i = 0; i < 15; i++) {
      const from = random.oneIn(2) ? randomKey(random) : random.pick(records).key;
      const expected = within(records, from, undefined);
      expect(await readAll(table, from, random.whole(1, 3000))).toEqual(expected);
    }
  });

  test("gives the records of a range in order, while other reads use the cache", async () => {
    const { random, records, rules, table } = await randomTable(seed, { cacheBytes: 1024 });
    for (let i = 0; i < 30; i++) {
      const start = randomKey(random);
      const end = random.oneIn(4) ? undefined : randomKey(random);
      const range = new TableRange(table, start, end);
      const got: string[] = [];
      while (range.advance()) {
        const { key } = random.pick(records);
        table.find(key, filterHash(rules, key));
        got.push(textOf(range.record()));
      }
      expect(range.advance()).toBe(false);
      expect(got).toEqual(within(records, start, end));
    }
  });

  test("reads nothing for keys and spans that were loaded before", async () => {
    const { random, records, rules, fs, table } = await randomTable(seed, { cacheBytes: 1_000_000 });
    for (let i = 0; i < 20; i++) {
      const key = random.oneIn(2) ? randomKey(random) : random.pick(records).key;
      const hash = filterHash(rules, key);
      await table.load(key, hash);
      const { readNow } = fs.calls;
      expect(table.isCached(key, hash)).toBe(true);
      expect(table.load(key, hash)).toBeUndefined();
      table.find(key, hash);
      expect(fs.calls.readNow).toBe(readNow);
    }
    const start = randomKey(random);
    const end = random.oneIn(3) ? undefined : randomKey(random);
    await loadRange(table, start, end, 1_000_000);
    const { readNow } = fs.calls;
    expect(rest(new TableRange(table, start, end))).toEqual(within(records, start, end));
    expect(fs.calls.readNow).toBe(readNow);
  });

  test("has the same bytes whenever it was flushed on the way", async () => {
    const { random, records, rules, fs, info } = await randomTable(seed, { filter: true });
    const writer = await TableWriter.create(fs, "/store", rules, { number: 2, filter: true });
    for (const record of records) {
      writer.add(record);
      if (random.oneIn(8)) await writer.flush();
    }
    const again = await writer.finish();
    expect({ ...again, number: 1 }).toEqual(info);
    expect(fs.contents("/store/000000000002.tab")).toEqual(fs.contents("/store/000000000001.tab"));
  });
});

function within(records: readonly StoreRecord[], start: Uint8Array, end: Uint8Array | undefined): string[] {
  return records
    .filter(({ key }) => Buffer.compare(key, start) >= 0 && (end === undefined || Buffer.compare(key, end) < 0))
    .map(textOf);
}
