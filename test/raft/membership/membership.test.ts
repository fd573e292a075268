import { describe, expect, test } from "vitest";
import { MembershipHistory, votersOf } from "../../../src/raft/membership/membership.js";
import { append, configuration, install, settle, startNode, voters } from "../../support/nodes/core.js";

const base = { index: 0, members: voters("n1") };
const second = { index: 4, members: voters("n1", "n2") };
const third = { index: 9, members: voters("n1", "n2", "n3") };

function history(): MembershipHistory {
  const memberships = new MembershipHistory(base);
  memberships.append(second);
  memberships.append(third);
  return memberships;
}

describe("the memberships of a log", () => {
  test("are each in force from their own entry to the next one's", () => {
    const memberships = history();
    expect(memberships.latest).toBe(third);
    expect([0, 3, 4, 8, 9, 100].map((index) => memberships.at(index))).toEqual([
      base,
      base,
      second,
      second,
      third,
      third,
    ]);
    expect(memberships.after(4)).toEqual([third]);
    expect(memberships.after(3)).toEqual([second, third]);
  });

  test("give way to the one before when their entry is removed", () => {
    const memberships = history();
    memberships.truncateAfter(8);
    expect(memberships.latest).toBe(second);
    memberships.truncateAfter(0);
    expect(memberships.latest).toBe(base);
  });

  test("stay in force inside the trimmed range (R10)", () => {
    const memberships = history();
    memberships.trimTo(3);
    expect(memberships.at(3)).toBe(base);
    memberships.trimTo(6);
    expect(memberships.at(6)).toBe(second);
    expect(memberships.at(9)).toBe(third);
    memberships.trimTo(20);
    expect(memberships.at(20)).toBe(third);
    expect(() => memberships.at(8)).toThrow("a membership is known at every index of the log");
  });

  test("come in the order of the log", () => {
    expect(() => history().append({ index: 9, members: [] })).toThrow("in the order of the log");
  });

  test("count no vote of learners", () => {
    expect(votersOf([...voters("n1", "n2"), { id: "n3", address: "", role: "learner" }])).toEqual(["n1", "n2"]);
  });
});

describe("the membership of a node", () => {
  test("is in force as soon as it is in the log, committed or not (Raft section 6)", () => {
    const raft = startNode();
    raft.step(append({ entries: [configuration(1, 1, voters("n1", "n2"))] }));
    expect(raft.membership).toEqual({ index: 1, members: voters("n1", "n2") });
    expect(raft.log.commit).toBe(0);
  });

  test("is no longer in force when a later leader replaces it", () => {
    const raft = startNode();
    raft.step(append({ entries: [configuration(1, 1, voters("n1", "n2"))] }));
    raft.step(append({ entries: [configuration(1, 2, voters("n1", "n3"))] }));
    expect(raft.membership).toEqual({ index: 1, members: voters("n1", "n3") });
  });

  test("stays in force inside the trimmed range, and the next snapshot inherits it (R10)", () => {
    const raft = startNode();
    const members = voters("n1", "n2");
    raft.step(append({ entries: [configuration(1, 1, members), ...noOps(2, 3)], commit: 3 }));
    settle(raft);
    expect(raft.snapshotTaken({ index: 2, term: 1 }, 2)).toBe(true);
    expect(raft.log.boundary.index).toBe(2);
    expect(raft.membership).toEqual({ index: 1, members });
    expect(raft.membershipAt(3)).toEqual({ index: 1, members });
    expect(raft.snapshotTaken({ index: 3, term: 1 }, 3)).toBe(true);
    expect(raft.membershipAt(3)).toEqual({ index: 1, members });
  });

  test("comes with a snapshot, and later ones stay in force when their entries stay", () => {
    const raft = startNode();
    const [early, late] = [voters("n1", "n2"), voters("n1", "n2", "n3")];
    raft.step(append({ entries: [configuration(1, 1, early), ...noOps(2, 2), configuration(3, 1, late)] }));
    raft.step(install([2, 1], { leaderTerm: 2, membership: { index: 1, members: early } }));
    expect(raft.membership).toEqual({ index: 3, members: late });
    expect(raft.membershipAt(2)).toEqual({ index: 1, members: early });
  });

  test("is dropped with the log when a snapshot drops it", () => {
    const raft = startNode();
    raft.step(append({ entries: [...noOps(1, 2), configuration(3, 1, voters("n1", "n9"))] }));
    raft.step(install([2, 2], { membership: { index: 1, members: voters("n1", "n2") } }));
    expect(raft.membership).toEqual({ index: 1, members: voters("n1", "n2") });
  });

  test("is refused when it is not valid, and nothing changes", () => {
    const raft = startNode();
    raft.step(append({ entries: noOps(1, 2) }));
    settle(raft);
    const garbled = { index: 2, term: 2, type: "configuration", data: new Uint8Array([1, 2, 3]) } as const;
    raft.step(append({ prev: [0, 0], entries: [...noOps(1, 1), garbled], commit: 2 }));
    const [answer] = settle(raft).messages;
    expect(answer).toMatchObject({ rejection: { reason: "safety", detail: expect.stringContaining("entry 2") } });
    expect(raft.log.last).toEqual({ index: 2, term: 1 });
    expect(raft.log.commit).toBe(0);
  });
});

function noOps(first: number, last: number) {
  const entries = [];
  for (let index = first; index <= last; index++) {
    entries.push({ index, term: 1, type: "no-op", data: new Uint8Array() } as const);
  }
  return entries;
}
