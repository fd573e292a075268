// Cost of leases on the thread that applies, with LMDB: microseconds of CPU for each grant, put with
// a lease, keep-alive and expiry, and the longest single entry. Then the leader's part: time and
// memory of a new leader that reads all leases, and the mass expiry of all of them, with the longest
// time for which it held up the event loop. npm run build && node --expose-gc bench/leases.mjs [LEASES]:
// how many leases there are (default 1,000,000), each with one key.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { limits } from "../dist/src/base/limits.js";
import { encodeCommand } from "../dist/src/machine/kv/command.js";
import { LmdbMachine } from "../dist/src/machine/lmdb_machine.js";
import { LeaseKeeper } from "../dist/src/server/leases/lease_keeper.js";
import { systemClock } from "../dist/src/system/clock.js";

const leases = Number(process.argv[2] ?? 1_000_000);
const TTL_MS = 20_000;
const BATCH = 64;

const keyAt = (n) => Buffer.from(`lease:${String(n).padStart(12, "0")}`);
const report = (what, figure) => console.log(`${what.padEnd(58)} ${figure}`);
const micros = (cpu) => (cpu.user + cpu.system) / 1_000;

/** A leader without a log: what it proposes is applied in a later turn of the event loop. */
class Leader {
  raft = { role: "leader", term: 1, log: { termAt: () => 1 } };
  longestMs = 0;
  busyMs = 0;
  entries = 0;

  constructor(machine) {
    this.machine = machine;
  }

  async propose(data) {
    await new Promise((resolve) => setImmediate(resolve));
    return this.apply([data])[0];
  }

  apply(all) {
    const first = this.machine.appliedIndex + 1;
    const start = performance.now();
    const results = this.machine.apply(all.map((data, at) => ({ index: first + at, term: 1, type: "command", data })));
    const ms = performance.now() - start;
    this.longestMs = Math.max(this.longestMs, ms);
    this.busyMs += ms;
    this.entries += all.length;
    return results;
  }
}

function applied(leader, what, count, commandAt, batch = BATCH) {
  leader.longestMs = 0;
  let cpu = 0;
  for (let at = 0; at < count; at += batch) {
    const all = Array.from({ length: Math.min(batch, count - at) }, (_, n) => encodeCommand(commandAt(at + n)));
    const before = process.cpuUsage();
    leader.apply(all);
    cpu += micros(process.cpuUsage(before)) * 1_000;
  }
  report(what, `${(cpu / count).toFixed(1)} us each, longest batch ${leader.longestMs.toFixed(1)} ms`);
}

const directory = await mkdtemp(join(tmpdir(), "cairn-leases-"));
const machine = await LmdbMachine.open({ directory: join(directory, "state") });
try {
  const leader = new Leader(machine);
  const putOf = (n, leaseId) => ({ operation: { case: "put", value: { key: keyAt(n), value: keyAt(n), leaseId } } });
  applied(leader, "put without a lease, no lease granted", 20_000, (n) => putOf(n, 0n));
  applied(leader, "delete, no lease granted", 20_000, (n) => ({
    operation: { case: "delete", value: { key: keyAt(n) } },
  }));
  const first = machine.appliedIndex + 1;
  applied(leader, "grant", leases, () => ({ operation: { case: "leaseGrant", value: { ttlMs: TTL_MS } } }));
  applied(leader, "put of a new key with a lease", leases, (n) => putOf(n, BigInt(first + n)));
  applied(leader, "put of the same key with the same lease", 20_000, (n) => putOf(n, BigInt(first + n)));
  const keep = (from) => ({
    operation: {
      case: "leaseKeepAlive",
      value: { leaseIds: Array.from({ length: limits.keepAliveLeases }, (_, n) => BigInt(first + from + n)) },
    },
  });
  const entries = Math.min(100, Math.floor(leases / limits.keepAliveLeases));
  applied(leader, `keep-alive entry of ${limits.keepAliveLeases} leases`, entries, (n) => keep(n * 1_000), 1);

  global.gc?.();
  const before = process.memoryUsage().heapUsed;
  const delays = monitorEventLoopDelay({ resolution: 1 });
  const keeper = new LeaseKeeper(leader, systemClock);
  const start = performance.now();
  const cpu = process.cpuUsage();
  delays.enable();
  keeper.start();
  const last = { id: first + leases - 1, ttlMs: TTL_MS };
  while (keeper.remainingMs(last) === TTL_MS) await new Promise((resolve) => setTimeout(resolve, 5));
  report("a new leader has read all leases after", `${Math.round(performance.now() - start)} ms`);
  report("  CPU of that", `${Math.round(micros(process.cpuUsage(cpu)))} ms`);
  report("  event loop held up for at most", `${(delays.max / 1e6).toFixed(1)} ms`);
  global.gc?.();
  report("  memory for each lease", `${Math.round((process.memoryUsage().heapUsed - before) / leases)} bytes`);

  while (machine.leaseCount === leases) await new Promise((resolve) => setTimeout(resolve, 5));
  Object.assign(leader, { longestMs: 0, busyMs: 0, entries: 0 });
  delays.reset();
  const expiry = performance.now();
  while (machine.leaseCount > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const ms = performance.now() - expiry;
  report("all leases have expired after", `${Math.round(ms)} ms, ${leader.entries} entries`);
  report("  longest entry", `${leader.longestMs.toFixed(1)} ms`);
  report("  event loop held up for at most", `${(delays.max / 1e6).toFixed(1)} ms`);
  report("  share of the time spent in applying", `${Math.round((100 * leader.busyMs) / ms)} %`);
  keeper.stop();

  const grant = leader.apply([encodeCommand({ operation: { case: "leaseGrant", value: { ttlMs: TTL_MS } } })])[0].index;
  applied(leader, "put of a key with one lease for all", limits.leaseKeys, (n) => putOf(n, BigInt(grant)));
  leader.longestMs = 0;
  leader.apply([encodeCommand({ operation: { case: "leaseRevoke", value: { leaseId: BigInt(grant) } } })]);
  report(`revoke of a lease with ${limits.leaseKeys} keys`, `${leader.longestMs.toFixed(1)} ms`);
} finally {
  await machine.close();
  await rm(directory, { recursive: true, force: true });
}
