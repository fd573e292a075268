// Measures the life of a whole cluster: a snapshot is saved, a follower returns, and all nodes are
// killed and started again.
import { join } from "node:path";
import { Cluster } from "../../support/cluster/clusters.mjs";
import { Drivers, prefixOf } from "../../support/cluster/drivers.mjs";

export const LIFE_VALUE_BYTES = 1024;

/**
 * Returns `{ ms }` for each row that is wanted, with `bytes` for a snapshot, or `{ failed }` for one
 * that failed.
 */
export async function measureLife({ settings, sources, processes, say }, system, directory, wanted) {
  const cluster = await Cluster.start(system, processes, directory, { etcd: sources.etcd.path });
  const drivers = new Drivers(processes, cluster, sources);
  const steps = {
    snapshot: () => saveSnapshot(cluster, join(directory, "saved")),
    return: () => returnOfFollower(cluster, drivers, settings.behind),
    restart: () => restart(cluster),
  };
  const measured = {};
  try {
    const { rate } = await drivers.fill({ keys: settings.lifeKeys, valueBytes: LIFE_VALUE_BYTES });
    say(`  ${system} filled with ${settings.lifeKeys} values of 1 KiB: ${Math.round(rate)} a second`);
    for (const name of wanted) {
      measured[name] = await steps[name]().catch((error) => ({ failed: error.message }));
      const { ms, failed } = measured[name];
      say(`  ${name} ${system}${failed === undefined ? `: ${Math.round(ms)} ms` : ` failed: ${failed}`}`);
    }
    return measured;
  } finally {
    drivers.close();
    await cluster.stop();
  }
}

async function saveSnapshot(cluster, file) {
  const { connection } = await cluster.leader();
  const started = performance.now();
  const bytes = await connection.saveSnapshot(file);
  return { ms: performance.now() - started, bytes };
}

/** A follower misses `behind` writes; measured until it has applied all that is committed. */
async function returnOfFollower(cluster, drivers, behind) {
  const leader = await cluster.leader();
  const follower = cluster.nodes.find((node) => node !== leader);
  await cluster.kill(follower);
  await drivers.fill({ keys: behind, valueBytes: LIFE_VALUE_BYTES });
  const committed = await cluster.committed();
  const started = performance.now();
  cluster.startNode(follower);
  await cluster.applied(follower, committed);
  return { ms: performance.now() - started };
}

async function restart(cluster) {
  await cluster.stop();
  const started = performance.now();
  for (const node of cluster.nodes) cluster.startNode(node);
  await cluster.firstRead(`${prefixOf(LIFE_VALUE_BYTES)}00000000`);
  return { ms: performance.now() - started };
}
