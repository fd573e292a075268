// Lists the rows of the store's benchmark.
import { pick } from "../support/report/names.mjs";
import { KEY_BYTES } from "./run/keys.mjs";

/** The tables, in the order in which they are measured. */
export const TABLES = ["size", "bytes", "loop"];

const MIB = 2 ** 20;
const VALUE_BYTES = 256;
/** Values whose overwriting is measured in bytes, and the state that they make, in flush sizes. */
const OVERWRITTEN = { valueBytes: 1024, flushes: 5 };
/** The state that a steady load writes to. */
const STEADY = { valueBytes: 1024, keys: 16_000 };

/** Returns the rows of a run; `only` picks some by patterns. */
export function rowsOf({ sizes, flushMib, only }) {
  const { valueBytes, flushes } = OVERWRITTEN;
  const keys = Math.floor((flushes * flushMib * MIB) / (KEY_BYTES + valueBytes));
  const rows = [
    ...sizes.map((size) => ({ table: "size", name: `size/${size}`, keys: keysOf(size), valueBytes: VALUE_BYTES })),
    ...["random", "local"].map((order) => ({ table: "bytes", name: `bytes/${order}`, order, keys, valueBytes })),
    { table: "loop", name: "loop", ...STEADY },
  ];
  return pick(rows, only);
}

/** Keys of a size: a number of bytes (50MB, 3GB), or of keys (10M). */
export function keysOf(size) {
  const [, digits, unit] = /^(\d+)(MB|GB|K|M)$/.exec(size) ?? [];
  if (unit === undefined) return undefined;
  const count = Number(digits) * { MB: 1e6, GB: 1e9, K: 1e3, M: 1e6 }[unit];
  return unit.endsWith("B") ? Math.floor(count / (KEY_BYTES + VALUE_BYTES)) : count;
}
