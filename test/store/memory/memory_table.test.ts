import { MessageChannel, receiveMessageOnPort } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { ArenaPool } from "../../../src/store/memory/arena_pool.js";
import { MemoryRecords } from "../../../src/store/memory/memory_records.js";
import { MemoryTable } from "../../../src/store/memory/memory_table.js";
import { type RecordKind, recordKind, type StoreRecord } from "../../../src/store/record.js";
import { chargeOf, combine } from "../../../src/store/rules/v1.js";
import { Random } from "../../support/random.js";

const NEWEST = Number.MAX_SAFE_INTEGER;
const { gone, known, inherits, deleted, only } = recordKind;

const bytes = (text: string) => Buffer.from(text, "latin1");

interface Written {
  readonly key: string;
  readonly kind: RecordKind;
  readonly tag: number;
  readonly version: number;
  readonly first: number;
  readonly value: string;
}

/** What a table of records should hold, by the plainest means. */
class Model {
  writes: Written[] = [];
  floors: { firstByte: number; version: number }[] = [];
  charge = 0;

  write(record: Written): void {
    const older = this.find(record.key, record.version);
    this.writes.push({ ...record, ...combine(record, older) });
    this.charge += chargeOf(record.key.length, record.value.length);
  }

  find(key: string, atVersion: number): Written | undefined {
    const record = this.writes.findLast((each) => each.key === key && each.version <= atVersion);
    const floor = this.floors.findLast((each) => each.firstByte === key.charCodeAt(0) && each.version <= atVersion);
    return record !== undefined && record.version >= (floor?.version ?? 0) ? record : undefined;
  }

  range(start: string, end: string | undefined, atVersion: number): Written[] {
    const keys = [...new Set(this.writes.map(({ key }) => key))].sort();
    return keys
      .filter((key) => key >= start && (end === undefined || key < end))
      .flatMap((key) => this.find(key, atVersion) ?? []);
  }
}

/** A table beside its model, written to alike. */
class Pair {
  readonly model = new Model();
  version = 0;

  constructor(
    readonly table: MemoryTable,
    readonly random: Random,
  ) {}

  /** Writes whatever chance decides, as of the next version or the present one. */
  step(keys: () => string): void {
    const { random, table, model } = this;
    if (this.version === 0 || !random.oneIn(4)) this.version += random.whole(1, 3);
    const version = this.version;
    const key = keys();
    const value = "v".repeat(random.oneIn(10) ? random.whole(0, 3_000) : random.whole(0, 20));
    const tag = random.whole(0, 255);
    const created = random.whole(1, version);
    const older = model.find(key, NEWEST);
    if (random.oneIn(60)) {
      const firstByte = key.charCodeAt(0);
      table.raiseFloor(firstByte, version);
      model.floors.push({ firstByte, version });
    } else if (random.oneIn(4)) {
      table.delete(bytes(key), version);
      model.write({ key, kind: deleted, tag: 0, version, first: 0, value: "" });
    } else if (random.oneIn(3)) {
      const existed = table.putBlind(bytes(key), bytes(value), version, tag);
      if (older !== undefined) expect(existed).toBe(older.kind === deleted || older.kind === gone ? "no" : "yes");
      else if (model.floors.some(({ firstByte }) => firstByte === key.charCodeAt(0))) expect(existed).toBe("no");
      else expect(existed).toBe("unknown");
      model.write({ key, kind: inherits, tag, version, first: version, value });
    } else if (older === undefined && random.oneIn(2)) {
      table.putOnly(bytes(key), bytes(value), version, created, tag);
      model.write({ key, kind: only, tag, version, first: created, value });
    } else {
      table.put(bytes(key), bytes(value), version, created, tag);
      model.write({ key, kind: known, tag, version, first: created, value });
    }
  }

  mark(): () => void {
    const { table, model, version } = this;
    const mark = table.mark();
    const [writes, floors, charge] = [model.writes.length, model.floors.length, model.charge];
    return () => {
      table.rollback(mark);
      model.writes.length = writes;
      model.floors.length = floors;
      model.charge = charge;
      this.version = version;
    };
  }

  check(atVersion: number): void {
    const { table, model } = this;
    for (const key of new Set(model.writes.map((each) => each.key))) {
      const place = table.find(bytes(key), atVersion);
      const found = place === 0 ? undefined : plain(table.record(place));
      expect(found).toEqual(model.find(key, atVersion));
    }
    expect(table.find(bytes("absent"), atVersion)).toBe(0);
  }
}

function plain({ key, value, ...rest }: StoreRecord): Written {
  return { ...rest, key: Buffer.from(key).toString("latin1"), value: Buffer.from(value).toString("latin1") };
}

function rangeOf(table: MemoryTable, start: string, end: string | undefined, atVersion: number): Written[] {
  const cursor = table.cursor(bytes(start), end === undefined ? undefined : bytes(end), atVersion);
  const found: Written[] = [];
  for (let place = cursor.next(); place !== 0; place = cursor.next()) found.push(plain(table.record(place)));
  return found;
}

/** Keys of several shapes: equal beginnings, prefixes of each other, all bytes. */
function keysOf(random: Random, most: number): () => string {
  return () => {
    const n = random.whole(1, most);
    const shape = n % 4;
    if (shape === 0) return `k${String(n).padStart(12, "0")}`;
    if (shape === 1) return "a".repeat(n % 50 === 0 ? 1 : n % 50);
    if (shape === 2) return String.fromCharCode(n % 256, (n * 7) % 256, 0, n % 256);
    return `k${n}`;
  };
}

describe("a table in memory", () => {
  test("holds what was written, as of each version, whatever was taken back", () => {
    for (let seed = 1; seed <= 12; seed += 1) {
      const random = new Random(seed);
      const pool = new ArenaPool(1_024);
      const pair = new Pair(new MemoryTable(pool), random);
      const keys = keysOf(random, random.pick([5, 50, 2_000]));
      for (let round = 0; round < 40; round += 1) {
        const takeBack = pair.mark();
        for (let n = random.whole(1, 12); n > 0; n -= 1) {
          pair.step(keys);
          if (random.oneIn(20)) rangeOf(pair.table, "a", undefined, NEWEST);
        }
        if (random.oneIn(3)) takeBack();
      }
      pair.check(NEWEST);
      for (let n = 0; n < 5; n += 1) pair.check(random.whole(0, pair.version));
      expect(pair.table.charge).toBe(pair.model.charge);
      expect(pair.table.count).toBe(new Set(pair.model.writes.map(({ key }) => key)).size);
    }
  });

  test("walks over its keys in the order of their bytes, as of each version", () => {
    // Memory is used again, and its first cursors tell later tables to keep their keys in order.
    const pool = new ArenaPool(1_024);
    for (let seed = 1; seed <= 12; seed += 1) {
      const random = new Random(seed);
      const pair = new Pair(new MemoryTable(pool), random);
      const keys = keysOf(random, random.pick([50, 2_000]));
      for (let round = 0; round < 12; round += 1) {
        const takeBack = pair.mark();
        for (let n = random.whole(1, 40); n > 0; n -= 1) pair.step(keys);
        const [one, other] = [keys(), keys()].sort();
        for (const end of [undefined, other!]) {
          for (const atVersion of [NEWEST, random.whole(0, pair.version)]) {
            expect(rangeOf(pair.table, one!, end, atVersion)).toEqual(pair.model.range(one!, end, atVersion));
          }
        }
        if (random.oneIn(3)) takeBack();
      }
      expect(rangeOf(pair.table, "", undefined, NEWEST)).toEqual(pair.model.range("", undefined, NEWEST));
      expect(rangeOf(pair.table, "", "", NEWEST)).toEqual([]);
      pair.table.release();
    }
  });

  test("lets a view's cursor continue while the table grows and keys come in between", () => {
    // Memory is used again, and its first cursors tell later tables to keep their keys in order.
    const pool = new ArenaPool(1_024);
    for (let seed = 1; seed <= 10; seed += 1) {
      const random = new Random(seed);
      const pair = new Pair(new MemoryTable(pool), random);
      const keys = keysOf(random, 2_000);
      for (let n = 0; n < 100; n += 1) pair.step(keys);
      const atVersion = pair.version;
      pair.version += 1;
      const expected = pair.model.range("", undefined, atVersion);
      const cursor = pair.table.cursor(bytes(""), undefined, atVersion);
      const found: Written[] = [];
      for (let place = cursor.next(); place !== 0; place = cursor.next()) {
        found.push(plain(pair.table.record(place)));
        const takeBack = pair.mark();
        for (let n = 0; n < 5; n += 1) pair.step(keys);
        if (random.oneIn(3)) rangeOf(pair.table, "", undefined, NEWEST);
        if (random.oneIn(3)) takeBack();
      }
      expect(found).toEqual(expected);
      pair.table.release();
    }
  });

  test("gives a worker its newest records in order, without those that are nothing", () => {
    for (let seed = 1; seed <= 10; seed += 1) {
      const random = new Random(seed);
      const pair = new Pair(new MemoryTable(new ArenaPool(1_024)), random);
      const keys = keysOf(random, random.pick([5, 2_000]));
      for (let n = 0; n < 600; n += 1) pair.step(keys);
      const { port1, port2 } = new MessageChannel();
      port1.postMessage(pair.table.share());
      const shared = MemoryRecords.of(receiveMessageOnPort(port2)!.message);
      port1.close();
      const found = [...shared.sorted()].map((place) => plain(shared.record(place)));
      expect(found).toEqual(pair.model.range("", undefined, NEWEST).filter(({ kind }) => kind !== gone));
    }
  });

  test("sorts keys that share long beginnings", () => {
    const pool = new ArenaPool(1 << 20);
    const table = new MemoryTable(pool);
    const random = new Random(3);
    const keys = new Set<string>();
    for (let n = 0; n < 20_000; n += 1) {
      const end = random.pick(["s", "\u0000"]).repeat(random.whole(0, 5));
      keys.add(`${"p".repeat(random.whole(0, 40))}/${random.whole(0, 3_000)}/${end}`);
    }
    for (const key of keys) table.putBlind(bytes(key), bytes(""), 1, 0);
    const found = [...table.sorted()].map((place) => Buffer.from(table.keyOf(place)).toString("latin1"));
    expect(found).toEqual([...keys].sort());
  });

  test("keeps thousands of keys in order as they come, and when some are taken back", () => {
    const table = new MemoryTable(new ArenaPool(1_024));
    const random = new Random(4);
    rangeOf(table, "", undefined, NEWEST);
    let kept = new Set<string>();
    for (let round = 0; round < 60; round += 1) {
      const mark = table.mark();
      const keys = new Set(kept);
      for (let n = 0; n < 60; n += 1) {
        // Some ascend, as those made of an index do.
        const key = round % 3 === 0 ? `k9${1_000 + round * 60 + n}` : `k${random.whole(0, 90_000)}`;
        table.putBlind(bytes(key), bytes(""), round + 1, 0);
        keys.add(key);
      }
      const sorted = [...keys].sort();
      const start = random.pick(sorted);
      for (const from of [start, `${start}!`, "", "l"]) {
        const found = rangeOf(table, from, undefined, NEWEST).map(({ key }) => key);
        expect(found).toEqual(sorted.filter((key) => key >= from));
      }
      if (random.oneIn(4)) table.rollback(mark);
      else kept = keys;
    }
    expect(rangeOf(table, "", undefined, NEWEST).map(({ key }) => key)).toEqual([...kept].sort());
    expect(kept.size).toBeGreaterThan(2_000);
  });

  test("keeps keys and values of all sizes, and moves to a larger arena when its own is full", () => {
    const table = new MemoryTable(new ArenaPool(1_024));
    const sizes = [0, 1, 7, 8, 9, 255, 4_096, 1_572_864];
    for (const [at, size] of sizes.entries()) {
      table.put(Buffer.alloc(Math.min(1_024, size + 1), at + 1), Buffer.alloc(size, at + 1), at + 1, 1, at);
    }
    for (const [at, size] of sizes.entries()) {
      const place = table.find(Buffer.alloc(Math.min(1_024, size + 1), at + 1));
      expect(table.valueOf(place)).toHaveLength(size);
      expect(Buffer.alloc(size, at + 1).equals(table.valueOf(place))).toBe(true);
      expect([table.versionOf(place), table.tagOf(place)]).toEqual([at + 1, at]);
    }
  });
});

describe("the memory of tables", () => {
  test("is used again, empty", () => {
    const pool = new ArenaPool(1_024);
    const first = new MemoryTable(pool);
    const { buffer } = first.share();
    first.put(bytes("key"), bytes("value"), 1, 1, 0);
    first.release();
    first.release();
    const [second, third] = [new MemoryTable(pool), new MemoryTable(pool)];
    expect(second.share().buffer).toBe(buffer);
    expect(third.share().buffer).not.toBe(buffer);
    expect(second.find(bytes("key"))).toBe(0);
    expect([second.count, second.charge]).toEqual([0, 0]);
  });

  test("is not kept when a table grew far beyond its size", () => {
    const pool = new ArenaPool(1_024);
    const table = new MemoryTable(pool);
    table.put(bytes("key"), Buffer.alloc(100_000), 1, 1, 0);
    const { buffer } = table.share();
    table.release();
    expect(new MemoryTable(pool).share().buffer).not.toBe(buffer);
  });
});
