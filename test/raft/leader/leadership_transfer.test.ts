import { describe, expect, test } from "vitest";
import type { Raft } from "../../../src/raft/raft.js";
import { accept, appendsOf, bytes, settle, startLeaderOf, startNode, voters } from "../../support/nodes/core.js";

/** n1 leads n1, n2, n3 and the learner n4. */
function leader(setup: Parameters<typeof startNode>[0] = {}): Raft {
  const members = [...voters("n1", "n2", "n3"), { id: "n4", address: "", role: "learner" } as const];
  return startLeaderOf(["n2", "n3"], { memberships: [{ index: 0, members }], ...setup });
}

/** Who was told to campaign. */
function told(raft: Raft): string[] {
  return settle(raft)
    .requests.filter(({ type }) => type === "timeout_now")
    .map(({ to }) => to);
}

describe("the target of a leadership transfer", () => {
  test.each([
    ["a learner", "n4"],
    ["a stranger", "n9"],
  ])("must be a voter, not %s", (_, id) => {
    const raft = leader();
    expect(raft.transferLeadership(id)).toEqual({ refused: `${id} is not a voter of this cluster` });
    expect(raft.transferTarget).toBeUndefined();
  });

  test("may be this node itself, which changes nothing", () => {
    const raft = leader();
    expect(raft.transferLeadership("n1")).toEqual({ allowed: true });
    expect(raft.transferTarget).toBeUndefined();
  });

  test("is the most caught-up active voter when none is named", () => {
    const raft = leader();
    raft.propose(bytes("a"));
    const sent = appendsOf(settle(raft));
    raft.receive(accept(sent.find(({ to }) => to === "n3")!));
    raft.transferLeadership(undefined);
    expect(raft.transferTarget).toBe("n3");
  });

  test("is none when no other voter answers", () => {
    const raft = leader({ elections: "manual", electionTicks: 5 });
    // Each election timeout begins by taking those for alive that were in the last one.
    for (let tick = 0; tick < 10; tick++) raft.tick();
    expect(raft.transferLeadership(undefined)).toEqual({ refused: "there is no other voter that answers" });
  });

  test("is none in a cluster of one", () => {
    const raft = startLeaderOf([]);
    expect(raft.transferLeadership(undefined)).toEqual({ refused: "there is no other voter that answers" });
  });

  test("is replaced by a later request for another one", () => {
    const raft = leader();
    raft.transferLeadership("n2");
    raft.transferLeadership("n3");
    expect(raft.transferTarget).toBe("n3");
    expect(told(raft)).toEqual(["n2", "n3"]);
  });

  test("is not told twice, and gets no more time, when it is named twice", () => {
    const raft = leader({ electionTicks: 5 });
    raft.transferLeadership("n2");
    for (let tick = 0; tick < 4; tick++) raft.tick();
    raft.transferLeadership("n2");
    expect(told(raft)).toEqual(["n2"]);
    raft.tick();
    expect(raft.transferTarget).toBeUndefined();
  });
});

describe("the target of a transfer is told to campaign", () => {
  test("at once when it has the whole log", () => {
    const raft = leader();
    raft.transferLeadership("n2");
    expect(told(raft)).toEqual(["n2"]);
  });

  test("later when it has the whole log, and once", () => {
    const raft = leader();
    raft.propose(bytes("a"));
    const sent = appendsOf(settle(raft));
    raft.transferLeadership("n2");
    expect(told(raft)).toEqual([]);
    for (const request of sent) raft.receive(accept(request));
    expect(told(raft)).toEqual(["n2"]);
    for (const request of sent) raft.receive(accept(request));
    expect(told(raft)).toEqual([]);
  });
});

describe("a leadership transfer that does not work", () => {
  test("ends after an election timeout", () => {
    const raft = leader({ electionTicks: 5 });
    raft.transferLeadership("n2");
    for (let tick = 0; tick < 4; tick++) raft.tick();
    expect(raft.transferTarget).toBe("n2");
    raft.tick();
    expect([raft.transferTarget, raft.role]).toEqual([undefined, "leader"]);
  });

  test("may be tried again", () => {
    const raft = leader({ electionTicks: 5 });
    raft.transferLeadership("n2");
    for (let tick = 0; tick < 5; tick++) raft.tick();
    settle(raft);
    raft.transferLeadership("n2");
    expect(told(raft)).toEqual(["n2"]);
  });
});

test("a node that does not lead has no leadership to transfer", () => {
  expect(startNode().transferLeadership("n2")).toEqual({ refused: "node n1 does not lead" });
});
