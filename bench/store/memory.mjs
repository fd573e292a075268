// Speed of the store's table in memory: microseconds of CPU for each put, find, key put in order and key
// walked over. npm run build && node bench/store/memory.mjs [VALUE BYTES]: 256 by default.
//
// Tables are filled to a flush's 16 MiB, one after the other in the same memory, as a node does it.
// A figure is the median of its rounds, after a warm-up.
import { ArenaPool } from "../../dist/src/store/memory/arena_pool.js";
import { MemoryTable } from "../../dist/src/store/memory/memory_table.js";
import { hash } from "../../dist/src/store/rules/v1.js";
import { median } from "../support/figures.mjs";

const ROUNDS = 7;
const FLUSH_BYTES = 16 << 20;
const value = new Uint8Array(Number(process.argv[2] ?? 256)).fill(7);

const shapes = {
  digits: (n) => `key-${String((n * 7919) % 1e6).padStart(12, "0")}`,
  tenants: (n) => `/tenant-${n % 50}/user/${(n * 7919) % 1e6}/profile`,
  random: (n) =>
    Math.imul(n + 1, 0x9e3779b1)
      .toString(16)
      .padStart(16, "f"),
};

/** Microseconds of CPU for each of the `count()` that the action did. */
function timed(action) {
  const before = process.cpuUsage();
  const count = action();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}

function fill(pool, keys) {
  const table = new MemoryTable(pool);
  let n = 0;
  while (table.charge < FLUSH_BYTES) {
    table.putBlind(keys[n % keys.length], value, n + 1, 0);
    n += 1;
  }
  return { table, puts: n };
}

const figures = [];
for (const [shape, keyOf] of Object.entries(shapes)) {
  const keys = Array.from({ length: 200_000 }, (_, n) => Buffer.from(keyOf(n)));
  const absent = keys.slice(0, 50_000).map((key) => Buffer.from(`${key}!`));
  const pool = new ArenaPool(FLUSH_BYTES);
  const rounds = { put: [], overwrite: [], find: [], absent: [], "first cursor": [], walk: [], flush: [], hash: [] };
  let first = 0;
  for (let round = -2; round < ROUNDS; round += 1) {
    let filled;
    const put = timed(() => {
      filled = fill(pool, keys);
      return filled.puts;
    });
    if (round === -2) first = put;
    const { table, puts } = filled;
    const found = Math.min(puts, keys.length);
    const results = {
      put,
      find: timed(() => {
        for (let n = 0; n < found; n += 1) if (table.find(keys[n]) === 0) throw new Error("a key is missing");
        return found;
      }),
      absent: timed(() => {
        for (const key of absent) if (table.find(key) !== 0) throw new Error("a key is there");
        return absent.length;
      }),
      "first cursor": timed(() => {
        table.cursor(new Uint8Array(0), undefined);
        return table.count;
      }),
      walk: timed(() => {
        const cursor = table.cursor(new Uint8Array(0), undefined);
        let walked = 0;
        for (let place = cursor.next(); place !== 0; place = cursor.next()) {
          if (table.record(place).value.length !== value.length) throw new Error("a value is cut");
          walked += 1;
        }
        return walked;
      }),
      flush: timed(() => table.sorted().length),
      hash: timed(() => {
        let sum = 0;
        for (const key of keys) sum ^= hash(key, 0, key.length, 7);
        return sum === 0 ? 0 : keys.length;
      }),
    };
    table.release();
    const again = timed(() => {
      const { table: hot, puts: count } = fill(pool, keys.slice(0, 2_000));
      hot.release();
      return count;
    });
    if (round < 0) continue;
    for (const [what, figure] of Object.entries({ ...results, overwrite: again })) rounds[what].push(figure);
  }
  const row = { keys: shape, "first put": first.toFixed(2) };
  for (const [what, all] of Object.entries(rounds)) row[what] = median(all).toFixed(2);
  figures.push(row);
}
console.log(`microseconds of CPU each, values of ${value.length} B; "flush": order of a whole table`);
console.table(figures);
console.log(`${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MiB of memory`);
