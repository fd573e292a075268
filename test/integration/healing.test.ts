import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { ProcessCluster } from "../support/processes/process_cluster.js";
import { runCommand, startNode } from "../support/processes/processes.js";

// Bounds for a machine that does much else: each test starts several processes.
vi.setConfig({ testTimeout: 240_000, hookTimeout: 120_000 });

const SETTINGS = ["--tick-ms", "30", "--trailing-log-bytes", "0", "--segment-bytes", "4194306"];

let directory: string;
let cluster: ProcessCluster;

/** Starts a cluster that all tests of a group use, one after the other: each but the last leaves three voters behind. */
function startsOnce(): void {
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cairn-healing-"));
    cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], SETTINGS);
  });
  afterAll(async () => {
    await cluster?.close();
    await rm(directory, { recursive: true, force: true });
  });
}

async function write(name: string, count = 100): Promise<void> {
  await cluster.put(new Map(Array.from({ length: count }, (_, at) => [`${name}-${at}`, `value ${at}`])));
}

async function expectEqual(): Promise<void> {
  const digests = await cluster.digests();
  expect([digests.length, new Set(digests).size]).toEqual([cluster.running.size, 1]);
}

/** Waits until a node that comes back votes. */
async function voterAgain(id: string): Promise<void> {
  await cluster.get(id).node.event("promoted");
}

async function incarnationOf(id: string): Promise<string> {
  return JSON.parse(await readFile(join(cluster.dataOf(id), "cairn.json"), "utf8")).incarnation;
}

const VOTERS = ["n1 VOTER", "n2 VOTER", "n3 VOTER"];

describe("a node that has lost its disk", () => {
  startsOnce();

  test.each(["follower", "leader"])("comes back with the same command line: a %s (T1)", async (which) => {
    const leader = await cluster.leader();
    const { id, data, address } = which === "leader" ? leader : (await cluster.followers())[0]!;
    await write(`before the ${which}`);
    const { membershipIndex } = await leader.admin.getStatus({});
    const before = await incarnationOf(id);
    await cluster.kill(id);
    await cluster.wipe(id);
    await write(`without the ${which}`);
    const { node } = await cluster.startFounder(id);
    expect(await node.event("joined")).toMatchObject({ node: id, address });
    await voterAgain(id);
    expect(await cluster.roles()).toEqual(VOTERS);
    // Another directory is another member: one change put it in the place of the lost one, another let it vote.
    const { membershipIndex: now, membership } = await (await cluster.leader()).admin.getStatus({});
    expect(now).toBeGreaterThan(membershipIndex + 1n);
    expect(membership!.members.find((member) => member.id === id)!.address).toBe(address);
    expect(await incarnationOf(id)).not.toBe(before);
    await write(`after the ${which}`);
    await expectEqual();
    expect(await readdir(data)).not.toContain("rejoining.json");
    // It is one like the others now.
    await cluster.kill(id, "SIGTERM");
    await cluster.startFounder(id);
    await write(`${which} again`);
    await expectEqual();
  });

  test("waits without a majority of the others, names them, and comes back when they do (T1)", async () => {
    const [one, two] = await cluster.followers();
    const { id: left } = await cluster.leader();
    await cluster.kill(one!.id);
    await cluster.kill(two!.id);
    await cluster.wipe(one!.id);
    const { node } = await cluster.startFounder(one!.id);
    const { clusterId } = await cluster.get(left).admin.getStatus({});
    await node.command.waitFor(
      new RegExp(
        `${one!.id} waits.*${one!.id} is new; ${left} belongs to cluster ${clusterId}; waiting for its leader`,
      ),
    );
    const { warnings } = await cluster.get(one!.id).admin.getStatus({});
    expect(warnings.join()).toContain("waiting for its leader");
    await cluster.startFounder(two!.id);
    await voterAgain(one!.id);
    expect(await cluster.roles()).toEqual(VOTERS);
    await expectEqual();
  });

  test("does not lose its place to a second node under its name while it runs (T1)", async () => {
    const { id } = (await cluster.followers())[0]!;
    const args = ["--cluster", cluster.founders, ...SETTINGS];
    const second = await startNode({ id, data: join(directory, "second"), args });
    await second.command.waitFor(/another node runs under the name n\d, at .*, and answers: stop it, or give this one/);
    expect(await cluster.roles()).toEqual(VOTERS);
    await second.kill();
    await write("after a second node");
    await expectEqual();
  });

  test("refuses with --lost-disk refuse, and is told to use --join if it was removed (T1)", async () => {
    const { id, data } = (await cluster.followers())[0]!;
    await cluster.kill(id);
    await cluster.wipe(id);
    const args = ["start", "--id", id, "--data", data, "--cluster", cluster.founders];
    const refused = await runCommand([...args, "--lost-disk", "refuse"]);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /knows n\d from before, and lostDisk \(--lost-disk on the command line\) is set to refuse\. With rejoin, the node comes back/,
      ),
    });
    await cluster.until("it is removed", () =>
      cluster.withLeader(({ admin }) => admin.removeMember({ nodeId: id })).catch(() => undefined),
    );
    const removed = await runCommand(args);
    expect(removed).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/it was removed, .*start it with join \(--join/),
    });
    expect(await cluster.roles()).not.toContain(`${id} VOTER`);
  });
});

describe("damage on the disk of a node", () => {
  startsOnce();

  test("in the middle of its log is refused; with its directory moved away, the node comes back", async () => {
    await write("a");
    // Damage counts as such only before a later write: at the end of the log it looks like a write that a crash cut short.
    await expectEqual();
    await write("a later one");
    await expectEqual();
    const { id, data } = (await cluster.followers())[0]!;
    await cluster.kill(id);
    const [segment] = await readdir(join(data, "wal"));
    const file = await open(join(data, "wal", segment!), "r+");
    await file.write(Buffer.from([0xff]), 0, 1, 600).finally(() => file.close());
    const args = ["--id", id, "--data", data, "--cluster", cluster.founders];
    const refused = await runCommand(["start", ...args]);
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toMatch(
      /CORRUPT.*Never put back an old copy.*move the whole data directory away, keep it, and start the node again/,
    );
    await rm(data, { recursive: true });
    await cluster.startFounder(id);
    await voterAgain(id);
    await write("b");
    await expectEqual();
  });

  test("of its snapshots, with the log trimmed behind them, makes it fetch another one and start", async () => {
    await write("c");
    await cluster.settled();
    const { id, data, admin } = (await cluster.followers())[0]!;
    await admin.takeSnapshot({ keepLogBytes: 0n });
    const { firstIndex } = await admin.getLogInfo({});
    expect(firstIndex).toBeGreaterThan(100n);
    await write("d");
    await cluster.kill(id);
    const folder = join(data, "snapshots");
    for (const name of await readdir(folder)) {
      const damaged = await readFile(join(folder, name));
      damaged[damaged.length >> 1]! ^= 1;
      await writeFile(join(folder, name), damaged);
    }
    // So that the state must be built from it.
    await rm(join(data, "state"), { recursive: true });
    await cluster.startFounder(id);
    expect(cluster.get(id).node.output()).toMatch(/fetched a snapshot from another member to replace the missing one/);
    await write("e");
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
      /there is a hole between .* No other member has given a snapshot in 500 ms: n\d: .*docs\/operations\.md/,
    );
  });
});
