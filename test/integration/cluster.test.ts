import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MemberRole } from "../../gen/cairn/v1/storage_pb.js";
import { hasCode } from "../../src/base/errors.js";
import { ProcessCluster } from "../support/processes/process_cluster.js";

const TICK_MS = 30;

/** How far behind a follower falls that is brought back by a snapshot. Try 200000 after a change to transfers. */
const BEHIND_ENTRIES = Number(process.env.CAIRN_BEHIND_ENTRIES ?? 1_000);

/** Snapshots by themselves, and nothing kept behind them: a follower that was away needs one. */
const SETTINGS = [
  ...["--tick-ms", `${TICK_MS}`, "--snapshot-entries", "200", "--trailing-log-bytes", "0"],
  ...["--log-level", "info"],
];

describe("a cluster of processes", () => {
  let directory: string;
  let cluster: ProcessCluster;
  /** What was written, by key. */
  const written = new Map<string, string>();

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cairn-cluster-"));
    cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], SETTINGS);
  });
  afterAll(async () => {
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });

  /** Writes `count` keys of this name, a hundred at a time. */
  async function write(name: string, count: number): Promise<void> {
    const pairs = Array.from({ length: count }, (_, at) => [`${name}-${at}`, `value ${at} of ${name}`] as const);
    for (let at = 0; at < count; at += 100) await cluster.put(new Map(pairs.slice(at, at + 100)));
    for (const [key, value] of pairs) written.set(key, value);
  }

  /** Everything that was written is there, by a linearizable read; and all nodes have the same state. */
  async function expectAll(): Promise<void> {
    const found = await cluster.withLeader(async ({ kv }) => {
      const all = new Map<string, string>();
      for await (const { kvs } of kv.range({})) {
        for (const { key, value } of kvs) all.set(Buffer.from(key).toString(), Buffer.from(value).toString());
      }
      return all;
    });
    expect(found).toEqual(new Map([...written].sort(([a], [b]) => (a < b ? -1 : 1))));
    const digests = await cluster.digests();
    expect(digests).toHaveLength(cluster.running.size);
    expect(new Set(digests).size, "all states are the same").toBe(1);
  }

  test("elects a leader, and replicates its writes", async () => {
    await cluster.leaderOfAll();
    const statuses = await cluster.statuses();
    expect(statuses).toHaveLength(3);
    expect(new Set(statuses.map(({ clusterId }) => clusterId)).size).toBe(1);
    await write("first", 100);
    await expectAll();
  });

  test("continues when the leader is killed, and the old leader returns as a follower", async () => {
    const { id } = await cluster.leader();
    await cluster.kill(id);
    const killed = performance.now();
    await write("without the leader", 1);
    console.info(`a write went through ${Math.round(performance.now() - killed)} ms after the leader was killed`);
    await write("after", 50);
    await cluster.startFounder(id);
    await expectAll();
    expect((await cluster.leader()).id).not.toBe(id);
  });

  test("brings a follower whose next entry was trimmed back by a snapshot while writes continue", {
    timeout: 60_000 + BEHIND_ENTRIES,
  }, async () => {
    const { id, admin } = (await cluster.followers())[0]!;
    const { lastIndex } = await admin.getLogInfo({});
    await cluster.kill(id);
    await write("trimmed", BEHIND_ENTRIES);
    const leader = await cluster.leader();
    expect((await leader.admin.getLogInfo({})).firstIndex).toBeGreaterThan(lastIndex + 1n);
    const back = await cluster.startFounder(id);
    await write("meanwhile", 100);
    await expectAll();
    expect((await back.admin.getLogInfo({})).firstIndex).toBeGreaterThan(lastIndex + 1n);
    expect(back.node.output()).toContain("installed a snapshot");
    expect(leader.node.output()).toMatch(/took a snapshot/);
  });

  test("accepts a node that joins, lets it vote, and removes another", async () => {
    const endpoints = [...cluster.running.values()].map(({ address }) => address);
    const fourth = await cluster.startJoining("n4", endpoints);
    expect(await fourth.node.event("joined")).toMatchObject({ node: "n4", address: fourth.address });
    await cluster.until("n4 has caught up and votes", async () => {
      try {
        return await cluster.withLeader(({ admin }) => admin.promoteLearner({ nodeId: "n4" }));
      } catch (error) {
        if (hasCode(error, "FAILED_PRECONDITION") && error.text.includes("caught up")) return undefined;
        throw error;
      }
    });
    const { id: removed } = (await cluster.followers()).find(({ id }) => id !== "n4")!;
    const { membership } = await cluster.withLeader(({ admin }) => admin.removeMember({ nodeId: removed }));
    expect(membership?.members.map(({ id, role }) => `${id} ${MemberRole[role]}`)).toEqual(
      ["n1", "n2", "n3", "n4"].filter((id) => id !== removed).map((id) => `${id} VOTER`),
    );
    await cluster.kill(removed, "SIGTERM");
    await write("with n4", 50);
    await expectAll();
  });

  test("has its leader hand over before it stops", async () => {
    const { id, node } = await cluster.leader();
    const term = (await cluster.statuses())[0]!.term;
    expect(await cluster.kill(id, "SIGTERM")).toEqual({ code: 0, signal: null });
    expect(node.output()).toContain("handed leadership over");
    const next = await cluster.leader();
    const status = await next.admin.getStatus({});
    expect(status.term).toBe(term + 1n);
    await write("handed over", 20);
    await cluster.startAgain(id);
    await expectAll();
  });

  test("starts again as a whole from its data directories", async () => {
    const ids = [...cluster.running.keys()];
    const exits = await Promise.all(ids.map((id) => cluster.kill(id, id === ids[0] ? "SIGKILL" : "SIGTERM")));
    expect(exits.filter(({ code }) => code === 0)).toHaveLength(ids.length - 1);
    await Promise.all(ids.map((id) => cluster.startAgain(id)));
    await expectAll();
    await write("again", 20);
    await expectAll();
  });
});
