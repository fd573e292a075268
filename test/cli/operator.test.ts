import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { list, save, take } from "../../src/cli/commands/snapshot/snapshots.js";
import { clusterStatus, statusText } from "../../src/cli/output/cluster_status.js";
import { ClusterAdmin } from "../../src/client/admin/cluster_admin.js";
import { addLearner, members, promote, remove } from "../../src/client/admin/members.js";
import { SnapshotParser } from "../../src/encoding/snapshot_parser.js";
import { failure, isLasting, until } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { putCommand } from "../support/nodes/acting_leader.js";
import { Cluster } from "../support/nodes/served_cluster.js";
import { serve } from "../support/nodes/served_node.js";
import { askCommand } from "../support/processes/command_host.js";
import { runCommand, startCommand } from "../support/processes/processes.js";

const THREE = ["n1", "n2", "n3"];

function endpointsOf(cluster: Cluster): string[] {
  return [...cluster.members.values()].map(({ server }) => server.address);
}

function adminOf(cluster: Cluster, endpoints = endpointsOf(cluster)): ClusterAdmin {
  const admin = new ClusterAdmin(endpoints);
  onTestFinished(() => admin.close());
  return admin;
}

describe("cairn status", () => {
  test("shows all members: their positions, their lag, and how the leader sends to them", async () => {
    const cluster = await Cluster.of(THREE);
    const { id, node } = await cluster.leader();
    for (let at = 0; at < 5; at++) await node.propose(putCommand(`k${at}`, "1"));
    await node.takeSnapshot({});
    const last = node.raft.log.last.index;
    await until(() => [...cluster.members.values()].every((each) => each.node.machine.appliedIndex === last), "all");
    const status = await clusterStatus(adminOf(cluster));
    expect(status).toMatchObject({ cluster: "cluster-1", leader: id, term: node.raft.term });
    expect(status.members.map((member) => member.id)).toEqual(THREE);
    for (const member of status.members) {
      expect(member).toMatchObject({ member: "voter", commit: last, applied: last, lag: 0, log: { first: 1, last } });
      const leads = { role: "leader", snapshot: last };
      expect(member).toMatchObject(member.id === id ? leads : { role: "follower", how: "replicate", snapshot: 0 });
      const { fileBytes } = node.snapshots.newest()!;
      const taken = { index: last, reason: "requested", finished: expect.stringMatching(/^20.*Z$/), fileBytes };
      if (member.id === id) expect(member.lastSnapshot).toMatchObject(taken);
      else expect(member.lastSnapshot).toBeUndefined();
      expect(member.warnings?.filter(isLasting)).toEqual([]);
    }
    const lines = statusText(status).split("\n");
    expect(lines[0]).toBe(`cluster cluster-1, term ${node.raft.term}, ${id} leads`);
    expect(lines[1]).toMatch(
      /^ID +ADDRESS +MEMBER +VERSION +ROLE +TERM +COMMIT +APPLIED +LAG +LOG +SNAPSHOT +HOW +SYNC +HEALTH$/,
    );
    expect(lines.filter(isLasting)).toHaveLength(5);
  });

  test("ends with the warnings that an operator should act on", async () => {
    const cluster = await Cluster.of(THREE);
    const { id, node } = await cluster.leader();
    await node.propose(putCommand("k", "1"));
    const { path } = (await node.takeSnapshot({})).snapshot!;
    cluster.home.disk.flipBit(path, 100);
    await failure("CORRUPT", node.snapshots.verify(node.snapshots.newest()!));
    const status = await clusterStatus(adminOf(cluster));
    const found = status.members.find((member) => member.id === id)?.warnings;
    expect(found?.filter(isLasting)).toEqual([expect.stringContaining(path)]);
    expect(statusText(status).split("\n").filter(isLasting).at(-1)).toMatch(`${id} warns: ${path} must not be used: `);
  });

  test("says why a member does not answer, and that a cluster has no leader", async () => {
    const cluster = await Cluster.of(THREE);
    const { id } = await cluster.follower();
    const admin = adminOf(cluster);
    await cluster.crash(id);
    // Until the leader has noticed, nobody says how it does.
    const silent = { verdict: "silent", reason: expect.stringMatching(/^its leader says: it has not answered/) };
    let status = await clusterStatus(admin);
    let gone = status.members.find((member) => member.id === id)!;
    while (gone.health === undefined) {
      status = await clusterStatus(admin);
      gone = status.members.find((member) => member.id === id)!;
    }
    expect(gone).toEqual({
      id,
      address: `${id}:1`,
      member: "voter",
      how: expect.any(String),
      error: expect.any(String),
      health: expect.objectContaining(silent),
    });
    expect(statusText(status)).toMatch(
      new RegExp(`^${status.leader} warns of ${id}: it has not answered the leader`, "m"),
    );
    expect(statusText(status)).toMatch(new RegExp(`^${id} .*does not answer`, "m"));
    await cluster.crash((await cluster.leader()).id);
    await until(() => [...cluster.members.values()].every(({ node }) => node.raft.leader === undefined), "no leader");
    const without = await clusterStatus(admin);
    expect(without.leader).toBeUndefined();
    expect(statusText(without)).toContain("no leader");
    await cluster.crash([...cluster.members.keys()][0]!);
    await failure("UNREACHABLE", clusterStatus(admin), "no node answers: ");
  });
});

describe("cairn member", () => {
  test("has the leader change members, whichever endpoint is asked, and waits until a learner has caught up before it promotes it", async () => {
    const cluster = await Cluster.of(THREE);
    const admin = adminOf(cluster);
    const { node } = await cluster.leader();
    for (let at = 0; at < 20; at++) await node.propose(putCommand(`k${at}`, "1"));
    expect((await addLearner(admin, "n4", "n4:1")).at(-1)).toEqual({ id: "n4", address: "n4:1", role: "learner" });
    await failure("FAILED_PRECONDITION", promote(admin, "n4", 0), "has not caught up");
    const promoted = promote(admin, "n4", 20_000);
    await cluster.start("n4");
    expect((await promoted).at(-1)).toMatchObject({ id: "n4", role: "voter" });
    await failure("FAILED_PRECONDITION", promote(admin, "n4", 20_000), "is a voter already");
    await failure("FAILED_PRECONDITION", promote(admin, "n5", 20_000), "is not a member");
    expect((await remove(admin, "n4")).map(({ id }) => id)).toEqual(THREE);
    expect(await members(admin)).toHaveLength(3);
  });

  test("finds the leader by its address when one endpoint is down and the leader is not among the endpoints", async () => {
    const cluster = await Cluster.of(THREE);
    const leader = await cluster.leader();
    const follower = await cluster.follower();
    const admin = adminOf(cluster, ["127.0.0.1:1", follower.server.address]);
    expect(await members(admin)).toHaveLength(3);
    // Which the tests' membership does not have.
    expect((await admin.look()).leaderAddress).toBe(`${leader.id}:1`);
    expect((await admin.member(undefined)).node).toBe(follower.id);
    await failure("NOT_FOUND", admin.member("n9"), "n9 is not a member");
  });
});

describe("cairn snapshot", () => {
  test("takes, lists and saves snapshots, and verifies what it saves", async () => {
    const cluster = await Cluster.of(["n1"]);
    const { node } = cluster.get("n1");
    const admin = adminOf(cluster);
    await node.propose(putCommand("a", new Uint8Array(600_000).fill(5)));
    const taken = await take(admin, undefined);
    expect(taken).toMatchObject({ node: "n1", taken: true, snapshot: { index: node.machine.appliedIndex } });
    expect(await take(admin, "n1")).toMatchObject({ taken: false, snapshot: taken.snapshot });
    expect(await list(admin, undefined)).toEqual({ node: "n1", snapshots: [taken.snapshot] });
    const file = join(await temporaryDirectory(), "saved.snap");
    expect(await save(admin, undefined, 0, file)).toEqual({ node: "n1", snapshot: taken.snapshot });
    const parser = new SnapshotParser(file);
    parser.push(await readFile(file));
    expect(Buffer.from(parser.finish().sha256).toString("hex")).toBe(taken.snapshot!.sha256);
    await failure("FAILED_PRECONDITION", save(admin, undefined, 0, file), "exists already");
    const other = `${file}.other`;
    await failure("NOT_FOUND", save(admin, undefined, 99, other), "there is no snapshot at index 99");
    await expect(readFile(other)).rejects.toMatchObject({ code: "ENOENT" });
    await expect(readFile(`${other}.part`)).rejects.toMatchObject({ code: "ENOENT" });
    await failure("FAILED_PRECONDITION", save(admin, undefined, 0, "/nonexistent/file"), "cannot be written: ENOENT");
  });
});

describe("the operator's commands", () => {
  test("print text or JSON, find the cluster by flag or environment, and exit 1 when they fail", async () => {
    const cluster = await Cluster.of(THREE);
    const { id } = await cluster.leader();
    const env = { CAIRN_ENDPOINTS: endpointsOf(cluster).join(",") };
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await askCommand(args, { env });
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      return stdout;
    };
    expect(await run("status")).toContain(`${id} leads\nID `);
    expect(JSON.parse(await run("status", "--json"))).toMatchObject({ leader: id, members: [{}, {}, {}] });
    expect(await run("member", "list", "--endpoints", endpointsOf(cluster)[0]!)).toMatch(
      /^ID {2}ADDRESS {2}ROLE\nn1 {2}n1:1 {5}voter\n/,
    );
    const { id: next } = await cluster.follower();
    expect(JSON.parse(await run("leader", "transfer", next, "--json"))).toEqual({ leader: next });
    const { address } = (await cluster.leader()).server;
    expect(await run("leader")).toBe(`${next} leads, at ${address}\n`);
    expect(JSON.parse(await run("leader", "--json"))).toEqual({ leader: next, address, term: expect.any(Number) });
    expect(await run("leader", "show")).toBe(`${next} leads, at ${address}\n`);
    expect(await run("snapshot", "take", "--node", "n2")).toMatch(
      /^n2 took a snapshot, and trimmed 0 entries\nindex \d/,
    );
    const [head, row] = (await run("snapshot", "list", "--node", "n2")).split("\n");
    expect(head).toMatch(/^INDEX +TERM +BYTES +SHA-256$/);
    expect(row).toMatch(/^\d+ +\d+ +\d+ +[0-9a-f]{64}$/);

    const failed = await runCommand(["member", "promote", "n3"], { env });
    expect(failed).toMatchObject({ code: 1, stdout: "" });
    expect(failed.stderr).toMatch(/^cairn: \[FAILED_PRECONDITION\] .*n3 is a voter already\n$/);
    const nobody = await runCommand(["status", "--endpoints", "127.0.0.1:1"]);
    expect(nobody).toMatchObject({ code: 1, stdout: "" });
    expect(nobody.stderr).toMatch(
      /^cairn: \[UNREACHABLE\] no node answers: 127\.0\.0\.1:1 cannot be reached: .*ECONNREFUSED/,
    );
  });

  test("exit 1 at once when asked for the leader of a cluster without one", async () => {
    const { server } = await serve();
    const { code, stdout, stderr } = await runCommand(["leader", "--endpoints", server.address]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toBe("cairn: [NOT_LEADER] the cluster has no leader now\n");
  });

  test("print the status again and again with --watch until a signal", async () => {
    const cluster = await Cluster.of(["n1"]);
    const args = ["status", "--watch", "--interval-ms", "100", "--json", "--endpoints", endpointsOf(cluster)[0]!];
    const watching = startCommand(args);
    for (let look = 0; look < 3; look++) expect(JSON.parse(await watching.nextLine())).toMatchObject({ leader: "n1" });
    await cluster.crash("n1");
    await watching.waitFor(/no node answers/);
    expect(await watching.kill("SIGINT")).toEqual({ code: 0, signal: null });
    for (const line of watching.stdout.trim().split("\n")) expect(JSON.parse(line)).toMatchObject({ leader: "n1" });
  });

  test.each([
    [["member", "add", "n4"], /missing required argument 'host:port'/],
    [["member", "add", "n4", "here"], /"here" must be host:port/],
    [["member", "remove", "a b"], /expected 1 to 64 characters/],
    [["member", "list", "--endpoints", "here"], /"here" must be host:port/],
    [["status", "--interval-ms", "1"], /expected a whole number from 100/],
    [["snapshot", "save"], /missing required argument 'file'/],
    [["leader", "fly"], /unknown command 'fly'/],
  ])("exit 2 for %j and point to the help", async (args, text) => {
    const { code, stdout, stderr } = await askCommand(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(text);
    expect(stderr).toContain("(see --help)");
  });
});
