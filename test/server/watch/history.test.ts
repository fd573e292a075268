import { describe, expect, test } from "vitest";
import { until } from "../../support/conditions.js";
import { ActingLeader, bytes, putEntries, snapshotOf } from "../../support/nodes/acting_leader.js";
import { diskHome, homes, memoryHome } from "../../support/nodes/nodes.js";
import { Cluster } from "../../support/nodes/served_cluster.js";
import { serveNode } from "../../support/nodes/served_node.js";
import { RawWatch } from "./watch_support.js";

type Kv = Awaited<ReturnType<typeof serveNode>>["kv"];

/** Writes so much that the first entries are no longer in memory. Returns the last index. */
async function writeMuch(kv: Kv, count = 60): Promise<number> {
  let last = 0n;
  for (let at = 0; at < count; at++) {
    const { version } = await kv.put({ key: bytes(`k${at % 7}`), value: Buffer.alloc(2_000, `${at}`) });
    last = version;
    if (at % 10 === 9) await kv.delete({ key: bytes("k3") });
  }
  return Number(last);
}

const SMALL_MEMORY = { limits: { windowBytes: 20_000 } };

describe.each(homes)("the history of a watch with the $kind machine", ({ make }) => {
  test("comes from the log on disk when memory no longer has it", async () => {
    const home = await make();
    const node = await home.startLeader(SMALL_MEMORY);
    const { kv } = await serveNode(node);
    const live = await new RawWatch(kv).reached(1);
    const last = await writeMuch(kv);
    await live.reached(last);
    expect(node.raft.log.firstInMemory).toBeGreaterThan(20);
    const resumed = await new RawWatch(kv, { startIndex: 2n }).reached(last);
    expect(resumed.changes).toEqual(live.changes);
  });

  test("ends where the log is trimmed, and the error says which index works", async () => {
    const home = await make();
    const node = await home.startLeader(SMALL_MEMORY);
    const { kv } = await serveNode(node);
    const last = await writeMuch(kv);
    await node.takeSnapshot({ keepLogBytes: 0 });
    const error = await new RawWatch(kv, { startIndex: 2n }).ended();
    expect(error).toMatchObject({ code: "OUT_OF_RANGE", oldestIndex: node.raft.log.boundary.index + 1 });
    const works = new RawWatch(kv, { startIndex: BigInt(error.oldestIndex!) });
    await works.reached(error.oldestIndex! - 1);
    await kv.put({ key: bytes("after"), value: bytes("v") });
    await works.reached(last + 2);
    expect(works.changes.at(-1)).toMatch(/ \+after=v$/);
  });

  test("ends at a snapshot that is installed over it, and a watch from behind that continues", async () => {
    const home = await make();
    const node = await home.start();
    const leader = new ActingLeader(node, 3);
    const { kv } = await serveNode(node);
    await leader.replicate(putEntries(1, 10, 2));
    const live = await new RawWatch(kv).reached(10);
    const behind = await new RawWatch(kv, { startIndex: 501n }).reached(500);
    const source = await snapshotOf(putEntries(1, 500, 2));
    expect(await leader.install(source)).toMatchObject({ outcome: "installed" });
    expect(await live.ended()).toMatchObject({ code: "OUT_OF_RANGE", oldestIndex: 501 });
    await leader.replicate(putEntries(501, 510, 3));
    await behind.reached(510);
    expect(behind.changes).toHaveLength(10);
  });
});

test("the history of a watch still exists after a crash of the process, and after a stop", async () => {
  const home = await diskHome();
  let node = await home.startLeader(SMALL_MEMORY);
  let served = await serveNode(node);
  const live = await new RawWatch(served.kv).reached(1);
  const last = await writeMuch(served.kv);
  await live.reached(last);
  await served.server.stop();
  await home.crash(node);
  for (const end of ["crash", "stop"] as const) {
    node = await home.start(SMALL_MEMORY);
    expect(node.recovery.stateRebuilt).toBe(false);
    served = await serveNode(node);
    const resumed = await new RawWatch(served.kv, { startIndex: 2n }).reached(last);
    expect(resumed.changes).toEqual(live.changes);
    await served.server.stop();
    await home[end](node);
  }
});

test("the history of a watch is rebuilt with the state after a power failure", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  const served = await serveNode(node);
  const live = await new RawWatch(served.kv).reached(1);
  const last = await writeMuch(served.kv, 20);
  await live.reached(last);
  await served.server.stop();
  const after = await home.powerCut();
  const again = await serveNode(await after.startLeader());
  const resumed = await new RawWatch(again.kv, { startIndex: 2n }).reached(last);
  expect(resumed.changes).toEqual(live.changes);
  await after.crashAll();
});

test("a watch resumes at another member without a gap or a repeat", async () => {
  const cluster = await Cluster.of(["n1", "n2", "n3"]);
  const follower = await cluster.follower();
  const leader = await cluster.leader();
  const first = new RawWatch(follower.kv);
  await until(() => first.through >= 0, "the watch has begun");
  const start = first.through;
  const put = async (key: string) => Number((await leader.kv.put({ key: bytes(key), value: bytes("v") })).version);
  await first.reached(await put("a"));
  await first.reached(await put("b"));
  first.stop();
  const last = await put("c");
  const second = await new RawWatch(leader.kv, { startIndex: BigInt(first.through + 1) }).reached(last);
  const whole = await new RawWatch(follower.kv, { startIndex: BigInt(start + 1) }).reached(last);
  expect([...first.changes, ...second.changes]).toEqual(whole.changes);
  expect(whole.changes.map((change) => change.replace(/^\d+ /, ""))).toEqual(["+a=v", "+b=v", "+c=v"]);
});

test("a client that reads late delays nobody, and gets everything from the history", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  const { kv } = await serveNode(node);
  const quick = await new RawWatch(kv).reached(1);
  const slow = kv.watch({})[Symbol.asyncIterator]();
  await slow.next();
  const value = Buffer.alloc(100_000);
  let last = 0;
  for (let at = 0; at < 100; at++) last = Number((await kv.put({ key: bytes("k"), value })).version);
  await quick.reached(last);
  // The slow one takes everything after all, in order, from the history.
  let next = 2n;
  while (next <= BigInt(last)) {
    const { value: answer } = await slow.next();
    for (const { index } of answer!.events) expect(index).toBe(next++);
  }
  await slow.return?.();
});
