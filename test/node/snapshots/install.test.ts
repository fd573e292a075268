import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { TRAILER_BYTES } from "../../../src/encoding/snapshot_format.js";
import { IncomingSnapshot } from "../../../src/node/snapshots/receiver.js";
import { deferred, during, failure, isSettled, nextTurn } from "../../support/conditions.js";
import { holdCalls } from "../../support/disk/held_calls.js";
import {
  ActingLeader,
  contentsOf,
  putCommand,
  putEntries,
  readValue,
  type SnapshotFile,
  snapshotOf,
} from "../../support/nodes/acting_leader.js";
import { homes, MemoryHome, memoryHome } from "../../support/nodes/nodes.js";

const source = await snapshotOf(putEntries(1, 500, 2));
/** What a node holds after it has installed the source. */
const sourceContents = putEntries(1, 500)
  .map(({ index }) => `k${index}`)
  .sort()
  .map((key) => `${key}=2.${key.slice(1)}`);

describe.each(homes)("a snapshot that is installed with the $kind machine", ({ make }) => {
  test("becomes the state, and is kept after a restart and a crash", async () => {
    const home = await make();
    const node = await home.start();
    const leader = new ActingLeader(node, 3);
    const answer = await leader.install(source);
    expect(answer).toMatchObject({ outcome: "installed", matchIndex: 500, term: 3 });
    expect(contentsOf(node)).toEqual(sourceContents);
    expect(node.raft.log.boundary).toEqual({ index: 500, term: 2 });
    expect(node.raft.term).toBe(3);
    await leader.replicate(putEntries(501, 510, 3));
    await home.stop(node);
    const restarted = await home.start();
    expect(restarted.machine.appliedIndex).toBe(510);
    await home.crash(restarted);
    const again = await home.start();
    expect(again.machine.appliedIndex).toBe(510);
    expect(contentsOf(again)).toHaveLength(510);
    await again.snapshots.verify(again.snapshots.newest()!);
  });

  test("keeps the entries behind it when the log has its last entry with the same term (R4)", async () => {
    const home = await make();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    await leader.append(putEntries(1, 520, 2), 100);
    await node.waitApplied(100);
    expect((await leader.install(source)).outcome).toBe("installed");
    expect(node.raft.log.boundary.index).toBe(500);
    expect(node.raft.log.last.index).toBe(520);
    await home.stop(node);
    const restarted = await home.start();
    expect(restarted.raft.log.last).toEqual({ index: 520, term: 2 });
    await new ActingLeader(restarted, 2).append([], 520);
    await restarted.waitApplied(520);
    expect(readValue(restarted, "k520")).toBe("2.520");
  });

  test("replaces the whole log when the log has another term at its index (R4)", async () => {
    const home = await make();
    const node = await home.start();
    await new ActingLeader(node, 1).append(putEntries(1, 520, 1), 0);
    expect((await new ActingLeader(node, 3).install(source)).outcome).toBe("installed");
    expect(node.raft.log.last).toEqual({ index: 500, term: 2 });
    await home.stop(node);
    const restarted = await home.start();
    expect(restarted.raft.log.last).toEqual({ index: 500, term: 2 });
    expect(contentsOf(restarted)).toEqual(sourceContents);
  });

  test("leaves ranges that are being read with the state that they began with", async () => {
    const home = await make();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    await leader.replicate(putEntries(1, 100, 1));
    const ranges = Array.from({ length: 3 }, () => node.machine.range());
    const heads = ranges.map((range) => range.next().value!.version);
    expect((await leader.install(source)).outcome).toBe("installed");
    expect(heads).toEqual([1, 1, 1]);
    for (const range of ranges)
      expect([...range].map(({ version }) => version).every((version) => version <= 100)).toBe(true);
    expect([...node.machine.range()]).toHaveLength(500);
  });

  test("shows a reader the old state or the new one, never a mixture", async () => {
    const home = await make();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    await leader.replicate(putEntries(1, 100, 1));
    if (home instanceof MemoryHome) home.disk.onCall = nextTurn;
    const installed = leader.install(source);
    const seen = new Set<string>();
    const look = () => {
      const keys = [...node.machine.range()].length;
      seen.add(`${readValue(node, "k1")} ${readValue(node, "k500")} ${node.machine.appliedIndex} ${keys}`);
    };
    await during(installed, look);
    look();
    expect([...seen]).toEqual(["1.1 undefined 100 100", "2.1 2.500 500 500"]);
  });
});

/** Nothing is left of a transfer, and the node works on. */
async function expectUnharmed(home: MemoryHome, leader: ActingLeader): Promise<void> {
  expect(await home.leftovers()).toEqual([]);
  expect(await home.snapshotFiles()).toEqual([]);
  expect(home.disk.openFiles.filter((path) => !path.includes("/wal/"))).toEqual([]);
  const { node } = leader;
  const { last } = node.raft.log;
  const next = last.index + 1;
  const present = new ActingLeader(node, Math.max(leader.term, node.raft.term) + 1);
  // An entry of an earlier leader: no leader has a snapshot of a lower term than an entry below it.
  await present.replicate(putEntries(next, next, Math.max(last.term, 1)));
  expect((await present.install(source)).outcome).toBe("installed");
}

describe("an offer of a snapshot is refused", () => {
  test("when its term is stale", async () => {
    const home = memoryHome();
    const node = await home.start();
    const leader = new ActingLeader(node, 5);
    await leader.replicate(putEntries(1, 3, 2));
    expect(await node.receiver.accept(new ActingLeader(node, 4).offerOf(source))).toMatchObject({
      reason: "stale_term",
      detail: "term 4 is over, this node is in term 5",
    });
    await expectUnharmed(home, leader);
  });

  test("with the true position when its index is committed here (R3)", async () => {
    const home = memoryHome();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    await leader.replicate(putEntries(1, 500, 2));
    const refusal = await node.receiver.accept(leader.offerOf(source));
    expect(refusal).toMatchObject({
      reason: "already_committed",
      detail: "index 500 is committed here already, up to 500",
    });
    expect(await home.leftovers()).toEqual([]);
  });

  test("while another snapshot of the same term is being received", async () => {
    const home = memoryHome();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    const first = await leader.offer(source);
    expect(await node.receiver.accept(leader.offerOf(source))).toMatchObject({
      reason: "busy",
      detail: "this node is receiving a snapshot up to index 500 from n9",
    });
    await leader.send(first, source);
    expect((await first.finish()).outcome).toBe("installed");
  });

  test("when two are made at the same moment", async () => {
    const home = memoryHome();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    const answers = await Promise.all([
      node.receiver.accept(leader.offerOf(source)),
      node.receiver.accept(leader.offerOf(source)),
    ]);
    expect(answers.map((answer) => answer instanceof IncomingSnapshot)).toEqual([true, false]);
    await (answers[0] as IncomingSnapshot).abort();
    await expectUnharmed(home, leader);
  });

  test("when no file can fulfil it", async () => {
    const home = memoryHome();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    for (const wrong of [{ fileBytes: 1 }, { sha256: new Uint8Array(31) }, { term: 0 }]) {
      await failure("INVALID_ARGUMENT", node.receiver.accept({ ...leader.offerOf(source), ...wrong }));
    }
    await expectUnharmed(home, leader);
  });

  test("when there is no room", async () => {
    const home = memoryHome();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    home.disk.failCall("open", 1, new CairnError("DISK_FULL", "no space left"));
    expect(await node.receiver.accept(leader.offerOf(source))).toMatchObject({
      reason: "no_space",
      detail: "no space left",
    });
    await expectUnharmed(home, leader);
  });
});

describe("a transfer that ends before the first whole chunk leaves no file", () => {
  const half = 300;
  const cases: readonly {
    what: string;
    code: "STALE_TERM" | "INVALID_ARGUMENT" | "CORRUPT" | "WRONG_CLUSTER";
    text: string;
    offered?: Partial<SnapshotFile>;
    send: (incoming: IncomingSnapshot, file: Buffer) => Promise<unknown>;
  }[] = [
    {
      what: "of another term",
      code: "STALE_TERM",
      text: "chunk of term 1 in a transfer of term 2",
      send: (incoming, file) => incoming.write(1, half, file.subarray(half)),
    },
    {
      what: "behind a gap",
      code: "INVALID_ARGUMENT",
      text: `expected offset ${half}`,
      send: (incoming, file) => incoming.write(2, half + 1, file.subarray(half + 1)),
    },
    {
      what: "sent twice",
      code: "INVALID_ARGUMENT",
      text: `expected offset ${half}`,
      send: (incoming, file) => incoming.write(2, 0, file.subarray(0, half)),
    },
    {
      what: "beyond the offered size",
      code: "INVALID_ARGUMENT",
      text: "as offered",
      send: (incoming, file) => incoming.write(2, half, Buffer.concat([file.subarray(half), Buffer.of(1)])),
    },
    {
      what: "with a flipped bit",
      code: "CORRUPT",
      text: "",
      send: async (incoming, file) => {
        const flipped = Buffer.from(file.subarray(half));
        flipped[100]! ^= 1;
        await incoming.write(2, half, flipped);
        await incoming.finish();
      },
    },
    {
      what: "with another digest than offered",
      code: "CORRUPT",
      text: "offered",
      offered: { sha256: new Uint8Array(32) },
      send: async (incoming, file) => {
        await incoming.write(2, half, file.subarray(half));
        await incoming.finish();
      },
    },
    {
      what: "of another index than offered",
      code: "INVALID_ARGUMENT",
      text: "offer it as what it is",
      offered: { index: 501 },
      send: (incoming, file) => incoming.write(2, half, file.subarray(half)),
    },
  ];

  test.each(cases)("when a chunk comes $what", async ({ code, text, offered, send }) => {
    const home = memoryHome();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    const incoming = await leader.offer({ ...source, ...offered });
    await failure(
      code,
      async () => {
        await incoming.write(2, 0, source.file.subarray(0, half));
        await send(incoming, source.file);
      },
      text,
    );
    // The transfer has ended by itself: there is room for the next.
    await expectUnharmed(home, leader);
  });

  test("when a chunk comes from another cluster", async () => {
    const home = memoryHome();
    const leader = new ActingLeader(await home.start(), 2);
    await failure("WRONG_CLUSTER", leader.install(await snapshotOf(putEntries(1, 20), { clusterId: "other" })));
    await expectUnharmed(home, leader);
  });

  test("when its leader is deposed in the middle of it (R7)", async () => {
    const home = memoryHome();
    const node = await home.start();
    const leader = new ActingLeader(node, 2);
    const incoming = await leader.offer(source);
    await leader.send(incoming, source, half);
    await new ActingLeader(node, 4, "n8").append([], 0, { index: 0, term: 0 });
    await failure(
      "STALE_TERM",
      incoming.write(2, half, source.file.subarray(half)),
      "term 2 is over, this node is in term 4",
    );
    await expectUnharmed(home, leader);
  });
});

test("a snapshot whose leader is deposed right before the installation is refused, and kept for the next leader", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 2);
  const incoming = await leader.offer(source);
  await leader.send(incoming, source);
  await new ActingLeader(node, 4, "n8").append([], 0, { index: 0, term: 0 });
  expect(await incoming.finish()).toMatchObject({ outcome: "stale_term", term: 4 });
  expect(await home.leftovers()).toEqual([]);
  const next = new ActingLeader(node, 5, "n8");
  const resumed = await next.offer(source);
  expect(resumed.resumedBytes).toBe(source.file.byteLength - TRAILER_BYTES);
  await next.send(resumed, source);
  expect((await resumed.finish()).outcome).toBe("installed");
  expect(await home.receivedParts()).toEqual([]);
});

test("a snapshot that the node passed during the transfer is not installed", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 2);
  const incoming = await leader.offer(source);
  await leader.send(incoming, source);
  await leader.replicate(putEntries(1, 505, 2));
  expect(await incoming.finish()).toMatchObject({ outcome: "already_committed", matchIndex: 505 });
  expect(node.machine.appliedIndex).toBe(505);
  expect(await home.snapshotFiles()).toEqual([]);
});

test("a newer leader's snapshot replaces one whose sender hangs", async () => {
  const home = memoryHome();
  const node = await home.start();
  const hanging = new ActingLeader(node, 2);
  const incoming = await hanging.offer(source);
  await hanging.send(incoming, source, 1000);
  const newer = new ActingLeader(node, 3, "n8");
  expect((await newer.install(source)).outcome).toBe("installed");
  await failure("STALE_TERM", incoming.write(2, 1000, source.file.subarray(1000)));
  await incoming.abort();
  expect(node.machine.appliedIndex).toBe(500);
});

test("a snapshot that is being installed is not replaced, and abort waits for the installation", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 2);
  const incoming = await leader.offer(source);
  await leader.send(incoming, source);
  const hold = holdCalls(home.disk, ({ kind, path }) => kind === "rename" && path.endsWith(".part"));
  const finished = incoming.finish();
  await hold.reached("the snapshot is being published");
  const aborted = incoming.abort();
  const larger = await snapshotOf(putEntries(1, 510, 2));
  expect(await node.receiver.accept(new ActingLeader(node, 3, "n8").offerOf(larger))).toMatchObject({ reason: "busy" });
  expect(await isSettled(aborted)).toBe(false);
  hold.resolve();
  expect((await finished).outcome).toBe("installed");
  await aborted;
  expect((await new ActingLeader(node, 3, "n8").install(larger)).outcome).toBe("installed");
});

test("proposals that an installed snapshot covers are answered as unknown (R12)", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  const hold = deferred();
  home.disk.onCall = ({ kind, path }) => (kind === "datasync" && path.includes("/wal/") ? hold.promise : undefined);
  const writes = Array.from({ length: 5 }, (_, at) => node.propose(putCommand(`mine${at}`, "v")));
  const outcomes = Promise.all(
    writes.map((write) =>
      write.then(
        () => "done",
        (error) => error.code as string,
      ),
    ),
  );
  // A newer leader, which does not have them, sends its snapshot.
  const deposed = new ActingLeader(node, 7, "n8").append([], 0, { index: 1, term: 1 });
  const installed = new ActingLeader(node, 7, "n8").install(source);
  home.disk.onCall = undefined;
  hold.resolve();
  await deposed;
  expect((await installed).outcome).toBe("installed");
  expect(await outcomes).toEqual(Array.from({ length: 5 }, () => "OUTCOME_UNKNOWN"));
  expect(contentsOf(node)).toEqual(sourceContents);
});

test("a caller that waits for an index is released by an installed snapshot that covers it", async () => {
  const node = await memoryHome().start();
  const waiting = node.waitApplied(450);
  await new ActingLeader(node, 2).install(source);
  await waiting;
});

test("entries that arrive while a snapshot is being installed are kept and applied behind it", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 2);
  const hold = holdCalls(home.disk, ({ kind, path }) => kind === "rename" && path.endsWith(".part"));
  const installed = leader.install(source);
  await hold.reached("the snapshot is being published");
  const appended = leader.append(putEntries(501, 520, 2), 510, { index: 500, term: 2 });
  expect(await isSettled(appended)).toBe(false);
  hold.resolve();
  expect((await installed).outcome).toBe("installed");
  expect(await appended).toMatchObject({ matchIndex: 520 });
  await node.waitApplied(510);
  await home.stop(node);
  const restarted = await home.start();
  expect(restarted.raft.log.last.index).toBe(520);
  expect(restarted.machine.appliedIndex).toBeGreaterThanOrEqual(510);
});

test("a node does not campaign while it installs a snapshot (R13)", async () => {
  const home = memoryHome();
  const node = await home.start();
  const hold = holdCalls(home.disk, ({ kind, path }) => kind === "rename" && path.endsWith(".part"));
  const installed = new ActingLeader(node, 2).install(source);
  await hold.reached("the snapshot is being published");
  await failure("FAILED_PRECONDITION", node.campaign(), "the snapshot up to 500 is not installed yet");
  hold.resolve();
  await installed;
  expect(await node.campaign()).toBe(3);
});
