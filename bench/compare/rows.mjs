// Lists the rows of the comparison: each names a cell of etcd and a cell of Cairn that are measured
// one right after the other.
//
// A cell says how one cluster is driven: `driver` (the load generator, or a client library in one
// Node.js process), `op`, `route` (through the leader, or spread over all nodes), `callers`,
// `valueBytes`, and `rate` for an open loop. Rows that need the same cell share one measurement.
import { bytesInWords, pick, sizeInName } from "../support/report/names.mjs";

const QUICK_VALUE_BYTES = 256;

const OPS = {
  put: "put",
  get: "linearizable get",
  stale: "stale get",
  mixed: "9 gets to 1 put",
};

/** The routes that each operation is measured through. A stale get has no use for the leader. */
const ROUTES = {
  put: ["leader", "all", "client"],
  get: ["leader", "all", "client"],
  stale: ["all", "client"],
  mixed: ["leader", "all", "client"],
};

const ROUTE_WORDS = {
  leader: "unary, through the leader",
  all: "unary, over all nodes",
  client: "CairnClient beside etcd's unary calls over all nodes",
  node: "CairnClient beside npm etcd3, one Node.js process each",
};

/** The life of a whole cluster, in this order. */
const LIFE = {
  snapshot: "save a snapshot of the present state to a file",
  return: "a killed follower is started again and catches up",
  restart: "kill -9 of all three, started again, to the first linearizable get",
};

/** Rows of the quick run, by name: those of one page. */
const QUICK = new Set([
  ...["put/leader/1", "put/leader/32", "put/leader/128", "put/leader/512"],
  ...["put/all/128", "put/client/128", "put/client/512"],
  ...["get/leader/128", "get/client/128", "stale/all/128", "stale/client/128"],
  ...["put/node/128", "get/node/128", "snapshot", "return", "restart"],
]);

/**
 * Returns the rows of a run. `callers`, `values` (bytes) and `rates` (calls a second) span the full
 * one; `only` picks rows by patterns.
 */
export function rowsOf({ quick, callers, values, rates, only }) {
  const all = quick ? quickRows() : fullRows({ callers, values, rates });
  return pick(all, only);
}

function quickRows() {
  return fullRows({ callers: [1, 32, 128, 512], values: [QUICK_VALUE_BYTES], rates: [] })
    .map((row) => ({ ...row, name: row.name.replace(/\/256B$/, "") }))
    .filter(({ name }) => QUICK.has(name));
}

/** Rows that share a cell stand beside each other, so that each pair is measured close together. */
function fullRows({ callers, values, rates }) {
  const rows = [];
  for (const [op, routes] of Object.entries(ROUTES)) {
    for (const valueBytes of values) {
      for (const count of callers) {
        const all = valueBytes === values[0] ? [...routes, "node"] : routes;
        rows.push(...all.map((route) => loadRow(op, route, count, valueBytes)));
      }
    }
  }
  for (const op of ["put", "get"]) for (const rate of rates) rows.push(openRow(op, rate, values[0]));
  for (const [name, title] of Object.entries(LIFE)) rows.push({ kind: "life", name, title });
  return rows;
}

function loadRow(op, route, callers, valueBytes) {
  const cell = { op, route, callers, valueBytes };
  const load = { ...cell, driver: "load" };
  const clients = { ...cell, route: "all", driver: "cairn" };
  const cells = {
    leader: { etcd: load, cairn: load },
    all: { etcd: load, cairn: load },
    client: { etcd: { ...load, route: "all" }, cairn: clients },
    node: { etcd: { ...clients, driver: "etcd3" }, cairn: clients },
  }[route];
  const title = `${OPS[op]}, ${callers} ${callers === 1 ? "caller" : "callers"}, ${bytesInWords(valueBytes)}`;
  const name = [op, route, callers, sizeInName(valueBytes)].join("/");
  return { kind: "load", name, group: ROUTE_WORDS[route], title, ...cells };
}

function openRow(op, rate, valueBytes) {
  // So many that no call waits for a caller, unless answers take seconds.
  const cell = { driver: "load", op, route: "leader", callers: 1024, valueBytes, rate };
  const title = `${OPS[op]}, ${rate} calls a second, ${bytesInWords(valueBytes)}`;
  const name = [op, "open", rate, sizeInName(valueBytes)].join("/");
  return { kind: "load", name, group: "open loop, through the leader", title, etcd: cell, cairn: cell };
}

/** Identifies a cell, so that rows can share its measurement. */
export function cellKey({ driver, op, route, callers, valueBytes, rate = 0 }) {
  return [driver, op, route, callers, valueBytes, rate].join(" ");
}
