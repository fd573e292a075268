import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { AdminService, NodeRole } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { MemberRole } from "../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../src/base/errors.js";
import { type ClusterProcess, ProcessCluster } from "../support/processes/process_cluster.js";
import { ProcessCluster as LinkedCluster } from "./torture/cluster.js";

// Bounds for a machine that does much else: each test starts several processes.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

const QUICK = ["--tick-ms", "30"];

let directory: string;
let closing: (() => Promise<void>)[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cairn-founding-"));
  closing = [];
});
afterEach(async () => {
  for (const close of closing) await close();
  await rm(directory, { recursive: true, force: true });
});

async function threeNodes(): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], QUICK);
  closing.push(() => cluster.close());
  await cluster.leader();
  return cluster;
}

function pairs(name: string, count: number): Map<string, string> {
  return new Map(Array.from({ length: count }, (_, at) => [`${name}-${at}`, `value ${at}`]));
}

function sorted(map: ReadonlyMap<string, string>): [string, string][] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Waits until a node says why it waits, in words that match. */
async function waits(cluster: ProcessCluster, id: string, reason: RegExp): Promise<void> {
  await cluster.get(id).node.command.waitFor(new RegExp(`node ${id} waits, for \\d+ s now: .*${reason.source}`));
}

async function clusterIds(cluster: ProcessCluster): Promise<Set<string>> {
  return new Set((await cluster.statuses()).map(({ clusterId }) => clusterId));
}

test("a wiped founder and one that was down found no second cluster while the only member that knows of theirs is paused (T1)", async () => {
  const cluster = await threeNodes();
  const { clusterId } = await (await cluster.leader()).admin.getStatus({});
  // n3 is to know its cluster: before the first entry has arrived it only promised to take part.
  await cluster.settled();
  await cluster.kill("n3");
  const written = pairs("kept", 20);
  await cluster.put(written);
  await cluster.kill("n2");
  await cluster.wipe("n2");
  process.kill(cluster.get("n1").node.pid, "SIGSTOP");
  const two = await cluster.startFounder("n2");
  const three = await cluster.startFounder("n3");
  // n3 knows the cluster, so n2 turns to it; the two together are no majority of it.
  await waits(cluster, "n2", /n3 belongs to cluster [0-9a-f]{32}; waiting for its leader/);
  for (const { admin } of [two, three]) expect((await admin.getStatus({})).clusterId).toBe(clusterId);
  await takeNoWrites([two, three], 2_000);
  process.kill(cluster.get("n1").node.pid, "SIGCONT");
  await two.node.event("promoted");
  expect(sorted(await cluster.readAll("kept"))).toEqual(sorted(written));
  expect(await clusterIds(cluster)).toEqual(new Set([clusterId]));
});

test.each([
  ["n1", ["n2", "n3"]],
  ["n3", ["n1", "n2"]],
])(
  "a cluster that lost two of three disks founds no second one from the same list, and %s keeps its data (T2)",
  async (left, wiped) => {
    const cluster = await threeNodes();
    const { clusterId, incarnation } = await cluster.get(left).admin.getStatus({});
    const written = pairs("kept", 20);
    await cluster.put(written);
    await cluster.settled();
    await Promise.all(["n1", "n2", "n3"].map((id) => cluster.kill(id, "SIGTERM")));
    for (const id of wiped) await cluster.wipe(id);
    const before = await readFile(join(cluster.dataOf(left), "cairn.json"), "utf8");
    await Promise.all(wiped.map((id) => cluster.startFounder(id)));
    // The one that is not there may know of a cluster, and does.
    for (const id of wiped) {
      await waits(
        cluster,
        id,
        wiped.includes("n1") ? new RegExp(`${left} \\(no answer\\)`) : /n1 founds the cluster; waiting for n1/,
      );
    }
    expect(await clusterIds(cluster)).not.toContain(clusterId);
    await cluster.startFounder(left);
    for (const id of wiped)
      await waits(cluster, id, new RegExp(`${left} belongs to cluster ${clusterId}; waiting for its leader`));
    expect(await clusterIds(cluster)).toEqual(new Set([clusterId]));
    await takeNoWrites([...cluster.running.values()], 1_000);
    const { admin, kv, data } = cluster.get(left);
    expect((await admin.getStatus({})).incarnation).toEqual(incarnation);
    expect(await readFile(join(data, "cairn.json"), "utf8")).toBe(before);
    expect((await readdir(data)).filter((name) => name.startsWith("lost-"))).toEqual([]);
    for (const [key, value] of written) {
      const { kv: found } = await kv.get({ key: Buffer.from(key), stale: true });
      expect(Buffer.from(found!.value).toString()).toBe(value);
    }
  },
);

test("the founders found one cluster, and none of them calls itself a learner; one that was removed and wiped comes back with --join as a learner, and votes in no second founding (T1)", async () => {
  const cluster = await threeNodes();
  await expectFounded(cluster);
  await cluster.put(pairs("a", 10));
  const removed = (await cluster.followers())[0]!.id;
  await cluster.kill(removed);
  await cluster.withLeader(({ admin }) => admin.removeMember({ nodeId: removed }));
  await cluster.wipe(removed);
  const endpoints = [...cluster.running.values()].map(({ address }) => address);
  const { node, admin } = await cluster.startJoining(removed, endpoints);
  await node.event("joined");
  expect(await cluster.roles()).toContain(`${removed} LEARNER`);
  // The last two: with neither a majority of the founders' list nor one of the members can be made of the learner.
  const [other] = [...cluster.running.keys()].filter((id) => id !== removed);
  await cluster.settled();
  await cluster.kill(other!);
  const statusOf = () => admin.getStatus({});
  const left = [...cluster.running.values()].find(({ id }) => id !== removed)!;
  await cluster.until("nobody leads", async () => {
    const { leaderId } = await left.admin.getStatus({});
    return leaderId === "" ? true : undefined;
  });
  const { term } = await statusOf();
  expect(await codeOf(admin.campaign({}))).not.toBe("none");
  expect(await statusOf()).toMatchObject({ term, role: NodeRole.FOLLOWER });
  await cluster.startFounder(other!);
  await cluster.put(pairs("b", 10));
  await cluster.settled();
  expect(await cluster.roles()).toContain(`${removed} LEARNER`);
});

/** All are voters of the one cluster that n1 founded. */
async function expectFounded(cluster: ProcessCluster): Promise<void> {
  await cluster.put(pairs("a", 5));
  await cluster.settled();
  const { clusterId, membership } = await (await cluster.leader()).admin.getStatus({});
  expect(membership!.members.map(({ id, role }) => `${id} ${MemberRole[role]}`)).toEqual([
    "n1 VOTER",
    "n2 VOTER",
    "n3 VOTER",
  ]);
  expect(await cluster.get("n1").node.event("founded")).toMatchObject({ cluster: clusterId });
  for (const id of ["n2", "n3"])
    expect(await cluster.get(id).node.event("turned")).toMatchObject({ cluster: clusterId });
  for (const { node } of cluster.running.values()) expect(node.output()).not.toMatch(/"event":"(joined|promoted)"/);
}

test("two of five founders that were removed, wiped and joined elect no second leader with a voter that lags (T1)", async () => {
  const cluster = await LinkedCluster.start({ directory, nodes: 5, args: QUICK });
  closing.push(() => cluster.stop());
  const [n1, n2, n3, n4, n5] = cluster.nodes;
  const admin = async () => (await until(() => cluster.leader())).channel.client(AdminService);
  const onLeader = (ask: (leader: Awaited<ReturnType<typeof admin>>) => Promise<unknown>) =>
    until(async () =>
      ask(await admin()).then(
        () => true,
        (error) => (/not a member/.test(`${error}`) ? true : undefined),
      ),
    );
  // n3 does not hear of what comes.
  await until(() => cluster.leader());
  await n3!.end();
  for (const node of [n4!, n5!]) {
    await onLeader((leader) => leader.removeMember({ nodeId: node.id }));
    await node.end();
    await rm(node.data, { recursive: true });
  }
  for (const node of [n4!, n5!]) {
    await cluster.launch(node, "join");
    await node.command!.event("joined");
  }
  const members = (await (await admin()).getStatus({})).membership!.members;
  expect(members.map(({ id, role }) => `${id} ${MemberRole[role]}`)).toEqual([
    ...["n1 VOTER", "n2 VOTER", "n3 VOTER", "n4 LEARNER", "n5 LEARNER"],
  ]);
  // n1 and n2 are the majority of the members; n3, n4 and n5 would be one of the founders, which n3 still takes for the members.
  for (const one of [n1!, n2!]) {
    for (const other of [n3!, n4!, n5!]) {
      cluster.link(one, other).set({ cut: true });
      cluster.link(other, one).set({ cut: true });
    }
    one.front.set({ cut: true });
  }
  await cluster.launch(n3!);
  const put = (node: typeof n1, key: string, timeoutMs: number) =>
    node!.channel.client(KeyValueService).put({ key: Buffer.from(key), value: Buffer.from("x") }, { timeoutMs });
  // Each of them has tried for many election timeouts, and has not been able to acknowledge anything.
  const tries = [n3!, n4!, n5!].map((node) => codeOf(put(node, "minority", 4_000)));
  expect(await Promise.all(tries)).not.toContain("none");
  for (const node of [n3!, n4!, n5!]) expect((await node.status())!.role).not.toBe(NodeRole.LEADER);
  const leads = await until(async () => {
    for (const node of [n1!, n2!]) if ((await node.status())?.role === NodeRole.LEADER) return node;
    return undefined;
  });
  await put(leads, "majority", 5_000);
  await cluster.heal();
  await until(async () => {
    const leader = await cluster.leader();
    const target = (await leader?.status())?.commitIndex;
    const applied = await Promise.all(cluster.nodes.map(async (node) => (await node.status())?.appliedIndex));
    return target !== undefined && applied.every((index) => index === target) ? true : undefined;
  });
  const stale = await n3!.channel.client(KeyValueService).get({ key: Buffer.from("majority"), stale: true });
  expect(Buffer.from(stale.kv!.value).toString()).toBe("x");
});

/** Expects that none of these nodes takes a write in so many milliseconds. */
async function takeNoWrites(nodes: readonly ClusterProcess[], timeoutMs: number): Promise<void> {
  const write = { key: Buffer.from("second"), value: Buffer.from("cluster") };
  const codes = await Promise.all(nodes.map(({ kv }) => codeOf(kv.put(write, { timeoutMs }))));
  for (const code of codes) expect(["NOT_LEADER", "TIMEOUT", "UNREACHABLE"]).toContain(code);
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => "none",
    (error: unknown) => CairnError.from(error).code,
  );
}

async function until<Found>(look: () => Promise<Found | undefined>): Promise<Found> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`waited in vain until ${look}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
