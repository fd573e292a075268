import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MemberRole } from "../../gen/cairn/v1/storage_pb.js";
import { ProcessCluster } from "../support/process_cluster.js";
import { runCommand } from "../support/processes.js";

const SETTINGS = ["--tick-ms", "30", "--trailing-log-bytes", "0"];

let directory: string;
let cluster: ProcessCluster;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "cairn-healing-"));
});
afterEach(async () => {
  await cluster?.close();
  await rm(directory, { recursive: true, force: true });
});

async function write(name: string, count = 100): Promise<void> {
  await cluster.put(new Map(Array.from({ length: count }, (_, at) => [`${name}-${at}`, `value ${at}`])));
}

async function expectEqual(): Promise<void> {
  const digests = await cluster.digests();
  expect([digests.length, new Set(digests).size]).toEqual([cluster.running.size, 1]);
}

async function rolesOf(): Promise<string[]> {
  const { admin } = await cluster.leader();
  const { membership } = await admin.getStatus({});
  return membership!.members.map(({ id, role }) => `${id} ${MemberRole[role]}`);
}

function rejoined(id: string, role: string): Promise<RegExpExecArray> {
  return cluster.get(id).node.command.waitFor(new RegExp(`"event":"rejoined","node":"${id}".*"role":"${role}"`));
}

const VOTERS = ["n1 VOTER", "n2 VOTER", "n3 VOTER"];

describe("a node that has lost its disk", () => {
  beforeEach(async () => {
    cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], SETTINGS);
    await write("before");
  });

  test.each(["follower", "leader"])("comes back by itself with the same command line: a %s", async (which) => {
    const leader = await cluster.leader();
    const { id, data, address } = which === "leader" ? leader : (await cluster.followers())[0]!;
    const { membershipIndex } = await leader.admin.getStatus({});
    await cluster.kill(id);
    await rm(data, { recursive: true });
    await write("meanwhile");
    await cluster.startFounder(id);
    await rejoined(id, "voter");
    expect(await rolesOf()).toEqual(VOTERS);
    // It was removed, added and promoted; so whatever it may have answered before it was removed has counted for nothing.
    const { membershipIndex: now, membership } = await (await cluster.leader()).admin.getStatus({});
    expect(now).toBeGreaterThan(membershipIndex + 2n);
    expect(membership!.members.find((member) => member.id === id)!.address).toBe(address);
    expect(cluster.get(id).node.output()).toContain("the disk was lost");
    await write("after");
    await expectEqual();
    expect(await readdir(data)).not.toContain("rejoining.json");
    // It is one like the others now.
    await cluster.kill(id, "SIGTERM");
    await cluster.startFounder(id);
    await write("again");
    await expectEqual();
  });

  test("is not started before it is removed: without a majority of the others it refuses, and says what to do", async () => {
    const [one, two] = await cluster.followers();
    await cluster.kill(one!.id);
    await cluster.kill(two!.id);
    await rm(one!.data, { recursive: true });
    // The one that is left does not lead any more.
    await cluster.until("there is no leader", async () => {
      const [status] = await cluster.statuses();
      return status!.leaderId === "" ? true : undefined;
    });
    const args = ["--id", one!.id, "--data", one!.data, "--cluster", cluster.founders, ...SETTINGS];
    const refused = await runCommand(["start", ...args, "--heal-timeout-ms", "1000"]);
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toMatch(
      /has lost its data and could not be removed: the cluster has no leader now.*OPERATING\.md, 'A lost majority'/,
    );
    expect(await readdir(one!.data)).toEqual(["rejoining.json"]);
    // With the other one back, it goes on where it was.
    await cluster.startFounder(two!.id);
    await cluster.startFounder(one!.id);
    await rejoined(one!.id, "voter");
    expect(await rolesOf()).toEqual(VOTERS);
    await expectEqual();
  });

  test("--lost-disk refuse refuses, and a node that was removed is not brought back", async () => {
    const { id, data } = (await cluster.followers())[0]!;
    await cluster.kill(id);
    await rm(data, { recursive: true });
    const args = ["start", "--id", id, "--data", data, "--cluster", cluster.founders];
    const refused = await runCommand([...args, "--lost-disk", "refuse"]);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/knows n\d from before\. .*--lost-disk is set to refuse/),
    });
    await cluster.until("it is removed", () =>
      cluster.withLeader(({ admin }) => admin.removeMember({ nodeId: id })).catch(() => undefined),
    );
    const removed = await runCommand(args);
    expect(removed).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/and has removed it.*start it with --join/),
    });
    expect(await readdir(directory)).not.toContain(id);
  });

  test("a second node under the name of one that runs does not have that one removed", async () => {
    const { id } = (await cluster.followers())[0]!;
    const args = ["start", "--id", id, "--data", join(directory, "second"), "--cluster", cluster.founders];
    const refused = await runCommand([...args, "--listen", "127.0.0.1:0", "--heal-timeout-ms", "2000"]);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/a node that runs under the name n\d answers the leader/),
    });
    expect(await rolesOf()).toEqual(VOTERS);
  });
});

test("a node whose only snapshot is damaged, with the log trimmed behind it, has another one sent and starts", async () => {
  cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], [...SETTINGS, "--segment-bytes", "4194306"]);
  await write("a");
  await cluster.settled();
  const { id, data, admin } = (await cluster.followers())[0]!;
  await admin.takeSnapshot({});
  const { firstIndex } = await admin.getLogInfo({});
  expect(firstIndex).toBeGreaterThan(100n);
  await write("b");
  await cluster.kill(id);
  const folder = join(data, "snapshots");
  const [name] = await readdir(folder);
  const damaged = await readFile(join(folder, name!));
  damaged[damaged.length >> 1]! ^= 1;
  await writeFile(join(folder, name!), damaged);
  // So that the state must be built from it.
  await rm(join(data, "state"), { recursive: true });
  await cluster.startFounder(id);
  expect(cluster.get(id).node.output()).toMatch(
    /took a snapshot of another member in place of the one that is missing/,
  );
  await write("c");
  await expectEqual();
  // A file that has vanished, too; then nobody answers, and the node says so.
  const others = (await cluster.followers()).map((each) => each.id);
  await cluster.kill(id);
  await rm(folder, { recursive: true });
  await cluster.startFounder(id);
  await expectEqual();
  for (const each of new Set([...others, ...cluster.running.keys()]))
    if (cluster.running.has(each)) await cluster.kill(each);
  await rm(folder, { recursive: true });
  const args = ["--id", id, "--data", data, "--cluster", cluster.founders, "--heal-timeout-ms", "500"];
  const refused = await runCommand(["start", ...args]);
  expect(refused).toMatchObject({ code: 1, stdout: "" });
  expect(refused.stderr).toMatch(
    /there is a hole between .* No other member has given a snapshot in 500 ms: n\d: .*OPERATING\.md/,
  );
});

test("a log that is damaged in the middle is refused; with the directory moved away, the node comes back", async () => {
  cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], SETTINGS);
  await write("a");
  const { id, data } = (await cluster.followers())[0]!;
  await cluster.kill(id);
  const [segment] = await readdir(join(data, "wal"));
  const file = await open(join(data, "wal", segment!), "r+");
  await file.write(Buffer.from([0xff]), 0, 1, 600).finally(() => file.close());
  const args = ["--id", id, "--data", data, "--cluster", cluster.founders];
  const refused = await runCommand(["start", ...args]);
  expect(refused).toMatchObject({ code: 1, stdout: "" });
  expect(refused.stderr).toMatch(
    /CORRUPT.*move the data directory away, and start the node again .* with --cluster it comes back by itself/,
  );
  await rm(data, { recursive: true });
  await cluster.startFounder(id);
  await rejoined(id, "voter");
  await write("b");
  await expectEqual();
});
