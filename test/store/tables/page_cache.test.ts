import { describe, expect, test } from "vitest";
import { fillFilter, filterBytes, filterHas, filterHash } from "../../../src/store/tables/filter.js";
import { PageCache } from "../../../src/store/tables/page_cache.js";
import { TableRange } from "../../../src/store/tables/range.js";
import { Random } from "../../support/random.js";
import { fullRules, openTable, randomRecords, rest, storeDisk, writeTable } from "./support.js";

describe("the page cache", () => {
  test("gives back what was put into it, or nothing, as a model says", () => {
    const random = new Random(11);
    const cache = new PageCache(16 * 1024, 1024);
    const owners = [cache.newOwner(), cache.newOwner(), cache.newOwner()];
    const sizes = new Map<string, { owner: number; position: number; bytes: number; byte: number }>();
    let hits = 0;
    let wrong = 0;
    for (let i = 0; i < 20_000; i++) {
      const owner = random.pick(owners);
      const position = random.whole(0, 30) * 4096;
      const bytes = [100, 512, 513, 1024, 1025, 3000, 9000][(position / 4096 + owner) % 7]!;
      const name = `${owner} ${position}`;
      if (random.oneIn(500)) {
        cache.forget(owner);
        for (const [each, entry] of sizes) if (entry.owner === owner) sizes.delete(each);
      }
      const has = cache.has(owner, position, bytes);
      if (cache.find(owner, position, bytes) !== has) wrong += 1;
      if (!has) {
        const byte = random.whole(0, 255);
        cache.add(owner, position, bytes);
        cache.bytes.fill(byte, cache.at, cache.at + bytes);
        if (random.oneIn(20)) {
          cache.drop(owner, position, bytes);
          if (cache.has(owner, position, bytes)) wrong += 1;
          sizes.delete(name);
        } else sizes.set(name, { owner, position, bytes, byte });
        continue;
      }
      hits += 1;
      const entry = sizes.get(name)!;
      const got = cache.bytes.subarray(cache.at, cache.at + bytes);
      if (got.byteLength !== bytes || !got.every((each) => each === entry.byte)) wrong += 1;
    }
    expect(wrong).toBe(0);
    expect(hits).toBeGreaterThan(500);
    expect(cache.hits).toBe(hits);
    expect(cache.misses).toBe(20_000 - hits);
  });

  test("keeps what is used again when others are used once", () => {
    const cache = new PageCache(64 * 1024, 4096);
    const owner = cache.newOwner();
    const use = (position: number) => {
      if (!cache.find(owner, position, 4096)) cache.add(owner, position, 4096);
    };
    for (let i = 0; i < 1000; i++) {
      use(0);
      use(i * 4096 + 4096);
    }
    expect(cache.misses).toBe(1001);
  });

  test("a long range leaves most of the cache as it is", async () => {
    const fs = storeDisk();
    const records = randomRecords(new Random(2), 3000, 200);
    const table = await openTable(fs, await writeTable(fs, records, { rules: fullRules }), {
      rules: fullRules,
      cacheBytes: 100 * 1024,
    });
    const { key } = records[1500]!;
    table.find(key, filterHash(fullRules, key));
    expect(rest(new TableRange(table, new Uint8Array(0), undefined)).length).toBe(3000);
    expect(table.isCached(key, filterHash(fullRules, key))).toBe(true);
  });
});

describe("filters", () => {
  test("hold every key that was added, and few others", () => {
    const keys = 20_000;
    const hashes = Uint32Array.from({ length: 2 * keys }, (_, i) => filterHash(fullRules, Buffer.from(`key-${i}`)));
    const filter = new Uint8Array(filterBytes(keys));
    fillFilter(filter, hashes, keys);
    expect(hashes.subarray(0, keys).every((h) => filterHas(filter, h))).toBe(true);
    const wrong = hashes.subarray(keys).filter((h) => filterHas(filter, h)).length;
    expect(wrong / keys).toBeLessThan(0.02);
    expect(filter.byteLength / keys).toBeLessThan(1.3);
  });
});
