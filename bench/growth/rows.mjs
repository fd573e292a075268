// Lists the rows of the tables of growth.
import { pick, sizeInName } from "../support/report/names.mjs";

const MEMBERS = [1, 2, 3, 5, 7];
const VALUES = [16, 256, 4 * 2 ** 10, 64 * 2 ** 10, 2 ** 20];
const KEYS = [10_000, 100_000, 1_000_000, 10_000_000];
/** More keys have names of another length. */
export const KEYS_MAX = 100_000_000;

/** The tables, in the order in which they are measured. */
export const TABLES = ["members", "values", "keys", "sustain"];

const CALLERS = 128;
/** Bytes of the values of a table that fill a cluster, at most. */
const FILL_BYTES = 256 * 2 ** 20;
const FILL_KEYS = 10_000;

/**
 * Returns the rows of a run, each with its `table`. `only` picks rows by patterns; `keysMax` bounds
 * the table of keys, and is its last row.
 */
export function rowsOf({ keysMax, only }) {
  const keys = [...KEYS.filter((count) => count < keysMax), keysMax];
  const rows = [
    ...MEMBERS.map((members) => ({ table: "members", name: `members/${members}`, members })),
    ...VALUES.map((valueBytes) => ({ table: "values", name: `values/${sizeInName(valueBytes)}`, valueBytes })),
    ...keys.map((count) => ({ table: "keys", name: `keys/${count}`, keys: count })),
    { table: "sustain", name: "sustain" },
  ];
  return pick(rows, only);
}

/** The keys that are filled with values of a size, so that the cluster stays small. */
export function keysFor(valueBytes) {
  return Math.max(1, Math.min(FILL_KEYS, Math.floor(FILL_BYTES / valueBytes)));
}

/**
 * Returns the callers that the limits leave room for: the values in flight fit what a client may
 * have in flight (`limits.clientWriteBytesInFlight`), which is less than a leader takes.
 */
export function callersFor(valueBytes, { clientWriteBytesInFlight }) {
  // A call has its key and a few fields beside the value.
  return Math.max(1, Math.min(CALLERS, Math.floor(clientWriteBytesInFlight / (valueBytes + 1024))));
}

/** The loads of the tables of members and of values. `unary`: the driver of unary calls. */
export function loadsOf(unary, valueBytes, callers) {
  const cell = { callers, valueBytes };
  return [
    { work: "put, unary", driver: unary, op: "put", route: "leader", ...cell },
    { work: "put, CairnClient", driver: "cairn", op: "put", route: "all", ...cell },
    { work: "get, CairnClient", driver: "cairn", op: "get", route: "all", ...cell },
  ];
}
