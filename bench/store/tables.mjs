// Speed of the store's tables on this machine: writing, reading in order, merging, single keys, ranges.
// npm run build && node bench/store/tables.mjs [RECORDS] [DIRECTORY]: default 400000 records of 16 B + 256 B, a temporary directory.
// "CPU us" counts all threads of the process; on a machine that does other things, it is the figure to trust.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { limits } from "../../dist/src/base/limits.js";
import { compareSpans } from "../../dist/src/store/bytes.js";
import { recordKind } from "../../dist/src/store/record.js";
import { DEFAULT_RULES } from "../../dist/src/store/rules/v1.js";
import { TableCursor } from "../../dist/src/store/tables/cursor.js";
import { TableFiles } from "../../dist/src/store/tables/files.js";
import { filterHash } from "../../dist/src/store/tables/filter.js";
import { PageCache } from "../../dist/src/store/tables/page_cache.js";
import { TableRange } from "../../dist/src/store/tables/range.js";
import { Table } from "../../dist/src/store/tables/table.js";
import { TableWriter } from "../../dist/src/store/tables/writer.js";
import { nodeFileSystem } from "../../dist/src/system/fs.js";

const RECORDS = Number(process.argv[2] ?? 400_000);
const VALUE = new Uint8Array(256).map((_, i) => (i * 37) & 255);
const MERGED_RUNS = 4;
const rules = { ...DEFAULT_RULES, seeds: [0x1234_5678, 0x9abc_def0] };

let state = 5;
/** A random number of 32 bits. */
function random() {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return state >>> 0;
}

/** Even numbers have records; odd ones have none. */
const keyOf = (i) => Buffer.from(`key-${String(2 * i).padStart(12, "0")}`, "latin1");
const absentOf = (i) => Buffer.from(`key-${String(2 * i + 1).padStart(12, "0")}`, "latin1");

const results = [];

async function measure(name, count, action, note = "") {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await action();
  const ms = performance.now() - start;
  const used = process.cpuUsage(cpu);
  const us = (micros) => (micros / count).toFixed(2);
  results.push({ name, count, "wall us": us(1000 * ms), "CPU us": us(used.user + used.system), note: String(note) });
}

const directory = await mkdtemp(join(process.argv[3] ?? tmpdir(), "cairn-tables-"));
const files = new TableFiles(nodeFileSystem, directory);
const cache = new PageCache(limits.storeCacheBytes, rules.pageBytes);
let nextNumber = 1;

/** Writes one run: tables that end where the rules say. `each(writer, i)` adds the record i. */
async function writeRun(count, filter, each) {
  const infos = [];
  let writer;
  for (let i = 0; i < count; i++) {
    writer ??= await TableWriter.create(nodeFileSystem, directory, rules, { number: nextNumber++, filter });
    each(writer, i);
    if (writer.isFull) await writer.flush();
    if (!writer.mayEnd) continue;
    infos.push(await writer.finish());
    writer = undefined;
  }
  if (writer !== undefined) infos.push(await writer.finish());
  return Promise.all(infos.map((info) => Table.open(files, cache, info, rules)));
}

/** Adds key number i from packed keys, as a flush does from its arena. */
function adder(keys) {
  const packed = Buffer.concat(keys);
  const { known } = recordKind;
  const { byteLength } = VALUE;
  return (writer, i) => writer.addBytes(packed, i * 16, 16, VALUE, 0, byteLength, known, 0, i, i);
}

/** The tables' records in order, one table after the other. */
class Run {
  cursor = new TableCursor();
  next = 0;
  constructor(tables) {
    this.tables = tables;
  }
  async advance() {
    for (;;) {
      if (this.next > 0 && (await this.cursor.fill())) return true;
      if (this.next === this.tables.length) return false;
      this.cursor.start(this.tables[this.next++]);
    }
  }
}

async function merge(runs, count) {
  let live = [];
  for (const run of runs) if (await run.advance()) live.push(run);
  const infos = [];
  let writer;
  while (live.length > 0) {
    let best = live[0];
    for (let i = 1; i < live.length; i++) if (live[i].cursor.compareTo(best.cursor) < 0) best = live[i];
    writer ??= await TableWriter.create(nodeFileSystem, directory, rules, { number: nextNumber++, filter: true });
    writer.addFrom(best.cursor);
    if (writer.isFull) await writer.flush();
    if (writer.mayEnd) {
      infos.push(await writer.finish());
      writer = undefined;
    }
    if (!best.cursor.advance() && !(await best.advance())) live = live.filter((run) => run !== best);
  }
  if (writer !== undefined) infos.push(await writer.finish());
  const merged = infos.reduce((sum, info) => sum + info.records, 0);
  if (merged !== count) throw new Error(`${merged} records instead of ${count}`);
}

try {
  const keys = Array.from({ length: RECORDS }, (_, i) => keyOf(i));
  await writeRun(20_000, true, adder(keys)); // warm
  let tables;
  await measure("write with filter, sync", RECORDS, async () => {
    tables = await writeRun(RECORDS, true, adder(keys));
  });
  await measure("write without filter, sync", RECORDS, () => writeRun(RECORDS, false, adder(keys)));
  const isIn = (key, { last }) => compareSpans(key, 0, key.length, last, 0, last.length) <= 0;
  const tableOf = (key) => tables.find((table) => isIn(key, table.info));
  const find = (key) => tableOf(key)?.find(key, filterHash(rules, key));

  await measure("read in order, all checksums", RECORDS, async () => {
    const run = new Run(tables);
    let count = 0;
    while ((count > 0 && run.cursor.advance()) || (await run.advance())) count += 1;
    if (count !== RECORDS) throw new Error(`${count} records`);
  });

  const parts = Array.from({ length: MERGED_RUNS }, (_, part) => keys.filter((_, i) => (i * 7) % MERGED_RUNS === part));
  const runs = [];
  for (const part of parts) runs.push(new Run(await writeRun(part.length, true, adder(part))));
  await measure(`merge of ${MERGED_RUNS} runs, all checksums, sync`, RECORDS, () => merge(runs, RECORDS));

  const hot = Array.from({ length: 2000 }, () => keyOf(random() % RECORDS));
  const cold = Array.from({ length: 100_000 }, () => keyOf(random() % RECORDS));
  const absent = Array.from({ length: 100_000 }, () => absentOf(random() % RECORDS));
  const get = (name, sample, isThere, note) => {
    for (const key of sample.slice(0, 20_000)) find(key);
    cache.hits = cache.misses = 0;
    return measure(name, 200_000, () => {
      for (let i = 0; i < 200_000; i++) {
        if ((find(sample[i % sample.length]) !== undefined) !== isThere) throw new Error("wrong answer");
      }
    }).then(() => {
      results.at(-1).note = note(cache.misses / 200_000);
    });
  };
  await get("get, in the cache", hot, true, (misses) => `${misses.toFixed(3)} reads a get`);
  await get("get, random, in the system's cache", cold, true, (misses) => `${misses.toFixed(3)} reads a get`);
  await get("get of an absent key", absent, false, (misses) => `${misses.toFixed(3)} reads a get`);

  await measure("range of a whole table, a record", tables[0].info.records, () => {
    const range = new TableRange(tables[0], new Uint8Array(0), undefined);
    let count = 0;
    while (range.advance()) count += 1;
    if (count !== tables[0].info.records) throw new Error(`${count} records`);
  });
  await measure("range of 20 records at random, a range", 20_000, () => {
    for (let i = 0; i < 20_000; i++) {
      const range = new TableRange(tables[0], keyOf(random() % (tables[0].info.records - 20)), undefined);
      for (let n = 0; n < 20; n++) if (!range.advance()) throw new Error("too few records");
    }
  });
  const sample = cold.slice(0, 20_000);
  await measure("load, then get, 32 at a time", sample.length, async () => {
    for (let i = 0; i < sample.length; i += 32) {
      const some = sample.slice(i, i + 32);
      await Promise.all(some.map((key) => tableOf(key).load(key, filterHash(rules, key))));
      for (const key of some) find(key);
    }
  });
  console.table(results);
  const bytes = tables.reduce((sum, table) => sum + table.info.bytes, 0);
  const blocks = tables.reduce((sum, table) => sum + table.index.blocks, 0);
  console.log(
    `${tables.length} tables of ${(bytes / tables.length / 2 ** 20).toFixed(1)} MiB, ${(bytes / RECORDS).toFixed(1)} B a record, blocks of ${(bytes / blocks / 1024).toFixed(0)} KiB`,
  );
} finally {
  await files.close();
  await rm(directory, { recursive: true, force: true });
}
