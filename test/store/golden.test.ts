import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { ArenaPool } from "../../src/store/memory/arena_pool.js";
import { MemoryRecords } from "../../src/store/memory/memory_records.js";
import { MemoryTable } from "../../src/store/memory/memory_table.js";
import { recordKind, type StoreRecord } from "../../src/store/record.js";
import type { StoreRules } from "../../src/store/rules/rules.js";
import { DEFAULT_RULES } from "../../src/store/rules/v1.js";
import { type TableInfo, tableName } from "../../src/store/tables/format.js";
import { nodeFileSystem } from "../../src/system/fs.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { fullRules, smallRules, writeTable } from "./tables/support.js";

// The bytes of tables, told by their digests. All members of a cluster must write the same ones,
// whatever version of Node or of Cairn each runs: a digest that changes here takes a new version of
// the rules. These are made from nothing but the numbers below.

const { known, inherits, deleted } = recordKind;

/** Whole numbers below 2^31 that look like chance. */
function* numbers(seed: number): Generator<number, never> {
  let state = seed;
  for (;;) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    yield state >>> 8;
  }
}

/** Writes of keys that share beginnings, of all kinds, with versions of up to 53 bits. */
function writesOf(seed: number, count: number, mostValueBytes: number): StoreRecord[] {
  const next = numbers(seed);
  const below = (limit: number): number => next.next().value % limit;
  const kinds = [known, known, inherits, deleted];
  return Array.from({ length: count }, (_, n) => {
    const shape = below(3);
    const text = shape === 0 ? `user:${below(count)}` : shape === 1 ? `/tenant-${below(9)}/${below(count)}` : "";
    const key = Buffer.from(text === "" ? [below(256), below(256), below(4), below(256)] : Buffer.from(text));
    const kind = kinds[below(kinds.length)]!;
    const value = Buffer.alloc(kind === deleted ? 0 : below(mostValueBytes + 1), n & 0xff);
    const version = n + 1 + (n % 2 === 0 ? 0 : 2 ** 40);
    return { key, kind, tag: below(256), version, first: kind === deleted ? 0 : 1 + below(n + 1), value };
  });
}

/** The last write of each key, in order of the keys. */
function recordsOf(writes: readonly StoreRecord[]): StoreRecord[] {
  const records = new Map(writes.map((record) => [Buffer.from(record.key).toString("hex"), record]));
  return [...records].sort(([one], [other]) => (one < other ? -1 : 1)).map(([, record]) => record);
}

async function digestOf(records: readonly StoreRecord[], rules: StoreRules, filter = true): Promise<string> {
  const directory = await temporaryDirectory();
  const info: TableInfo = await writeTable(nodeFileSystem, records, { rules, filter, directory });
  const bytes = await readFile(`${directory}/${tableName(info.number)}`);
  return `${records.length} records, ${bytes.length} bytes, ${createHash("sha256").update(bytes).digest("hex")}`;
}

/** The records that a flush of these writes takes, by way of the memory table. */
function flushed(writes: readonly StoreRecord[], flushBytes: number): StoreRecord[] {
  const table = new MemoryTable(new ArenaPool(flushBytes));
  for (const [n, { key, kind, value, first, tag }] of writes.entries()) {
    const version = n + 1;
    if (kind === deleted) table.delete(key, version);
    else if (kind === inherits) table.putBlind(key, value, version, tag);
    else if (table.find(key) === 0 && first % 2 === 0) table.putOnly(key, value, version, version, tag);
    else table.put(key, value, version, Math.min(first, version), tag);
  }
  const shared = MemoryRecords.of(table.share());
  return [...shared.sorted()].map((place) => shared.record(place));
}

describe("the bytes of tables", () => {
  test("are these by the rules of a new cluster", async () => {
    const records = recordsOf(writesOf(1, 9_000, 700));
    expect(await digestOf(records, fullRules)).toBe(
      "8535 records, 2545332 bytes, 148f87700651730861237e5e511cc1bcb1c6b0528314fc39388c59496476ea46",
    );
    expect(await digestOf(records, fullRules, false)).toBe(
      "8535 records, 2534644 bytes, 91fcaadb8201157bc90231d1889f25b7b8908d3a920f83412fd0dec0a9e87a4e",
    );
    expect(await digestOf(records, { ...fullRules, seeds: [3, 4] })).toBe(
      "8535 records, 2545610 bytes, 4e1ef1ebcce751c804f0e88c085df4d7614e532ab536a5c31d380db120c750bb",
    );
  });

  test("are these by small rules, where tables have many blocks and pages", async () => {
    const records = recordsOf(writesOf(2, 3_000, 90));
    expect(await digestOf(records, smallRules)).toBe(
      "2820 records, 221012 bytes, a6fb80cdec3ae8d0267f66f4ccef8028290c642086e2daf4d9f7d8f6f7bfdea7",
    );
  });

  test("are these with values larger than a page and a block", async () => {
    const records = recordsOf(writesOf(3, 40, 300_000));
    expect(await digestOf(records, fullRules)).toBe(
      "36 records, 3753456 bytes, a582781dca7a6db4b5ea8fc06c456918af8e65d7868bd5c5e50d37e0d74627fc",
    );
  });

  test("are these of a flush, whatever the seed of the table in memory", async () => {
    const writes = writesOf(4, 20_000, 40);
    expect(await digestOf(flushed(writes, 1_024), fullRules)).toBe(
      "18642 records, 930076 bytes, 8385f3a5441eb38672eec5c6dc32f45b8ca2903079b86ceb73789a639618f4e8",
    );
    expect(await digestOf(flushed(writes, DEFAULT_RULES.flushBytes), fullRules)).toBe(
      "18642 records, 930076 bytes, 8385f3a5441eb38672eec5c6dc32f45b8ca2903079b86ceb73789a639618f4e8",
    );
  });
});
