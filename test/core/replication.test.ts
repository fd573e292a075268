import { describe, expect, test } from "vitest";
import { accept, appendsOf, commands, elected, progressOf, refuse, settle } from "./support.js";

const bytes = (text: string) => new TextEncoder().encode(text);

describe("entries that are no longer in memory", () => {
  /** n1 leads with ten entries that it has only on disk, and n2 lacks all but the first one. */
  function lagging() {
    const { raft, requests } = elected(["n2", "n3"], {
      terms: Array(10).fill(1),
      commit: 10,
      applied: 10,
      limits: { windowBytes: 0 },
    });
    raft.receive(accept(requests[1]!));
    settle(raft);
    raft.receive(refuse(requests[0]!, { conflictTerm: 0, conflictIndex: 2 }));
    return raft;
  }

  test("are asked for only as far as they are on disk", () => {
    const raft = lagging();
    // Not written yet, and not even handed out to be.
    raft.propose(bytes("a"));
    expect(raft.takeMessages().filter(({ to }) => to === "n2")).toEqual([]);
    expect(raft.log.persisted).toBe(11);
    expect(raft.takeLogReads()).toMatchObject([{ to: "n2", term: 2, first: 2, last: 11 }]);
  });

  test("that were trimmed while they were being read are not sent: the follower gets the snapshot", () => {
    const raft = lagging();
    raft.takeMessages();
    const [read] = raft.takeLogReads();
    raft.snapshotTaken({ index: 10, term: 1 }, 10);
    raft.entriesRead(read!, commands(2, [1, 1, 1]));
    expect(raft.takeMessages()).toEqual([]);
    expect(raft.takeSnapshotSends()).toEqual([{ to: "n2", term: 2 }]);
  });
});

describe("a follower that is ahead of the snapshot that it was to get", () => {
  /** n3 was to get the snapshot up to 6, and has committed that already. Its log starts at 1. */
  function ahead() {
    const setup = { boundary: { index: 6, term: 1 }, commit: 6, applied: 6 };
    const { raft, requests } = elected(["n2", "n3"], setup);
    raft.receive(refuse(requests[1]!, { conflictTerm: 0, conflictIndex: 2 }));
    settle(raft);
    const [send] = raft.takeSnapshotSends();
    expect(send).toEqual({ to: "n3", term: 2 });
    raft.tick();
    const heartbeat = appendsOf(settle(raft)).find(({ to }) => to === "n3")!;
    raft.snapshotSent(send!, { kind: "ahead", commitIndex: 6 });
    return { raft, heartbeat };
  }

  test("is asked where its log agrees from there on", () => {
    const { raft } = ahead();
    expect(appendsOf(settle(raft))).toMatchObject([{ to: "n3", prev: { index: 6, term: 1 } }]);
    expect(progressOf(raft, "n3")).toMatchObject({ state: "probe", match: 0, next: 7 });
  });

  test("is not sent another snapshot for its answer to an earlier heartbeat, which promises less", () => {
    const { raft, heartbeat } = ahead();
    const [probe] = appendsOf(settle(raft));
    expect(heartbeat.prev.index).toBe(0);
    raft.receive(accept(heartbeat, 0));
    settle(raft);
    expect(raft.takeSnapshotSends()).toEqual([]);
    raft.receive(accept(probe!));
    expect(progressOf(raft, "n3")).toMatchObject({ state: "replicate", match: 7 });
  });
});
