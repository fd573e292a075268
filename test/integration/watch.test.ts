import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { CairnClient, type KeyWatch, op, type TxnStep, type WatchEvent } from "../../src/client.js";
import { failure } from "../support/conditions.js";
import { type ClusterProcess, ProcessCluster } from "../support/processes/process_cluster.js";
import { Random } from "../support/random.js";

vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

const IDS = ["n1", "n2", "n3"];
const PREFIX = { prefix: "k/" };
/** The key whose change is the last one. */
const END = "k/end";

let directory: string;
let cluster: ProcessCluster;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "cairn-watch-"));
  const settings = ["--tick-ms", "50", "--snapshot-entries", "off", "--trailing-log-bytes", "0", "--log-level", "info"];
  cluster = await ProcessCluster.start(directory, IDS, settings);
  await cluster.settled();
});

afterAll(async () => {
  await cluster?.close();
  await rm(directory, { recursive: true, force: true });
});

/** A client that asks this node first. */
function clientAt(first: string): CairnClient {
  const ids = [first, ...IDS.filter((id) => id !== first)];
  const endpoints = ids.map((id) => cluster.get(id).address);
  return new CairnClient({ endpoints, random: () => 0, timeoutMs: 60_000 });
}

/** Writers whose every change is known: by index, and in words. */
class Writers {
  readonly changes = new Map<number, readonly string[]>();
  #isOver = false;

  constructor(private readonly client: CairnClient) {}

  async run(seed: number): Promise<void> {
    const random = new Random(seed);
    const key = () => `k/${random.whole(0, 40)}`;
    for (let count = 0; !this.#isOver; count++) {
      const value = `${seed}-${count}`;
      const steps: TxnStep[] = [random.whole(0, 3) === 0 ? op.delete(key()) : op.put(key(), value)];
      if (random.whole(0, 3) === 0) steps.push(op.put(`k/pair-${seed}`, value), op.put("not watched", value));
      await this.carryOut(steps);
      await pause(5);
    }
  }

  async carryOut(steps: readonly TxnStep[]): Promise<void> {
    const { version, results } = await this.client
      .txn()
      .then(...steps)
      .commit();
    const changes = steps.flatMap((step, at) => {
      const result = results[at]!;
      if (step.type === "put") return `put ${step.key} ${step.value}`;
      return step.type === "delete" && result.type === "delete" && result.deleted ? `delete ${step.key}` : [];
    });
    const watched = changes.filter((change) => change.includes(" k/"));
    if (watched.length > 0) this.changes.set(version, watched.sort());
  }

  /** Waits until so many more writes were made. */
  async more(count: number): Promise<void> {
    const wanted = this.changes.size + count;
    await cluster.until(`${count} more writes are made`, async () => this.changes.size >= wanted || undefined);
  }

  end(): void {
    this.#isOver = true;
  }
}

/** Reads a watch until the last change. */
async function readToEnd(watch: KeyWatch, events: WatchEvent[]): Promise<WatchEvent[]> {
  for await (const event of watch) {
    events.push(event);
    if ("key" in event && event.key === END) break;
  }
  return events;
}

/** The changes that a watch has reported: by index in the order in which they came, each index once. */
function changesIn(events: readonly WatchEvent[]): [number, string[]][] {
  const all: [number, string[]][] = [];
  for (const event of events) {
    if (event.type !== "put" && event.type !== "delete") continue;
    const words = event.type === "put" ? `put ${event.key} ${event.value.text()}` : `delete ${event.key}`;
    const last = all.at(-1);
    if (last?.[0] === event.index) last[1].push(words);
    else all.push([event.index, [words]]);
  }
  return all.map(([index, words]) => [index, words.sort()]);
}

/** The keys as a reader of these events knows them. */
function stateOf(events: readonly WatchEvent[]): Map<string, string> {
  let state = new Map<string, string>();
  for (const event of events) {
    if (event.type === "restarted") state = new Map();
    if (event.type === "put" || event.type === "existing") state.set(event.key, event.value.text());
    if (event.type === "delete") state.delete(event.key);
  }
  return state;
}

/** Takes two snapshots of a node, so that its log begins behind the first. */
async function trimLog(node: ClusterProcess, writers: Writers): Promise<void> {
  for (let snapshots = 0; snapshots < 2; snapshots++) {
    await node.admin.takeSnapshot({});
    await writers.more(20);
  }
}

async function installed(id: string): Promise<void> {
  const { node } = cluster.get(id);
  await cluster.until(
    `${id} has installed a snapshot`,
    async () => /installed a snapshot/.test(node.output()) || undefined,
  );
}

test("watches report each change once and in order while leaders, followers and their own nodes are killed, restarted and replaced by snapshots", async () => {
  await using writer = clientAt("n1");
  const writers = new Writers(writer);
  const clients = IDS.map(clientAt);
  const watches = clients.map((client) => client.watch(PREFIX, { from: 1 }));
  await Promise.all(watches.map((watch) => watch.ready()));
  const reads = Promise.all(watches.map((watch) => readToEnd(watch, [])));
  const running = Promise.all([1, 2, 3, 4].map((seed) => writers.run(seed)));

  // The leader dies, and with it the node of a watch.
  await writers.more(100);
  const { id: leader } = await cluster.leader();
  await cluster.kill(leader);
  await writers.more(100);
  await cluster.startFounder(leader);

  // A follower dies, another watch's node, and comes back by snapshot.
  const { id } = (await cluster.followers())[0]!;
  await cluster.kill(id);
  await writers.more(100);
  for (const node of cluster.running.values()) await trimLog(node, writers);
  await cluster.startFounder(id);
  await installed(id);

  // It dies under watches that know no other node, and comes back by snapshot: they have missed changes.
  const single = new CairnClient({ endpoints: [cluster.get(id).address], timeoutMs: 60_000 });
  const listing = single.watch(PREFIX, { initial: true });
  const cutOff = single.watch(PREFIX);
  const listed: WatchEvent[] = [];
  const listedRead = readToEnd(listing, listed);
  await cutOff.ready();
  const cutOffRead = readToEnd(cutOff, []);
  cutOffRead.catch(() => {});
  await listing.ready();
  await cluster.kill(id);
  await writers.more(100);
  const { id: leads } = await cluster.leader();
  for (const node of cluster.running.values()) await trimLog(node, writers);
  await cluster.startFounder(id);
  await installed(id);
  const { oldestIndex = 0 } = await failure("OUT_OF_RANGE", cutOffRead);
  expect(oldestIndex).toBeGreaterThan(Number(cutOff.token?.split(":")[1]));
  const resumed = readToEnd(single.watch(PREFIX, { from: oldestIndex }), []);

  // Every node is restarted, as for an upgrade.
  for (const each of [leads, ...IDS.filter((other) => other !== leads)]) {
    await cluster.kill(each, "SIGTERM");
    await writers.more(50);
    await cluster.startFounder(each);
    await caughtUp(each);
  }
  writers.end();
  await running;
  await writers.carryOut([op.put(END, "end")]);

  const all = await reads;
  const expected = [...writers.changes].sort(([a], [b]) => a - b);
  const state = await cluster.readAll("k/");
  for (const events of all) {
    expect(changesIn(events)).toEqual(expected);
    expect(stateOf(events)).toEqual(state);
  }
  await listedRead;
  expect(listed.filter(({ type }) => type === "restarted")).toHaveLength(1);
  expect(stateOf(listed)).toEqual(state);
  expect(changesIn(await resumed)).toEqual(expected.filter(([index]) => index >= oldestIndex));
  for (const client of [single, ...clients]) await client.close();
});

/** Waits until a node has applied all that is committed now. */
async function caughtUp(id: string): Promise<void> {
  const target = await cluster.withLeader(async ({ admin }) => (await admin.getStatus({})).commitIndex);
  await cluster.until(`${id} has applied ${target}`, async () => {
    const status = (await cluster.statuses()).find(({ nodeId }) => nodeId === id);
    return (status !== undefined && status.appliedIndex >= target) || undefined;
  });
}
