import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import type { Raft } from "../../../src/raft/raft.js";
import {
  accept,
  appendsOf,
  elected,
  type NodeSetup,
  progressOf,
  propose,
  refuse,
  settle,
  toN2,
} from "../../support/nodes/core.js";

const MiB = 1024 * 1024;

/** Every entry is taken for one of `entryMiB`, and the snapshot for one of `snapshotMiB`. */
function sizesOf(entryMiB: number, snapshotMiB: number | undefined): NonNullable<NodeSetup["sizes"]> {
  return {
    logBytes: (first, last) => (last - first + 1) * entryMiB * MiB,
    snapshotBytes: () => (snapshotMiB === undefined ? undefined : snapshotMiB * MiB),
  };
}

/** n1 leads with ten entries and a snapshot of the first eight, of which the log has all. n2's log is found to end at `match`. */
function lagging(sizes: NodeSetup["sizes"], match = 1): Raft {
  const { raft, requests } = elected(["n2", "n3"], { terms: Array(10).fill(1), commit: 10, applied: 10, sizes });
  raft.snapshotTaken({ index: 8, term: 1 }, 0);
  raft.receive(accept(requests.find(({ to }) => to === "n3")!));
  raft.receive(refuse(requests.find(({ to }) => to === "n2")!, { conflictIndex: match + 1 }));
  // What is sent to find out is not counted on: n2 takes nothing of it in.
  raft.receive(accept(toN2(raft)[0]!, match));
  return raft;
}

/** The connection breaks, and n2 answers the next message with what it has. */
function reconnect(raft: Raft, match: number): void {
  raft.unreachable("n2");
  raft.receive(accept(toN2(raft)[0]!, match));
}

describe("a follower whose missing entries are all in the log", () => {
  test("gets the snapshot when that is smaller, and then the log behind it", () => {
    const raft = lagging(sizesOf(2, 10));
    expect(progressOf(raft, "n2")).toMatchObject({ state: "snapshot", match: 1 });
    const [send, ...others] = raft.takeSnapshotSends();
    expect([send, others]).toEqual([{ to: "n2", term: 2 }, []]);
    expect(toN2(raft).filter(({ entries }) => entries.length > 0)).toEqual([]);
    raft.snapshotSent(send!, { kind: "installed", matchIndex: 8 });
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 8 });
    expect(toN2(raft)).toMatchObject([{ prev: { index: 8 }, entries: { length: 3 } }]);
  });

  test.each([
    ["the snapshot is larger", sizesOf(2, 15)],
    ["they are the same", sizesOf(2, 14)],
    ["it is little", sizesOf(limits.snapshotInsteadBytes / 7 / MiB, 0)],
    ["the snapshot cannot be sent", sizesOf(100, undefined)],
    ["nothing is known of the sizes", undefined],
  ])("gets the log when %s", (_, sizes) => {
    const raft = lagging(sizes);
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 1 });
    expect(raft.takeSnapshotSends()).toEqual([]);
  });

  test("gets the log when it has every entry that the snapshot covers", () => {
    expect(progressOf(lagging(sizesOf(100, 5), 8), "n2")).toMatchObject({ state: "replicate", match: 8 });
    expect(progressOf(lagging(sizesOf(100, 5), 7), "n2")).toMatchObject({ state: "snapshot", match: 7 });
  });

  test("keeps waiting for its snapshot, whatever its heartbeats' answers say, and is sent it again after a failure", () => {
    const raft = lagging(sizesOf(2, 10));
    const [send] = raft.takeSnapshotSends();
    for (let tick = 0; tick < 3; tick++) {
      raft.tick();
      for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
    }
    expect(progressOf(raft, "n2")).toMatchObject({ state: "snapshot", match: 1 });
    raft.snapshotSent(send!, { kind: "failed" });
    for (let tick = 0; tick < 3; tick++) {
      raft.tick();
      for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
    }
    expect(raft.takeSnapshotSends()).toEqual([send]);
    expect(progressOf(raft, "n2")).toMatchObject({ state: "snapshot" });
  });

  test("resumes from the log as soon as it has the entries that the snapshot covers, however it got them", () => {
    const raft = lagging(sizesOf(2, 10));
    raft.tick();
    const [heartbeat] = toN2(raft);
    raft.receive(accept(heartbeat!, 7));
    expect(progressOf(raft, "n2")).toMatchObject({ state: "snapshot", match: 7 });
    raft.receive(accept(heartbeat!, 8));
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 8 });
  });
});

describe("a follower that gets the log", () => {
  /** The snapshot of the first eight entries is larger than they are, and one that is taken later is small. */
  function byLog(): Raft {
    let snapshotMiB = 15;
    const raft = lagging({ ...sizesOf(2, undefined), snapshotBytes: () => snapshotMiB * MiB });
    expect(progressOf(raft, "n2")?.state).toBe("replicate");
    snapshotMiB = 1;
    raft.snapshotTaken({ index: 10, term: 1 }, 0);
    return raft;
  }

  test("still gets it when a smaller snapshot appears and the connection breaks", () => {
    const raft = byLog();
    for (const match of [2, 3, 10]) {
      reconnect(raft, match);
      expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match });
    }
    expect(raft.takeSnapshotSends()).toEqual([]);
  });

  test("gets it until the log is trimmed", () => {
    const raft = byLog();
    reconnect(raft, 2);
    raft.trimLog(10);
    raft.unreachable("n2");
    settle(raft);
    expect(progressOf(raft, "n2")?.state).toBe("snapshot");
    expect(raft.takeSnapshotSends()).toHaveLength(1);
  });

  test("has that decided anew when it falls behind once more", () => {
    const raft = byLog();
    reconnect(raft, 11);
    propose(raft, 9);
    for (const request of appendsOf(settle(raft))) if (request.to === "n3") raft.receive(accept(request));
    settle(raft);
    expect(raft.log.applied).toBe(20);
    raft.snapshotTaken({ index: 20, term: 2 }, 0);
    reconnect(raft, 12);
    expect(progressOf(raft, "n2")).toMatchObject({ state: "snapshot", match: 12 });
  });
});

test("the log is trimmed as far as the newest snapshot allows, and never back", () => {
  const raft = lagging(undefined);
  raft.trimLog(5);
  expect(raft.log.boundary.index).toBe(5);
  raft.trimLog(3);
  expect(raft.log.boundary.index).toBe(5);
  expect(() => raft.trimLog(9)).toThrow("only what the snapshot covers is trimmed");
});
