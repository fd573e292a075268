import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { NodeRole } from "../../gen/cairn/v1/admin_pb.js";
import { loseLogTail } from "../support/disk/log_tail.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { ProcessCluster } from "../support/processes/process_cluster.js";
import { runCommand } from "../support/processes/processes.js";

// Bounds for a machine that does much else: each test starts several processes.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

const QUICK = ["--tick-ms", "30", "--snapshot-entries", "off"];

let directory: string;
let cluster: ProcessCluster;

// The tests use one cluster, one after the other; the last one removes a member.
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "cairn-lost-"));
  cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], QUICK);
});
afterAll(async () => {
  await cluster?.close();
  await rm(directory, { recursive: true, force: true });
});

const VOTERS = ["n1 VOTER", "n2 VOTER", "n3 VOTER"];

async function write(name: string, count: number): Promise<Map<string, string>> {
  const pairs = new Map(Array.from({ length: count }, (_, at) => [`${name}-${at}`, `value ${at}`]));
  await cluster.put(pairs);
  return pairs;
}

async function expectAll(prefix: string, written: ReadonlyMap<string, string>): Promise<void> {
  expect([...(await cluster.readAll(prefix))].sort()).toEqual([...written].sort());
  const digests = await cluster.digests();
  expect([digests.length, new Set(digests).size]).toEqual([cluster.running.size, 1]);
}

async function setAside(id: string): Promise<string[]> {
  return (await readdir(cluster.dataOf(id))).filter((name) => name.startsWith("lost-"));
}

async function statusText(...ids: string[]): Promise<string> {
  const endpoints = ids.map((id) => cluster.get(id).address).join(",");
  return (await runCommand(["status", "--endpoints", endpoints])).stdout;
}

describe("a voter whose log has lost its acknowledged tail (T3)", () => {
  // Without its state, which may be rebuilt, it cannot know by itself.
  test.each(["by the leader", "by itself"])(
    "is detected %s, sets its data aside, and comes back as a voter",
    async (by) => {
      const written = await write(by, 30);
      const last = await cluster.settled();
      const { id } = (await cluster.followers())[0]!;
      const before = await setAside(id);
      await cluster.kill(id);
      await loseLogTail(cluster.dataOf(id), 2);
      if (by === "by the leader") await rm(join(cluster.dataOf(id), "state"), { recursive: true });
      const { node, data } = await cluster.startFounder(id);
      const lost = await node.event("lost");
      expect(lost).toMatchObject({ node: id, lost: { has: Number(last) - 2 } });
      expect((lost.lost as { acknowledged: number }).acknowledged).toBeGreaterThan(Number(last) - 2);
      await node.event("promoted");
      expect(await cluster.roles()).toEqual(VOTERS);
      const [aside] = (await setAside(id)).filter((name) => !before.includes(name));
      expect(lost.aside).toBe(join(data, aside!));
      expect((await readdir(join(data, aside!))).sort()).toContain("wal");
      await expectAll(by, written);
    },
  );

  test("stops with --lost-disk refuse, appears in 'cairn status' as lost, and comes back when it may", async () => {
    const written = await write("refused", 30);
    const last = await cluster.settled();
    const { id, data, address } = (await cluster.followers())[0]!;
    const before = await setAside(id);
    await cluster.kill(id);
    await loseLogTail(data, 2);
    await rm(join(data, "state"), { recursive: true });
    const args = ["start", "--id", id, "--data", data, "--listen", address, "--cluster", cluster.founders, ...QUICK];
    const refused = await runCommand([...args, "--lost-disk", "refuse"]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      new RegExp(
        `acknowledged entries up to \\d+, and has entries up to ${Number(last) - 2}: lostDisk \\(--lost-disk on the command line\\) is set to refuse`,
      ),
    );
    // Whether it is told so now, or knows it from before.
    const again = await runCommand([...args, "--lost-disk", "refuse"]);
    expect(again).toMatchObject({ code: 1, stdout: "" });
    expect(again.stderr).toMatch(
      /less than its node acknowledged: lostDisk \(--lost-disk on the command line\) is set to refuse/,
    );
    expect([await setAside(id), await readdir(data)]).toEqual([before, expect.arrayContaining(["wal"])]);
    const { id: leader } = await cluster.leader();
    expect(await statusText(leader)).toMatch(new RegExp(`^${id} .*lost data`, "m"));
    await cluster.startFounder(id);
    await cluster.get(id).node.event("promoted");
    expect(await statusText(leader)).not.toMatch(new RegExp(`^${id} .*lost data`, "m"));
    await expectAll("refused", written);
  });
});

test("a voter that loses its disk a second time before its promotion still becomes a voter (T4)", async () => {
  // So slow that it cannot have caught up before its disk is lost again.
  const slow = ["--snapshot-bandwidth", "200000", "--trailing-log-bytes", "0", "--segment-bytes", "4194306"];
  const directory = await temporaryDirectory();
  const cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], [...QUICK, ...slow]);
  onTestFinished(() => cluster.close());
  const value = "x".repeat(10_000);
  await cluster.put(new Map(Array.from({ length: 200 }, (_, at) => [`large-${at}`, `${at} ${value}`])));
  await cluster.settled();
  for (const { admin } of cluster.running.values()) await admin.takeSnapshot({});
  const { id } = (await cluster.followers())[0]!;
  await cluster.kill(id);
  await cluster.wipe(id);
  const first = await cluster.startFounder(id);
  await first.node.event("joined");
  await cluster.kill(id);
  expect(await cluster.roles()).toContain(`${id} LEARNER`);
  await cluster.wipe(id);
  const second = await cluster.startFounder(id);
  await cluster.until(`${id} votes`, async () => ((await cluster.roles()).includes(`${id} VOTER`) ? true : undefined));
  await second.node.event("promoted");
  expect(await cluster.roles()).toEqual(VOTERS);
});

test("a directory that was restored from an older copy is detected, and no write is lost (T3)", async () => {
  await write("early", 5);
  const { id } = (await cluster.followers())[0]!;
  const data = cluster.dataOf(id);
  await cluster.kill(id, "SIGTERM");
  await cp(data, join(directory, "copy"), { recursive: true, verbatimSymlinks: true });
  await cluster.startFounder(id);
  const written = await write("copied", 30);
  await cluster.settled();
  await cluster.kill(id);
  await rm(data, { recursive: true });
  await cp(join(directory, "copy"), data, { recursive: true, verbatimSymlinks: true });
  const before = await setAside(id);
  const { node } = await cluster.startFounder(id);
  await node.event("lost");
  await node.event("promoted");
  expect(await setAside(id), node.output()).toHaveLength(before.length + 1);
  // Whoever leads next has all of it.
  const { id: leader } = await cluster.leader();
  await cluster.kill(leader);
  expect(await cluster.readAll("copied")).toEqual(new Map([...written].sort(([a], [b]) => (a < b ? -1 : 1))));
  await cluster.startFounder(leader);
  await expectAll("copied", written);
  expect(await cluster.roles()).toEqual(VOTERS);
});

test("a learner that has lost its disk becomes a learner again, and has all the data (T3)", async () => {
  const endpoints = [...cluster.running.values()].map(({ address }) => address);
  await (await cluster.startJoining("n4", endpoints)).node.event("joined");
  const written = await write("learner", 30);
  await cluster.settled();
  const before = await readFile(join(cluster.dataOf("n4"), "cairn.json"), "utf8");
  await cluster.kill("n4");
  await cluster.wipe("n4");
  const { node, address } = await cluster.startJoining("n4", endpoints);
  expect(await node.event("joined")).toMatchObject({ address });
  expect(JSON.parse(await readFile(join(cluster.dataOf("n4"), "cairn.json"), "utf8")).incarnation).not.toBe(
    JSON.parse(before).incarnation,
  );
  await expectAll("learner", written);
  expect(await cluster.roles()).toEqual([...VOTERS, "n4 LEARNER"]);
});

test("a removed node says so with the index, stops campaigning, and 'cairn status' through it warns", async () => {
  await write("before", 5);
  await cluster.settled();
  const { id, node, admin } = (await cluster.followers())[0]!;
  const { membershipIndex } = await cluster.withLeader(async (leader) => {
    await leader.admin.removeMember({ nodeId: id });
    return leader.admin.getStatus({});
  });
  expect(await node.event("removed")).toEqual({ event: "removed", node: id, index: Number(membershipIndex) });
  await node.command.waitFor(
    new RegExp(`${id} was removed from its cluster at index ${membershipIndex}\\. Stop it; to bring it back`),
  );
  const { term } = await (await cluster.leader()).admin.getStatus({});
  const status = await admin.getStatus({});
  expect(status.role).toBe(NodeRole.FOLLOWER);
  expect(status.term).toBe(term);
  expect(await statusText(id)).toContain(
    `${id} warns: this node was removed from its cluster at index ${membershipIndex}: stop it`,
  );
  // Nor does it once it has been started again: it asks first.
  await cluster.kill(id, "SIGTERM");
  const again = await cluster.startFounder(id);
  await again.node.event("removed");
  expect((await (await cluster.leader()).admin.getStatus({})).term).toBe(term);
  await cluster.kill(id, "SIGTERM");
  await write("after", 5);
});
