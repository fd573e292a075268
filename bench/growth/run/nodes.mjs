// Starts clusters for the tables of growth, and reads what their nodes take: CPU, network, memory
// and disk, of the leader and of the followers.
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Cluster } from "../../support/cluster/clusters.mjs";
import { Drivers } from "../../support/cluster/drivers.mjs";

/** Bound on everything that a cluster is waited for: a restart reads the whole state. */
const PATIENCE_MS = 1_800_000;
/** Size of the blocks in which the kernel counts a file's space. */
const BLOCK_BYTES = 512;

/** Starts a cluster, does something with it, and ends it. */
export async function withCluster({ processes, sources, settings }, members, action) {
  const directory = processes.directory(settings.data, "cairn-growth-");
  try {
    const cluster = await Cluster.start("cairn", processes, directory, {
      members,
      patienceMs: PATIENCE_MS,
      probed: true,
    });
    const drivers = new Drivers(processes, cluster, sources);
    try {
      return await action({ cluster, drivers });
    } finally {
      drivers.close();
      await cluster.stop();
    }
  } finally {
    processes.remove(directory);
  }
}

/** Returns the leader and its followers. */
export async function rolesOf(cluster) {
  const leader = await cluster.leader();
  return { leader, followers: cluster.nodes.filter((node) => node !== leader) };
}

/**
 * Makes the calls of a load. Returns the driver's figures, and for each call the CPU time, the
 * bytes sent and the bytes written to disk by the leader, and by a follower on average.
 */
export async function measureLoad({ cluster, drivers }, load, times) {
  const { leader, followers } = await rolesOf(cluster);
  const before = new Map(await Promise.all(cluster.nodes.map(async (node) => [node, await takenBy(node)])));
  const result = await drivers.run(load, times);
  cluster.checkWhole();
  const after = new Map(await Promise.all(cluster.nodes.map(async (node) => [node, await takenBy(node)])));
  const each = (nodes, what) => {
    const spent = nodes.reduce((sum, node) => sum + after.get(node)[what] - before.get(node)[what], 0);
    return nodes.length === 0 ? Number.NaN : spent / nodes.length / result.calls;
  };
  return {
    ...result,
    leaderMicros: each([leader], "cpuSeconds") * 1e6,
    followerMicros: each(followers, "cpuSeconds") * 1e6,
    leaderSent: each([leader], "sent"),
    followerSent: each(followers, "sent"),
    leaderWritten: each([leader], "writtenBytes"),
    followerWritten: each(followers, "writtenBytes"),
    leaderMoved: (await cluster.leader()) === leader ? 0 : 1,
  };
}

async function takenBy(node) {
  const { sent } = await node.process.ask("counts");
  const { cpuSeconds, writtenBytes } = node.usage.read();
  return { cpuSeconds, writtenBytes, sent };
}

/** Memory of a node: its peaks so far, its present, and its present heap. */
export async function memoryOf(node) {
  const { anonymousBytes, fileBytes } = node.usage.read();
  const { memory } = await node.process.ask("counts");
  return { anonymousPeak: anonymousBytes, filePeak: fileBytes, ...node.usage.now(), heap: memory };
}

/** Space that a node takes on disk, by kind. */
export function diskOf(node) {
  const state = spaceOf(join(node.data, "state"));
  const log = spaceOf(join(node.data, "wal"));
  const snapshots = spaceOf(join(node.data, "snapshots"));
  return { state, log, snapshots, all: spaceOf(node.data) };
}

/** Space of a file, or of all files of a directory. A file that goes away meanwhile has none. */
function spaceOf(path) {
  const found = unlessGone(() => lstatSync(path));
  if (found === undefined) return 0;
  if (!found.isDirectory()) return found.blocks * BLOCK_BYTES;
  const names = unlessGone(() => readdirSync(path)) ?? [];
  return names.reduce((sum, name) => sum + spaceOf(join(path, name)), 0);
}

function unlessGone(look) {
  try {
    return look();
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
    return undefined;
  }
}
