import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { until } from "../support/conditions.js";
import { type ClusterProcess, ProcessCluster } from "../support/processes/process_cluster.js";

const IDS = ["n1", "n2", "n3"];
const key = Buffer.from("counter");

/** A client's deadline. */
const PATIENCE = { timeoutMs: 5_000 };

/** So many reads at followers, and writes, between two changes of the leader. */
const CALLS = 20;

test("reads through followers show every write that was answered before they began, also while leaders change and die", {
  // Starts four processes, and waits for two elections.
  timeout: 120_000,
}, async () => {
  const directory = await mkdtemp(join(tmpdir(), "cairn-follower-reads-"));
  const cluster = await ProcessCluster.start(directory, IDS, ["--tick-ms", "60"]);
  onTestFinished(async () => {
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  });
  let answered = 0;
  let readAtFollowers = 0;
  let isOver = false;

  /** Calls that fail are of no interest: their node, or the leader, is gone. */
  const at = <Answer>(id: string, call: (kv: ClusterProcess["kv"]) => Promise<Answer>): Promise<Answer | undefined> => {
    const node = cluster.running.get(id);
    return node === undefined
      ? new Promise((resolve) => setImmediate(() => resolve(undefined)))
      : call(node.kv).catch(() => undefined);
  };
  const write = async () => {
    for (let value = 1; !isOver; value++) {
      const put = await at(IDS[value % 3]!, (kv) => kv.put({ key, value: Buffer.from(`${value}`) }, PATIENCE));
      if (put !== undefined) answered = value;
    }
  };
  const read = async (id: string) => {
    while (!isOver) {
      const least = answered;
      const found = await at(id, (kv) => kv.get({ key }, PATIENCE));
      if (found === undefined) continue;
      if (found.header!.nodeId !== found.header!.leaderId) readAtFollowers++;
      expect(Number(Buffer.from(found.kv?.value ?? []).toString())).toBeGreaterThanOrEqual(least);
    }
  };
  const untilCalled = () => {
    const [writes, reads] = [answered + CALLS, readAtFollowers + CALLS];
    return until(() => answered >= writes && readAtFollowers >= reads, "clients have written, and read at followers");
  };
  const disturb = async () => {
    try {
      for (const change of ["transfer", "kill"] as const) {
        const [writes, reads] = [answered + CALLS, readAtFollowers + CALLS];
        await until(
          () => answered >= writes && readAtFollowers >= reads,
          "clients have written, and read at followers",
        );
        const leader = await cluster.leader();
        if (change === "transfer") await leader.admin.transferLeadership({}, PATIENCE).catch(() => {});
        else {
          await cluster.kill(leader.id);
          await cluster.startFounder(leader.id);
        }
      }
      await untilCalled();
    } finally {
      isOver = true;
    }
  };
  await cluster.leader();
  await Promise.all([write(), disturb(), ...IDS.flatMap((id) => [read(id), read(id)])]);
});
