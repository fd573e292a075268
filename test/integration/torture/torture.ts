import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import { CairnClient } from "../../../src/client/client.js";
import type { ConnectionOptions } from "../../../src/client/security/connection.js";
import { type Operation, writeHistory } from "../../support/history/history.js";
import { checkLinearizable, describe } from "../../support/history/linearizability.js";
import { Random } from "../../support/random.js";
import { TortureCertificates } from "./certificates.js";
import { ChangeLedger } from "./change_ledger.js";
import { type NodeProcess, ProcessCluster } from "./cluster.js";
import { FickleStreams } from "./fickle_streams.js";
import { SharedLock, TortureHolder } from "./holder.js";
import { Nemesis } from "./nemesis.js";
import { FICKLE_CALLERS, HARNESS, TortureRoles } from "./roles.js";
import { TortureWatcher } from "./watcher.js";
import { type CallerRole, type OperationCounts, TortureClient } from "./workload.js";

const CLIENTS = 6;
/** Pause of each watcher after each event, in ms: the last one is slower than the clients, so that the history leaves it behind. */
const WATCHERS = [0, 0, 30];
const HOLDERS = 3;
/** How long leases may live on in the healed cluster when nobody keeps them, in ms. */
const LEASES_MS = 60_000;
/** How long a watcher may take until it has reported everything, in ms. */
const WATCHED_MS = 60_000;
/** How long the healed cluster may take until all members have applied the same, in ms. */
const CONVERGE_MS = 60_000;

/** Without TLS, everybody may do everything. */
const NO_ROLES = { roleChanges: 0, refusedCalls: 0, endedStreams: 0 };

const NEVER = new Promise<never>(() => {});

export interface TortureOptions {
  readonly minutes: number;
  readonly nodes: number;
  /** Decides what is done, not when exactly. */
  readonly seed: number;
  /** Where the history goes, as JSON lines. Default: nowhere, unless it is at fault. */
  readonly history?: string | undefined;
  /** Mutual TLS, with certificates that are replaced every 30 s, and an access file that is replaced every 20 s. */
  readonly tls?: boolean | undefined;
  readonly progress?: ((line: string) => void) | undefined;
}

export interface TortureReport {
  readonly operations: OperationCounts;
  readonly faults: Readonly<Record<string, number>>;
  /** The highest term that was reached: at least so many elections, those that were lost included. */
  readonly term: number;
  readonly snapshots: number;
  readonly installs: number;
  readonly appliedIndex: number;
  /** Steps of the linearizability check. */
  readonly steps: number;
  /** Indexes at which a watch has reported changes. */
  readonly watchedIndexes: number;
  /** Answered writes that a watch had to report, for all watches together. */
  readonly watchedWrites: number;
  /** How often a watch had to list the keys again. */
  readonly watchRestarts: number;
  /** How often a client took the lock, and how often it was lost while it was held. */
  readonly acquired: number;
  readonly lost: number;
  /** Writes on the condition that the lock was held, and those that were refused because it was not. */
  readonly fencedWrites: number;
  readonly refusedWrites: number;
  /** How often all certificates were replaced. */
  readonly replacements: number;
  /** How often the access file was replaced. */
  readonly roleChanges: number;
  /** Calls of callers that had lost their role, and their long streams that ended for that. */
  readonly refusedCalls: number;
  readonly endedStreams: number;
}

/**
 * Runs a cluster of real processes under load and faults, heals it, and checks that it has done nothing wrong: the history is linearizable, all
 * members come to the same state, byte for byte, and watches have reported every change, once and in order, and no lock has had two holders.
 * @throws Error with the seed, what is wrong, and where data and history are kept
 */
export async function runTorture(options: TortureOptions): Promise<TortureReport> {
  const directory = await mkdtemp(join(tmpdir(), "cairn-torture-"));
  const run = new TortureRun(options, directory);
  try {
    const report = await run.toItsEnd();
    await rm(directory, { recursive: true, force: true });
    return report;
  } catch (error) {
    await mkdir(directory, { recursive: true });
    const kept = options.history ?? join(directory, "history.jsonl");
    await writeHistory(kept, run.history);
    const text = `torture failed (seed ${options.seed}; data in ${directory}, history in ${kept}): ${(error as Error).message}`;
    throw new Error(text, { cause: error });
  }
}

class TortureRun {
  readonly history: Operation[] = [];
  readonly #counts: OperationCounts = { ok: 0, unknown: 0, failed: 0 };
  readonly #ledger = new ChangeLedger();
  #connection: ConnectionOptions = {};

  constructor(
    private readonly options: TortureOptions,
    private readonly directory: string,
  ) {}

  async toItsEnd(): Promise<TortureReport> {
    const { minutes, nodes, seed, progress = () => {} } = this.options;
    const args = ["--snapshot-entries", "200", "--trailing-log-bytes", "0", "--segment-bytes", `${5 * 1024 * 1024}`];
    const random = new Random(seed);
    const security = this.options.tls ? await this.#security(new Random(seed + 2)) : undefined;
    const { certificates, roles } = security ?? {};
    const connectionOf = async (name: string) => (await roles?.connectionOf(name)) ?? {};
    this.#connection = (await certificates?.client(HARNESS)) ?? {};
    if (roles !== undefined) args.push("--access", roles.file);
    const connection = this.#connection;
    const cluster = await ProcessCluster.start({ directory: this.directory, nodes, args, certificates, connection });
    try {
      const endpoints = cluster.endpoints;
      const clients: TortureClient[] = [];
      for (let at = 0; at < CLIENTS; at++) {
        clients.push(this.#client(`c${at}`, endpoints, random, await connectionOf(`c${at}`)));
      }
      const asWatchers = await connectionOf("watchers");
      const watchers = WATCHERS.map(
        (pauseMs, at) => new TortureWatcher(`w${at}`, endpoints, this.#ledger, { pauseMs }, asWatchers),
      );
      const lock = new SharedLock();
      const asHolders = await connectionOf("holders");
      const holders = Array.from(
        { length: HOLDERS },
        () => new TortureHolder(endpoints, new Random(random.whole(0, 2 ** 31)), lock, asHolders),
      );
      const streams: FickleStreams[] = [];
      for (const name of roles === undefined ? [] : FICKLE_CALLERS) {
        const own = await connectionOf(name);
        clients.push(this.#client(name, endpoints, random, own, roleOf(name, roles!)));
        streams.push(new FickleStreams(name, cluster, roles!, own, new Random(random.whole(0, 2 ** 31))));
      }
      const nemesis = new Nemesis(cluster, new Random(seed + 1), progress);
      certificates?.replaceAgainAndAgain(progress);
      roles?.replaceAgainAndAgain(cluster, progress);
      const end = performance.now() + minutes * 60_000;
      const unexpected = Promise.race([
        nemesis.done,
        ...[...clients, ...watchers, ...holders, ...streams].map(({ done }) => done),
      ]);
      while (performance.now() < end) {
        await Promise.race([
          unexpected,
          certificates?.failed ?? NEVER,
          roles?.failed ?? NEVER,
          pause(Math.min(10_000, Math.max(0, end - performance.now()))),
        ]);
        progress(`operations: ${JSON.stringify(this.#counts)}`);
      }
      await Promise.all([certificates?.stop(), roles?.stop()]);
      await nemesis.stop();
      await Promise.all([...clients, ...holders, ...streams].map((client) => client.stop()));
      await this.#checkLeasesEnd(endpoints);
      const facts = await this.#checkConverged(cluster);
      await this.#checkWatchers(watchers, facts.appliedIndex, endpoints);
      if (this.options.history !== undefined) await writeHistory(this.options.history, this.history);
      const steps = this.#checkHistory();
      const sum = (of: "checked" | "restarts") => watchers.reduce((total, { counts }) => total + counts[of], 0);
      const watched = {
        watchedIndexes: this.#ledger.size,
        watchedWrites: sum("checked"),
        watchRestarts: sum("restarts"),
      };
      const replacements = certificates?.replacements ?? 0;
      const counts = { ...watched, ...lock.counts, replacements, ...(roles?.counts ?? NO_ROLES) };
      return { operations: this.#counts, faults: nemesis.counts, ...facts, steps, ...counts };
    } finally {
      await Promise.all([certificates?.stop(), roles?.stop()]);
      await cluster.stop();
    }
  }

  async #security(random: Random): Promise<{ certificates: TortureCertificates; roles: TortureRoles }> {
    const certificates = await TortureCertificates.create(this.directory);
    const roles = await TortureRoles.create(join(this.directory, "access.json"), certificates, random);
    return { certificates, roles };
  }

  #client(
    name: string,
    endpoints: readonly string[],
    random: Random,
    connection: ConnectionOptions,
    role?: CallerRole,
  ): TortureClient {
    const own = new Random(random.whole(0, 2 ** 31));
    const record = (operation: Operation) => this.history.push(operation);
    const answered = (index: number, key: string, value: string) => this.#ledger.answered(index, key, value);
    return new TortureClient(name, endpoints, own, record, answered, this.#counts, connection, role);
  }

  /** Leases that nobody keeps end by themselves. */
  async #checkLeasesEnd(endpoints: readonly string[]) {
    await using client = new CairnClient({ ...this.#connection, endpoints });
    const end = performance.now() + LEASES_MS;
    for (;;) {
      const leases = await client.leases.list();
      if (leases.length === 0) return;
      if (performance.now() > end) {
        throw new Error(`leases that nobody keeps live on after ${LEASES_MS} ms: ${JSON.stringify(leases)}`);
      }
      await pause(100);
    }
  }

  /** Each watch has reported everything, and its copy is the state. */
  async #checkWatchers(watchers: readonly TortureWatcher[], index: number, endpoints: readonly string[]) {
    await using client = new CairnClient({ ...this.#connection, endpoints });
    const state = new Map<string, string>();
    for await (const entry of client.range()) state.set(entry.key, entry.text());
    for (const watcher of watchers) {
      const isLate = pause(WATCHED_MS, true, { ref: false });
      if (await Promise.race([isLate, watcher.reaches(index)])) {
        throw new Error(`the watch ${watcher.name} did not reach index ${index} in ${WATCHED_MS} ms`);
      }
      await watcher.stop();
      const differs = [...new Set([...state.keys(), ...watcher.copy.keys()])].find(
        (key) => state.get(key) !== watcher.copy.get(key),
      );
      if (differs === undefined) continue;
      throw new Error(
        `${differs} is ${state.get(differs)}, and ${watcher.copy.get(differs)} by the watch ${watcher.name}`,
      );
    }
  }

  #checkHistory(): number {
    const verdict = checkLinearizable(this.history);
    if (verdict.outcome !== "ok") throw new Error(describe(verdict));
    return verdict.steps;
  }

  /** All members apply the same, and snapshots of that are the same bytes. */
  async #checkConverged(cluster: ProcessCluster) {
    const index = await converge(cluster);
    const digests = new Map<string, string[]>();
    for (const node of cluster.nodes) {
      const admin = node.channel.client(AdminService);
      await admin.takeSnapshot({});
      const { snapshots } = await admin.listSnapshots({});
      const newest = snapshots.find((snapshot) => snapshot.index === index);
      const digest = newest === undefined ? "none" : Buffer.from(newest.sha256).toString("hex");
      digests.set(digest, [...(digests.get(digest) ?? []), node.id]);
    }
    if (digests.size !== 1 || digests.has("none")) {
      throw new Error(`the states at index ${index} differ: ${JSON.stringify([...digests])}`);
    }
    const statuses = await Promise.all(cluster.nodes.map((node) => node.status()));
    const counts = cluster.nodes.map((node) => node.counts);
    return {
      term: Math.max(...statuses.map((status) => Number(status?.term ?? 0n))),
      appliedIndex: Number(index),
      installs: counts.reduce((sum, { installs }) => sum + installs, 0),
      snapshots: counts.reduce((sum, { snapshots }) => sum + snapshots, 0),
    };
  }
}

function roleOf(name: string, roles: TortureRoles): CallerRole {
  return {
    verdict: (need, from, to) => roles.verdict(name, need, from, to),
    refused: () => roles.counts.refusedCalls++,
  };
}

/** Waits until all have applied all that is committed; returns that index. */
async function converge(cluster: ProcessCluster): Promise<bigint> {
  const end = performance.now() + CONVERGE_MS;
  for (;;) {
    const leader = await cluster.leader();
    const target = (await leader?.status())?.commitIndex;
    const applied = await Promise.all(cluster.nodes.map(appliedBy));
    if (target !== undefined && applied.every((index) => index === target)) return target;
    if (performance.now() > end) {
      const facts = cluster.nodes.map(({ id }, at) => `${id}: ${applied[at]}`).join(", ");
      throw new Error(
        `the members did not come to the same index in ${CONVERGE_MS} ms: leader ${leader?.id} at ${target}, ${facts}`,
      );
    }
    await pause(100);
  }
}

async function appliedBy(node: NodeProcess): Promise<bigint | undefined> {
  return (await node.status())?.appliedIndex;
}

export function tortureTable(report: TortureReport): string {
  const { operations, faults, ...rest } = report;
  const rows = { ...rest, ...operations, ...faults };
  return Object.entries(rows)
    .map(([name, value]) => `${name.padEnd(40)}${String(value).padStart(12)}`)
    .join("\n");
}
