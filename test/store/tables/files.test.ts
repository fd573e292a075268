import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { TableFiles } from "../../../src/store/tables/files.js";
import { filterHash } from "../../../src/store/tables/filter.js";
import { PageCache } from "../../../src/store/tables/page_cache.js";
import { nextTurn } from "../../support/conditions.js";
import { holdCalls } from "../../support/disk/held_calls.js";
import { Random } from "../../support/random.js";
import { DIRECTORY, openTable, randomRecords, smallRules, storeDisk, textOf, writeTable } from "./support.js";

const tooMany = new CairnError("BUSY", "too many open files");

/** Tables of a directory that share files and cache. */
async function manyTables(count: number, most: number) {
  const fs = storeDisk();
  const random = new Random(3);
  const files = new TableFiles(fs, DIRECTORY, most);
  const cache = new PageCache(1024, smallRules.pageBytes);
  const tables = [];
  for (let number = 1; number <= count; number++) {
    const records = randomRecords(random, 100);
    const info = await writeTable(fs, records, { number });
    tables.push({ records, table: await openTable(fs, info, { files, cache }) });
  }
  return { fs, random, files, cache, tables };
}

type Many = Awaited<ReturnType<typeof manyTables>>;

function expectRecord({ random }: Many, { records, table }: Many["tables"][number]): void {
  const expected = random.pick(records);
  expect(textOf(table.find(expected.key, filterHash(smallRules, expected.key))!)).toBe(textOf(expected));
}

describe("files of tables", () => {
  test("only so many are open at a time, and all are read", async () => {
    const many = await manyTables(5, 2);
    const { fs, random, files, tables } = many;
    for (let i = 0; i < 200; i++) {
      expectRecord(many, random.pick(tables));
      expect(fs.openFiles.length).toBeLessThanOrEqual(2);
    }
    expect(fs.calls.openNow).toBeGreaterThan(50);
    await files.close();
    expect(fs.openFiles).toEqual([]);
  });

  test("the one that was not read for the longest time is closed", async () => {
    const many = await manyTables(3, 2);
    const [first, second, third] = many.tables;
    for (const each of [first!, second!, first!, third!]) expectRecord(many, each);
    expect(many.fs.openFiles.map((path) => path.slice(-5)).sort()).toEqual(["1.tab", "3.tab"]);
  });

  test("when no descriptor is free, one is closed for the next", async () => {
    const many = await manyTables(3, 2);
    const { fs, files, tables } = many;
    fs.failCall("openNow", 1, tooMany);
    expectRecord(many, tables[0]!);
    expect(files.descriptors).toBeLessThanOrEqual(1 + 1);
    const { key } = tables[1]!.records[0]!;
    await files.close();
    fs.failCall("openNow", 1, tooMany);
    expect(() => tables[1]!.table.find(key, filterHash(smallRules, key))).toThrow("too many open files");
    expectRecord(many, tables[1]!);
  });

  test("many reads at a time wait for each other's descriptors", async () => {
    const many = await manyTables(12, 3);
    const { fs, files, random, tables } = many;
    const refuse = new Set([5, 9, 14]);
    let opens = 0;
    fs.onCall = ({ kind }) => {
      if (kind === "openNow" && refuse.has(++opens)) throw tooMany;
      return kind === "read" ? nextTurn() : undefined;
    };
    const loads = tables.flatMap(({ records, table }) =>
      records.slice(0, 20).map(({ key }) => table.load(key, filterHash(smallRules, key))),
    );
    let most = 0;
    for (let turn = 0; turn < 20; turn++) {
      await nextTurn();
      if (turn === 5) expectRecord(many, random.pick(tables));
      most = Math.max(most, fs.openFiles.length);
    }
    await Promise.all(loads);
    expect(most).toBeGreaterThanOrEqual(3);
    expect(most).toBeLessThanOrEqual(4);
    expect(opens).toBeGreaterThan(14);
    await files.close();
    expect(fs.openFiles).toEqual([]);
  });

  test("a file that is being read stays open", async () => {
    const many = await manyTables(3, 1);
    const { fs, files, tables } = many;
    const [first, second] = tables;
    const { key } = first!.records[0]!;
    const held = holdCalls(fs, ({ kind }) => kind === "read");
    const loading = first!.table.load(key, filterHash(smallRules, key));
    await held.reached("a read");
    fs.onCall = undefined;
    expectRecord(many, second!);
    expect(fs.openFiles.length).toBe(2);
    first!.table.close();
    expect(fs.openFiles.length).toBe(2);
    held.resolve();
    await loading;
    await files.close();
    expect(fs.openFiles).toEqual([]);
  });

  test("a table that is closed frees its file and its pages", async () => {
    const many = await manyTables(2, 5);
    const [first, second] = many.tables;
    for (let i = 0; i < 20; i++) expectRecord(many, first!);
    expectRecord(many, second!);
    first!.table.close();
    expect(many.fs.openFiles).toEqual(["/store/000000000002.tab"]);
    expectRecord(many, second!);
  });
});
