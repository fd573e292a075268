import { describe, expect, test } from "vitest";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import type { Entry } from "../../../src/raft/types.js";
import type { KeyValueNode } from "../../../src/server/kv/key_value_node.js";
import type { Call, Keep } from "../../support/disk/faulty_fs.js";
import {
  ActingLeader,
  contentsOf,
  putCommand,
  putEntries,
  putEntry,
  readValue,
  snapshotOf,
} from "../../support/nodes/acting_leader.js";
import { MemoryHome, memoryHome, type NodeSettings } from "../../support/nodes/nodes.js";
import { seededRandom } from "../../support/random.js";

/** The log that is committed in the end: entries of term 1 up to 37, of term 3 up to 100, of term 4 behind. */
const committedLog: readonly Entry[] = Array.from({ length: 120 }, (_, at) => {
  const index = at + 1;
  return putEntry(index, index <= 37 ? 1 : index <= 100 ? 3 : 4);
});
const between = (first: number, last: number) => committedLog.slice(first - 1, last);
const snapshots = { at35: await snapshotOf(between(1, 35)), at100: await snapshotOf(between(1, 100)) };

/** Small segments, so that the log rolls and is trimmed. A node whose disk is gone stops by itself. */
const settings: NodeSettings = { segmentBytes: 2048, onFatal: () => {} };

/** What the node has promised. */
interface Promises {
  term: number;
  /** Candidate that got the vote of that term. */
  vote: string | undefined;
  /** The log agrees with the committed one up to here. */
  agreed: number;
  /** It has a snapshot at least as new as this. */
  snapshot: number;
}

/** Writes, votes, snapshots, trims, both kinds of installation, and a conflict, each waited for. */
async function scenario(home: MemoryHome, promises: Promises): Promise<void> {
  const node = await home.start(settings);
  await vote(node, promises, 1, "n7");
  const first = new ActingLeader(node, 1);
  await first.replicate(between(1, 12));
  promises.agreed = 12;
  await first.replicate(between(13, 24));
  promises.agreed = 24;
  await node.takeSnapshot({ index: 10, keepLogBytes: 0 });
  promises.snapshot = 10;
  await node.takeSnapshot({ keepLogBytes: 0 });
  promises.snapshot = 24;
  // Up to 37 these are the committed entries; 38 to 40 are lost to a newer leader.
  await first.append(putEntries(25, 40, 1), 28);
  promises.agreed = 37;
  expect((await first.install(snapshots.at35)).outcome).toBe("installed");
  promises.snapshot = 35;
  await vote(node, promises, 3, "n8");
  const second = new ActingLeader(node, 3);
  await second.append(between(38, 45), 40);
  promises.agreed = 45;
  const third = new ActingLeader(node, 4);
  expect((await third.install(snapshots.at100)).outcome).toBe("installed");
  Object.assign(promises, { term: 4, vote: undefined, agreed: 100, snapshot: 100 });
  await third.replicate(between(101, 110));
  promises.agreed = 110;
  await node.takeSnapshot({ keepLogBytes: 0 });
  promises.snapshot = 110;
  await home.stop(node);
}

async function vote(node: KeyValueNode, promises: Promises, term: number, candidate: string): Promise<void> {
  const last = { index: 1000, term };
  const answer = await node.requestVote({
    type: "request_vote",
    from: candidate,
    term,
    last,
    preVote: false,
    leadershipTransfer: false,
  });
  expect(answer).toMatchObject({ granted: true, term });
  Object.assign(promises, { term, vote: candidate });
}

/** The node starts, and keeps what it has promised. */
async function expectKept(home: MemoryHome, promises: Promises): Promise<void> {
  const node = await home.start(settings);
  const { raft } = node;
  expect(raft.term).toBeGreaterThanOrEqual(promises.term);
  expect(raft.log.last.index).toBeGreaterThanOrEqual(promises.agreed);
  for (let index = raft.log.boundary.index + 1; index <= promises.agreed; index++) {
    expect(raft.log.termAt(index), `term of entry ${index}`).toBe(committedLog[index - 1]!.term);
  }
  expect(raft.snapshot?.index ?? 0).toBeGreaterThanOrEqual(promises.snapshot);
  expect(node.machine.appliedIndex).toBeGreaterThanOrEqual(promises.snapshot);
  expect(contentsOf(node)).toEqual(contentsUpTo(node.machine.appliedIndex));
  expect(node.snapshots.damaged()).toEqual([]);
  for (const info of node.snapshots.list()) await node.snapshots.verify(info);
  expect(await home.leftovers()).toEqual([]);
  expect((await home.receivedParts()).length).toBeLessThanOrEqual(1);
  if (raft.term === promises.term && promises.vote !== undefined) {
    const last = { index: 1000, term: raft.term };
    const other = await node.requestVote({
      type: "request_vote",
      from: "other",
      term: raft.term,
      last,
      preVote: false,
      leadershipTransfer: false,
    });
    expect(other.granted, `a second vote in term ${raft.term}`).toBe(false);
  }
  await expectWorks(node);
  expect(await home.receivedParts(), "parts of an overtaken snapshot").toEqual([]);
  await home.stop(node);
}

function contentsUpTo(index: number): string[] {
  return between(1, index)
    .map((entry) => `k${entry.index}=${entry.term}.${entry.index}`)
    .sort((a, b) => (a.split("=")[0]! < b.split("=")[0]! ? -1 : 1));
}

/** A later leader brings the node up to the end of the log. */
async function expectWorks(node: KeyValueNode): Promise<void> {
  const leader = new ActingLeader(node, 9);
  const { boundary } = node.raft.log;
  await leader.replicate(between(boundary.index + 1, 120), boundary);
  expect(contentsOf(node)).toEqual(contentsUpTo(120));
  expect((await node.takeSnapshot({ keepLogBytes: 0 })).taken).toBe(true);
}

async function runUntilCut(cutAfter: number): Promise<{ home: MemoryHome; promises: Promises }> {
  const home = memoryHome();
  const promises: Promises = { term: 0, vote: undefined, agreed: 0, snapshot: 0 };
  home.disk.cutPowerAfter(cutAfter);
  await scenario(home, promises).then(
    () => expect(home.disk.powerIsOff).toBe(false),
    (error) => {
      if (!home.disk.powerIsOff) throw error;
    },
  );
  return { home, promises };
}

const whole = new MemoryHome();
await scenario(whole, { term: 0, vote: undefined, agreed: 0, snapshot: 0 });
const changes = whole.disk.changes;

describe(`a node survives power cuts at each of the ${changes} calls that change the disk`, () => {
  test.each(["none", "all", "random"] as const)("with this part of the unsynced data kept: %s", async (keep: Keep) => {
    for (let cut = 0; cut <= changes; cut++) {
      const { home, promises } = await runUntilCut(cut);
      const after = await home.powerCut(keep, seededRandom(cut));
      try {
        await expectKept(after, promises);
        await after.close();
      } catch (error) {
        throw new Error(`after a power cut in call ${cut}: ${String(error)}`, { cause: error });
      }
    }
  });
});

/** A snapshot to be installed by a leader of a newer term, over a node at 20 of 30. */
describe.each([
  ["dropping the log", await snapshotOf(between(1, 100))],
  ["keeping the entries behind it", await snapshotOf(between(1, 25))],
] as const)("a crash during an installation, %s (R8)", (_kind, snapshot) => {
  const leaderTerm = 6;

  async function installUntil(gap: { at?: (call: Call, isRenamed: boolean) => boolean; inRestore?: boolean }) {
    const home = memoryHome();
    class CutMachine extends MemoryMachine {
      override async restore(): Promise<void> {
        home.disk.crash({ keep: "none" });
        throw new Error("the power went off");
      }
    }
    const machine = gap.inRestore ? { openMachine: async () => new CutMachine() } : {};
    const node = await home.start({ ...settings, ...machine });
    await new ActingLeader(node, 1).append(putEntries(1, 30, 1), 20);
    await node.waitApplied(20);
    let isRenamed = false;
    home.cutPowerAt((call) => {
      const isNow = gap.at?.(call, isRenamed) === true;
      isRenamed ||= call.kind === "rename" && isPart(call);
      return isNow;
    });
    const installed = new ActingLeader(node, leaderTerm).install(snapshot);
    await expect(installed).rejects.toThrow();
    expect(home.disk.powerIsOff).toBe(true);
    return home;
  }

  async function expectState(home: MemoryHome, keep: Keep, applied: number, term: number): Promise<void> {
    const after = await home.powerCut(keep);
    const node = await after.start(settings);
    expect(node.machine.appliedIndex).toBe(applied);
    expect(contentsOf(node)).toEqual(contentsUpTo(applied));
    expect(node.raft.term).toBe(term);
    expect(node.raft.log.last.index).toBe(applied === 100 ? 100 : 30);
    await expectWorks(node);
    await after.close();
  }

  const isPart = ({ path }: Call) => path.endsWith(".part");

  test("before the snapshot is durable recovers the old state", async () => {
    const home = await installUntil({ at: (call) => call.kind === "datasync" && isPart(call) });
    await expectState(home, "none", 20, 1);
  });

  test("with the snapshot durable and the term not saved recovers the old state", async () => {
    const home = await installUntil({ at: ({ kind, path }) => kind === "datasync" && path.includes("/wal/") });
    await expectState(home, "none", 20, 1);
  });

  test("with snapshot and term durable and nothing published recovers the old state in the new term", async () => {
    const home = await installUntil({ at: (call) => call.kind === "rename" && isPart(call) });
    await expectState(home, "none", 20, leaderTerm);
  });

  test("with the snapshot renamed in memory only recovers the old state", async () => {
    const home = await installUntil({
      at: ({ kind }, isRenamed) => isRenamed && kind === "syncDirectory",
    });
    await expectState(home, "none", 20, leaderTerm);
  });

  test("with the snapshot renamed, and by luck on the disk, recovers the new state", async () => {
    const home = await installUntil({
      at: ({ kind }, isRenamed) => isRenamed && kind === "syncDirectory",
    });
    await expectState(home, "all", snapshot.index, leaderTerm);
  });

  test("with the snapshot published and the log not switched recovers the new state", async () => {
    let published = false;
    const home = await installUntil({
      at: ({ kind, path }, isRenamed) => {
        if (isRenamed && kind === "syncDirectory") published = true;
        return published && path.includes("/wal") && kind !== "read" && kind !== "size";
      },
    });
    await expectState(home, "none", snapshot.index, leaderTerm);
  });

  test.each(["none", "all"] as const)(
    "with the log switched and neither hard state nor state (unsynced: %s) recovers the new state",
    async (keep) => {
      const home = await installUntil({ inRestore: true });
      await expectState(home, keep, snapshot.index, leaderTerm);
    },
  );

  test("with everything but the hard state's commit recovers the new state", async () => {
    let restored = false;
    const home = memoryHome();
    class TellingMachine extends MemoryMachine {
      override async restore(...payload: Parameters<MemoryMachine["restore"]>): Promise<void> {
        await super.restore(...payload);
        restored = true;
      }
    }
    const node = await home.start({ ...settings, openMachine: async () => new TellingMachine() });
    await new ActingLeader(node, 1).append(putEntries(1, 30, 1), 20);
    await node.waitApplied(20);
    home.cutPowerAt(
      ({ kind, path }) => restored && path.includes("/wal/") && (kind === "write" || kind === "datasync"),
    );
    await new ActingLeader(node, leaderTerm).install(snapshot).catch(() => {});
    await expectState(home, "none", snapshot.index, leaderTerm);
  });
});

test("a power cut right after a single node answered its writes loses none of them", async () => {
  let home = memoryHome();
  for (let round = 1; round <= 20; round++) {
    const node = await home.startLeader({ onFatal: () => {} });
    for (let before = 1; before < round; before++) expect(readValue(node, `r${before}`)).toBe(`${before}`);
    expect(node.raft.term).toBe(round);
    await node.propose(putCommand(`r${round}`, `${round}`));
    home = await home.powerCut("none");
  }
});
