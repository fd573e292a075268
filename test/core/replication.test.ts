import { describe, expect, test } from "vitest";
import { accept, commands, elected, refuse, settle } from "./support.js";

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
