import { Violation } from "../checks/checkers/checker.js";
import type { ClusterChecks } from "../checks/checks.js";
import { heal } from "../checks/heal.js";
import { Nemesis } from "../faults/nemesis.js";
import type { Wishes } from "../faults/weather.js";
import { SimCluster } from "../world/cluster.js";
import { withoutRealTime } from "./real_time.js";
import { Trace } from "./trace.js";

/** What is left out of the wishes, the seed decides. */
export interface RunOptions extends Wishes {
  readonly seed: number;
  /** The run ends with this event if nothing fails before. Left out: it ends when its story does. */
  readonly mostEvents?: number | undefined;
  /** Is given every line of the trace. */
  readonly print?: ((line: string) => void) | undefined;
}

export interface RunResult {
  readonly seed: number;
  /** Of the whole trace. */
  readonly hash: string;
  readonly events: number;
  readonly simulatedMs: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly failure?: RunFailure;
}

export interface RunFailure {
  readonly invariant: string;
  readonly text: string;
  /** Of the trace. */
  readonly lastLines: readonly string[];
}

/** One seed, from the start of a cluster to its end. */
export async function runSeed({ seed, mostEvents, print, ...wishes }: RunOptions): Promise<RunResult> {
  const trace = new Trace((line) => {
    print?.(line);
    if (trace.count === mostEvents) cluster.scheduler.stop();
  });
  const cluster = new SimCluster(seed, trace, wishes);
  const onRejection = (error: unknown) => cluster.checks.fail(error);
  process.on("unhandledRejection", onRejection);
  process.on("uncaughtException", onRejection);
  let failure: RunFailure | undefined;
  try {
    await withoutRealTime(() => live(cluster));
  } catch (error) {
    failure = describe(error, trace);
  } finally {
    process.off("unhandledRejection", onRejection);
    process.off("uncaughtException", onRejection);
  }
  return {
    seed,
    hash: trace.hash,
    events: trace.count,
    simulatedMs: cluster.scheduler.nowMs,
    counts: countsOf(cluster),
    ...(failure !== undefined && { failure }),
  };
}

async function live(cluster: SimCluster): Promise<void> {
  const { scheduler, weather } = cluster;
  const story = async () => {
    cluster.note(`weather: ${JSON.stringify(weather)}`);
    startAll(cluster);
    for (const client of [...cluster.clients, ...cluster.leaseClients]) cluster.watch(client.run());
    const nemesis = new Nemesis(cluster, cluster.random.fork("nemesis"));
    nemesis.start();
    await scheduler.sleep(weather.durationMs, "the troubles are over");
    await heal(cluster, nemesis);
    scheduler.stop();
  };
  cluster.watch(story());
  await scheduler.run();
}

/** Founders come one after the other, and one may not come for a long while. */
function startAll({ nodes, weather, random, scheduler }: SimCluster): void {
  const { trust } = weather;
  const own = random.fork("first starts");
  const late = trust?.absentMs === undefined ? undefined : own.pick(nodes);
  for (const node of nodes) {
    const ms = trust === undefined ? 0 : own.between(0, trust.firstStartsMs) + (node === late ? trust.absentMs! : 0);
    if (ms === 0) node.start();
    else scheduler.after(ms, undefined, `the first start of ${node.id}`, () => node.start());
  }
}

function countsOf({ counts, checks }: SimCluster): Record<string, number> {
  const sum = (count: (each: ClusterChecks) => number) => checks.clusters.reduce((all, each) => all + count(each), 0);
  return {
    ...Object.fromEntries(counts),
    commits: sum(({ committed }) => committed.last),
    "terms with a leader": sum(({ leaders }) => leaders.terms),
    "snapshots of different indexes": sum(({ snapshots }) => snapshots.count),
    "steps of stores compared": sum(({ storeFiles }) => storeFiles.compared),
    "states compared": sum(({ states }) => states.compared),
    "requests repeated in the log": sum(({ requests }) => requests.repeated),
    "leases expired": sum(({ requests }) => requests.expired),
    "clients forgotten": sum(({ requests }) => requests.forgotten),
    "requests of forgotten clients refused": sum(({ requests }) => requests.refused),
  };
}

function describe(error: unknown, trace: Trace): RunFailure {
  const lastLines = trace.last;
  if (error instanceof Violation) return { invariant: error.invariant, text: JSON.stringify(error.facts), lastLines };
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { invariant: error instanceof Error ? error.message : "nothing else is thrown", text, lastLines };
}
