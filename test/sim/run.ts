import { Violation } from "./checkers/checker.js";
import { SimCluster } from "./cluster.js";
import { heal } from "./heal.js";
import { Nemesis } from "./nemesis.js";
import { withoutRealTime } from "./real_time.js";
import { useSmallChunks } from "./small_chunks.js";
import { Trace } from "./trace.js";

export interface RunOptions {
  readonly seed: number;
  /** Voters that the cluster begins with; left out: the seed decides. */
  readonly nodes?: number | undefined;
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
export async function runSeed({ seed, nodes, print }: RunOptions): Promise<RunResult> {
  useSmallChunks();
  const trace = new Trace(print);
  const cluster = new SimCluster(seed, trace, nodes);
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
    for (const node of cluster.nodes) node.start();
    for (const client of cluster.clients) cluster.watch(client.run());
    const nemesis = new Nemesis(cluster, cluster.random.fork("nemesis"));
    nemesis.start();
    await scheduler.sleep(weather.durationMs, "the troubles are over");
    await heal(cluster, nemesis);
    scheduler.stop();
  };
  cluster.watch(story());
  await scheduler.run();
}

function countsOf({ counts, checks }: SimCluster): Record<string, number> {
  return {
    ...Object.fromEntries(counts),
    commits: checks.committed.last,
    "terms with a leader": checks.leaders.terms,
    "snapshots of different indexes": checks.snapshots.count,
    "states compared": checks.states.compared,
    "requests repeated in the log": checks.requests.repeated,
    "clients forgotten": checks.requests.forgotten,
    "requests of forgotten clients refused": checks.requests.refused,
  };
}

function describe(error: unknown, trace: Trace): RunFailure {
  const lastLines = trace.last;
  if (error instanceof Violation) return { invariant: error.invariant, text: JSON.stringify(error.facts), lastLines };
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { invariant: error instanceof Error ? error.message : "nothing else is thrown", text, lastLines };
}
