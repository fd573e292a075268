// Measures one row of the table of keys: a cluster is filled, driven, takes a snapshot, and gets a
// killed follower back.
import { diskOf, measureLoad, memoryOf, rolesOf, withCluster } from "./nodes.mjs";

const VALUE_BYTES = 100;
const CALLERS = 128;
/** The fill is measured in this many parts, to show how the rate changes. */
const PARTS = 10;
/** Writes that the follower misses, so that it has something to catch up. */
const MISSED = 1_000;

export function measureKeys(context, { keys }) {
  const { settings, say } = context;
  const times = { keys, seconds: settings.seconds, warm: settings.warm };
  return withCluster(context, 3, async (side) => {
    const { cluster, drivers } = side;
    const client = (op) => ({ driver: "cairn", op, route: "all", callers: CALLERS, valueBytes: VALUE_BYTES });
    const fill = await fillInParts(side, client("fill"), keys, say);
    const put = await measureLoad(side, client("put"), times);
    const get = await measureLoad(side, client("get"), times);
    say(`    ${Math.round(put.rate)} puts/s, ${Math.round(get.rate)} gets/s over random keys`);
    await cluster.inSync();
    const { leader, followers } = await rolesOf(cluster);
    say(`    MiB on the leader's disk: ${diskInWords(diskOf(leader))}`);
    const memory = { leader: await memoryOf(leader), followers: await Promise.all(followers.map(memoryOf)) };
    const snapshot = await takeSnapshot(leader);
    say(`    a snapshot takes ${(snapshot.ms / 1000).toFixed(1)} s`);
    // With the snapshot, which replaces older ones.
    const disk = diskOf(leader);
    const restart = await restartFollower({ cluster, drivers }, followers[0], client("fill"));
    say(`    a killed follower is back after ${(restart.ms / 1000).toFixed(1)} s`);
    return { fill, put, get, memory, snapshot, disk, restart };
  });
}

async function fillInParts({ cluster, drivers }, load, keys, say) {
  const parts = [];
  let errors = 0;
  let firstError;
  const started = performance.now();
  for (let part = 0; part < PARTS; part++) {
    const [first, end] = [part, part + 1].map((at) => Math.round((keys * at) / PARTS));
    if (first === end) continue;
    const result = await drivers.run(load, { first, keys: end, seconds: 1, warm: 0 });
    errors += result.errors;
    firstError ??= result.firstError;
    const { leader, followers } = await rolesOf(cluster);
    const memory = await Promise.all([leader, ...followers].map(memoryOf));
    parts.push({ keys: end, rate: (end - first) / result.elapsed, p50: result.p50, p99: result.p99, memory });
    const inWords = memory.map(({ anonymousBytes, fileBytes }) => `${mebi(anonymousBytes)} + ${mebi(fileBytes)}`);
    say(`    ${end} keys: ${Math.round(parts.at(-1).rate)}/s; anonymous + file-backed MiB: ${inWords.join(", ")}`);
  }
  const seconds = (performance.now() - started) / 1000;
  await cluster.inSync();
  return { seconds, rate: keys / seconds, errors, firstError, parts };
}

async function takeSnapshot(node) {
  const started = performance.now();
  await node.connection.takeSnapshot();
  return { ms: performance.now() - started };
}

/** Measured from the start of the process until it has applied all that is committed. */
async function restartFollower({ cluster, drivers }, follower, load) {
  await cluster.kill(follower);
  await drivers.run(load, { keys: MISSED, seconds: 1, warm: 0 });
  const committed = await cluster.committed();
  const started = performance.now();
  cluster.startNode(follower);
  await cluster.applied(follower, 0);
  const answersMs = performance.now() - started;
  await cluster.applied(follower, committed);
  return { ms: performance.now() - started, answersMs, ...(await memoryOf(follower)) };
}

function diskInWords({ state, log, snapshots }) {
  return `state ${mebi(state)}, log ${mebi(log)}, snapshots ${mebi(snapshots)}`;
}

function mebi(bytes) {
  return Math.round(bytes / 2 ** 20);
}
