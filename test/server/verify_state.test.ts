import { expect, test } from "vitest";
import type { VerifyStateResponse } from "../../gen/cairn/v1/admin_pb.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import type { Entry } from "../../src/raft/types.js";
import { failure, until } from "../support/conditions.js";
import { putCommand, putEntry } from "../support/nodes/acting_leader.js";
import { Cluster } from "../support/nodes/served_cluster.js";
import { serve } from "../support/nodes/served_node.js";

const THREE = ["n1", "n2", "n3"];

/** Takes what is put into the key "x" for something else. */
class WrongMachine extends MemoryMachine {
  override apply(entries: readonly Entry[]) {
    const wrong = putEntry(1).data;
    const isX = ({ data }: Entry) => Buffer.from(data).equals(putCommand("x", "1"));
    return super.apply(entries.map((entry) => (isX(entry) ? { ...entry, data: wrong } : entry)));
  }
}

const wrong = { openMachine: async () => new WrongMachine() };

function shortOf({ digests }: VerifyStateResponse): string[] {
  return digests.map(({ nodeId, sha256, differs, error }) => {
    expect(sha256.byteLength).toBe(error === "" ? 32 : 0);
    return `${nodeId} ${differs ? "differs" : error === "" ? "same" : error}`;
  });
}

test("VerifyState finds the same state on all members, whichever is asked", async () => {
  const cluster = await Cluster.of(THREE);
  const { node } = await cluster.leader();
  for (let at = 0; at < 20; at++) await node.propose(putCommand(`k${at}`, "1"));
  for (const id of THREE) {
    const found = await cluster.get(id).admin.verifyState({});
    expect(found).toMatchObject({ allEqual: true });
    expect(shortOf(found)).toEqual(THREE.map((each) => `${each} same`));
    expect(found.index).toBeGreaterThanOrEqual(21n);
    // It is the digest of a snapshot that each of them has.
    for (const { node } of cluster.members.values()) {
      const info = node.snapshots.list().find(({ index }) => index === Number(found.index));
      expect(Buffer.from(info!.sha256)).toEqual(Buffer.from(found.digests[0]!.sha256));
    }
  }
});

test("VerifyState names a member with another state, even when it is asked itself, or a snapshot was taken before the change", async () => {
  const cluster = await Cluster.of(["n1", "n2"]);
  const { node, admin } = await cluster.leader();
  await cluster.start("n3");
  await node.changeMembership({ type: "add_learner", id: "n3", address: "n3:1" });
  expect((await admin.verifyState({})).allEqual).toBe(true);
  await cluster.start("n4", wrong);
  await node.changeMembership({ type: "add_learner", id: "n4", address: "n4:1" });
  expect((await admin.verifyState({})).allEqual).toBe(true);
  await node.propose(putCommand("x", "1"));
  for (const { admin } of cluster.members.values()) {
    const found = await admin.verifyState({});
    expect(found.allEqual).toBe(false);
    expect(shortOf(found)).toEqual(["n1 same", "n2 same", "n3 same", "n4 differs"]);
  }
});

test("VerifyState finds no majority when two members differ", async () => {
  const cluster = await Cluster.of(["n1"]);
  await cluster.start("n2", wrong);
  const { node, admin } = cluster.get("n1");
  await node.changeMembership({ type: "add_learner", id: "n2", address: "n2:1" });
  await node.propose(putCommand("x", "1"));
  const found = await admin.verifyState({});
  expect([found.allEqual, ...shortOf(found)]).toEqual([false, "n1 differs", "n2 differs"]);
});

test("VerifyState reports a silent member with the reason, and compares the others", async () => {
  const cluster = await Cluster.of(THREE);
  const { node, admin } = await cluster.leader();
  await node.propose(putCommand("x", "1"));
  const gone = (await cluster.follower()).id;
  await cluster.crash(gone);
  const found = await admin.verifyState({});
  expect(found.allEqual).toBe(false);
  expect(shortOf(found)).toEqual(
    THREE.map((id) => expect.stringMatching(id === gone ? /cannot be reached/ : / same$/)),
  );
});

test("VerifyState starts again where a member has moved on during writes and snapshots", async () => {
  const cluster = await Cluster.of(THREE, { snapshots: { entries: 25 }, trailingLogBytes: 0 });
  const { node, admin } = await cluster.leader();
  let stop = false;
  const writing = (async () => {
    for (let at = 0; !stop; at++) await node.propose(putCommand(`k${at % 50}`, `${at}`));
  })();
  await until(() => node.machine.appliedIndex > 200, "writes go on");
  const found = await admin.verifyState({});
  stop = true;
  await writing;
  expect(shortOf(found).filter((each) => each.endsWith("differs"))).toEqual([]);
  expect(found.digests.filter(({ sha256 }) => sha256.byteLength > 0).length).toBeGreaterThan(0);
  expect(shortOf(await admin.verifyState({}))).toEqual(THREE.map((id) => `${id} same`));
});

test("VerifyState compares the members that it reaches without a leader", async () => {
  const cluster = await Cluster.of(THREE);
  const { id } = await cluster.follower();
  const { index } = await (await cluster.leader()).node.propose(putCommand("x", "1"));
  await cluster.get(id).node.waitApplied(index);
  await cluster.get(id).node.takeSnapshot({});
  for (const other of THREE) if (other !== id) await cluster.crash(other);
  const { node, admin } = cluster.get(id);
  await until(() => node.raft.leader === undefined, "no leader");
  const found = await admin.verifyState({});
  expect(shortOf(found)).toEqual(THREE.map((each) => (each === id ? `${id} same` : expect.stringMatching(/reached/))));
});

test("VerifyState finds a single node equal to itself, and ends when its caller gives up", async () => {
  const { node, admin } = await serve({ lead: true });
  await node.propose(putCommand("x", "1"));
  expect(await admin.verifyState({})).toMatchObject({ allEqual: true, index: BigInt(node.machine.appliedIndex) });
  await failure("TIMEOUT", admin.verifyState({}, { timeoutMs: 0 }));
});
