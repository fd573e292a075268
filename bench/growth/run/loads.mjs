// Measures the tables of members and of values: the same loads on clusters of different sizes, and
// with values of different sizes.
import { callersFor, keysFor, loadsOf } from "../rows.mjs";
import { measureLoad, memoryOf, rolesOf, withCluster } from "./nodes.mjs";

const VALUE_BYTES = 256;
const MEMBERS = 3;

/** Measures one row once: the figures of each load, and the memory of the nodes after all of them. */
export function measureLoads(context, { members = MEMBERS, valueBytes = VALUE_BYTES }) {
  const { settings, limits, unary, say } = context;
  const keys = keysFor(valueBytes);
  const callers = callersFor(valueBytes, limits);
  return withCluster(context, members, async (side) => {
    await side.drivers.fill({ keys, valueBytes, callers, driver: "cairn" });
    const loads = [];
    for (const load of loadsOf(unary, valueBytes, callers)) {
      const figures = await measureLoad(side, load, { seconds: settings.seconds, warm: settings.warm, keys });
      loads.push({ ...load, ...figures });
      const { rate, p50, p99, errors } = figures;
      const remarks = errors > 0 ? `, ${errors} errors` : "";
      say(`    ${load.work}: ${Math.round(rate)}/s, p50 ${p50.toFixed(2)}, p99 ${p99.toFixed(2)} ms${remarks}`);
    }
    const { leader, followers } = await rolesOf(side.cluster);
    const memory = {
      leader: await memoryOf(leader),
      followers: await Promise.all(followers.map(memoryOf)),
    };
    return { keys, loads, memory };
  });
}
