import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ProcessCluster } from "../support/processes/process_cluster.js";
import { base64, onlyAnswer } from "./suite.js";
import type { Json, Tool } from "./tool.js";

const KV = "cairn.v1.KeyValueService";
const ADMIN = "cairn.v1.AdminService";
const RAFT = "cairn.v1.RaftService";

/** What a tool that knows nothing but addresses can do with a live cluster. */
export function clusterSuite(tool: Tool, options: { readonly skip?: boolean } = {}): void {
  describe.skipIf(options.skip ?? false)(`${tool.name} with a cluster of three`, () => {
    let directory: string;
    let cluster: ProcessCluster;
    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), "cairn-interop-"));
      // The tools do not look for another leader: no process may stall for so long that there is one.
      const args = ["--tick-ms", "300", "--trailing-log-bytes", "0"];
      cluster = await ProcessCluster.start(directory, ["n1", "n2", "n3"], args);
    });
    afterAll(async () => {
      await cluster?.close();
      await rm(directory, { recursive: true, force: true });
    });

    const ask = (address: string, method: string, ...messages: Json[]) =>
      onlyAnswer(tool, address, method, ...messages);

    const incarnationOf = async (id: string) =>
      (await ask(cluster.get(id).address, `${ADMIN}/GetStatus`, {})).incarnation;

    test("finds every node by reflection, and all name the same leader", async () => {
      const { id, admin } = await cluster.leaderOfAll();
      const { clusterId } = await admin.getStatus({});
      expect(clusterId).toMatch(/^[0-9a-f]{32}$/);
      for (const { address, id: nodeId } of cluster.running.values()) {
        expect(await tool.listServices(address)).toContain(KV);
        const status = await ask(address, `${ADMIN}/GetStatus`, {});
        expect(status).toMatchObject({ clusterId, nodeId, leaderId: id });
        expect((status.bootstrapMembers as { members: Json[] }).members.map((member) => member.id)).toEqual([
          ...["n1", "n2", "n3"],
        ]);
      }
    });

    test("writes and reads through the leader, and reads a follower's data", async () => {
      const leader = await cluster.leader();
      const follower = (await cluster.followers())[0]!;
      const put = await ask(leader.address, `${KV}/Put`, { key: base64("k/1"), value: base64("one") });
      await ask(leader.address, `${KV}/Put`, { key: base64("k/2"), value: base64("two") });
      const { kv } = await ask(leader.address, `${KV}/Get`, { key: base64("k/1") });
      expect(kv).toMatchObject({ value: base64("one"), version: put.version });
      const stale = { key: base64("k/1"), stale: true, minAppliedIndex: put.version };
      expect((await ask(follower.address, `${KV}/Get`, stale)).kv).toEqual(kv);
      const { kvs } = await ask(leader.address, `${KV}/Range`, { prefix: base64("k/") });
      expect((kvs as Json[]).map((each) => each.key)).toEqual([base64("k/1"), base64("k/2")]);
    });

    test("takes a snapshot on a follower that equals the leader's", async () => {
      const index = String(await cluster.settled());
      const digests: unknown[] = [];
      for (const { address } of cluster.running.values()) {
        const { snapshot, taken } = await ask(address, `${ADMIN}/TakeSnapshot`, { index });
        expect({ snapshot, taken }).toMatchObject({ taken: true, snapshot: { index } });
        digests.push((snapshot as Json).sha256);
        expect(await ask(address, `${ADMIN}/GetLogInfo`, {})).toMatchObject({ snapshotIndex: index, lastIndex: index });
      }
      expect(new Set(digests).size).toBe(1);
    });

    test("hands leadership over, adds a member and removes it, and is told by a follower which node leads", async () => {
      const target = (await cluster.followers())[0]!.id;
      const { address } = await cluster.leader();
      const handed = await ask(address, `${ADMIN}/TransferLeadership`, { nodeId: target });
      expect(handed).toEqual({ leaderId: target });
      const leader = await cluster.leader();
      expect(leader.id).toBe(target);
      const learner = { nodeId: "n9", address: "127.0.0.1:1" };
      const { membership } = await ask(leader.address, `${ADMIN}/AddLearner`, learner);
      expect((membership as { members: Json[] }).members.at(-1)).toEqual({
        ...{ id: "n9", address: "127.0.0.1:1", role: "MEMBER_ROLE_LEARNER" },
      });
      const { progress } = await ask(leader.address, `${ADMIN}/GetStatus`, {});
      expect((progress as Json[]).map((each) => each.nodeId)).toContain("n9");
      const follower = (await cluster.followers())[0]!;
      const refused = await tool.call(follower.address, `${ADMIN}/RemoveMember`, [{ nodeId: "n9" }]);
      expect(refused).toMatchObject({ status: "UNAVAILABLE" });
      expect(refused.text).toContain(`the leader is ${target}`);
      const unready = await tool.call(leader.address, `${ADMIN}/PromoteLearner`, [{ nodeId: "n9" }]);
      expect(unready).toMatchObject({ status: "FAILED_PRECONDITION" });
      expect(unready.text).toContain("n9 has not caught up");
      await ask(leader.address, `${ADMIN}/RemoveMember`, { nodeId: "n9" });
    });

    test("has the entries of a deposed leader refused as Raft says, with nothing changed", async () => {
      const follower = (await cluster.followers())[0]!;
      const before = await ask(follower.address, `${ADMIN}/GetStatus`, {});
      expect(Number(before.term)).toBeGreaterThan(1);
      const sender = [...cluster.running.keys()].find((id) => id !== follower.id)!;
      const header = {
        ...{ protocolVersion: 2, clusterId: before.clusterId, senderId: sender, receiverId: follower.id },
        ...{ senderIncarnation: await incarnationOf(sender), receiverIncarnation: before.incarnation },
      };
      const entry = { index: "1", term: "1", type: "ENTRY_TYPE_COMMAND", data: base64("x") };
      const stale = { header, term: "1", leaderId: sender, entries: [entry], round: "5" };
      const answer = await ask(follower.address, `${RAFT}/AppendEntries`, stale);
      expect(answer).toMatchObject({
        term: before.term,
        rejection: "APPEND_ENTRIES_REJECTION_STALE_TERM",
        round: "5",
        detail: `term 1 is over, this node is in term ${before.term}`,
      });
      const after = await ask(follower.address, `${ADMIN}/GetStatus`, {});
      expect(after).toMatchObject({ term: before.term, leaderId: before.leaderId });
    });

    test("is told by a node what it is, though they share no cluster, and has a message for another directory refused (T1)", async () => {
      const { address, id } = await cluster.leader();
      const status = await ask(address, `${ADMIN}/GetStatus`, {});
      const asked = { protocolVersion: 2, name: "n9", receiverName: id };
      const introduced = await ask(address, `${RAFT}/Introduce`, asked);
      expect(introduced).toMatchObject({ name: id, incarnation: status.incarnation });
      expect(introduced.member).toMatchObject({ clusterId: status.clusterId, leaderName: id, leaderAddress: address });
      const header = { protocolVersion: 2, clusterId: status.clusterId, senderId: "n9", receiverId: id };
      const wrong = Buffer.alloc(16, 7).toString("base64");
      const vote = { header: { ...header, receiverIncarnation: wrong }, term: "1000000", candidateId: "n9" };
      const refused = await tool.call(address, `${RAFT}/RequestVote`, [vote]);
      expect(refused.status).toBe("FAILED_PRECONDITION");
      expect(refused.text).toContain("receiver_incarnation");
      expect((await ask(address, `${ADMIN}/GetStatus`, {})).term).toBe(status.term);
    });
  });
}
