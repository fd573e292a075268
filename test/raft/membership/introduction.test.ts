import { describe, expect, test } from "vitest";
import {
  type Answers,
  type Base,
  type Introduced,
  type Introduction,
  nextStep,
  type OwnFacts,
  promiseOf,
  type Standing,
  turnTo,
} from "../../../src/raft/membership/introduction.js";
import type { Membership } from "../../../src/raft/types.js";

const founders = ["n1", "n2", "n3"].map((name) => ({ name, address: `${name}:1` }));
const base: Base = { index: 7, term: 2, sha256: "ab".repeat(32) };
const otherBase: Base = { ...base, sha256: "cd".repeat(32) };

function own(facts: Partial<OwnFacts> = {}): OwnFacts {
  const rest = { clusterId: "", founders, base: undefined, refusesReturn: false, hasTerm: false };
  return { name: "n1", incarnation: "inc-n1", ...rest, ...facts };
}

/** n1 founds: its cluster is named after it. */
const founder = own({ clusterId: "inc-n1" });

function said(name: string, standing: Standing, facts: Partial<Introduced> = {}): Introduced {
  return { name, incarnation: `inc-${name}`, founders, base: undefined, standing, ...facts };
}

const isNew: Standing = { kind: "new", promised: false };
const promised: Standing = { kind: "new", promised: true };

function member(facts: Partial<Extract<Standing, { kind: "member" }>> = {}): Standing {
  const rest = { clusterId: "c9", membership: [], membershipIndex: 3, leader: { name: "n3", address: "n3:1" } };
  return { kind: "member", ...rest, ...facts };
}

function answers(given: Record<string, Introduced | undefined>): Answers {
  return new Map(Object.entries(given));
}

function asked(introduction: Partial<Introduction> = {}): Introduction {
  const rest = { receiver: "n2", founders, base: undefined, founder: "inc-n1", askPromise: true };
  return { name: "n1", ...rest, ...introduction };
}

const voters = (...names: string[]): Membership =>
  names.map((id) => ({ id, address: `${id}:1`, role: "voter", incarnation: `inc-${id}` }));

describe("the promise of a new node (T1)", () => {
  const n2 = own({ name: "n2", incarnation: "inc-n2" });

  test("goes to the founder that has asked last, after the node has turned to its cluster", () => {
    const turn = { clusterId: "inc-n1", base: undefined, isRenewed: false };
    expect(promiseOf(n2, asked(), "inc-n1")).toEqual({ kind: "turn", turn });
  });

  test("is repeated without another turn when the node has turned to that cluster", () => {
    const decision = promiseOf(own({ ...n2, clusterId: "inc-n1" }), asked(), "inc-n1");
    expect(decision).toEqual({ kind: "answer", promised: true });
  });

  test("is made under another incarnation when it had promised another founder, or has a term and may have voted", () => {
    for (const facts of [{ clusterId: "other" }, { hasTerm: true }]) {
      const decision = promiseOf(own({ ...n2, ...facts }), asked(), "inc-n1");
      expect(decision).toMatchObject({ kind: "turn", turn: { clusterId: "inc-n1", isRenewed: true } });
    }
  });

  test.each([
    ["when it is not asked to", asked({ askPromise: false }), "inc-n1"],
    ["to a node that founds nothing", asked({ founder: "" }), ""],
    ["when another founder has asked since", asked(), "inc-other"],
    ["when no founder has asked before", asked(), undefined],
    ["when the lists of founders differ", asked({ founders: founders.slice(0, 2) }), "inc-n1"],
    [
      "when a founder has another address",
      asked({ founders: founders.map((each) => ({ ...each, address: "x:1" })) }),
      "inc-n1",
    ],
  ])("is not made %s", (_when, introduction, lastFounder) => {
    expect(promiseOf(n2, introduction, lastFounder)).toEqual({ kind: "answer", promised: false });
  });

  test("is made only with the same base or none, and takes over the founder's", () => {
    const withBase = asked({ base });
    expect(promiseOf(n2, withBase, "inc-n1")).toMatchObject({ kind: "turn", turn: { base } });
    expect(promiseOf(own({ ...n2, base }), withBase, "inc-n1")).toMatchObject({ kind: "turn", turn: { base } });
    const no = { kind: "answer", promised: false };
    expect(promiseOf(own({ ...n2, base: otherBase }), withBase, "inc-n1")).toEqual(no);
    expect(promiseOf(own({ ...n2, base }), asked(), "inc-n1")).toEqual(no);
  });

  test("does not depend on the order of the list", () => {
    expect(promiseOf(n2, asked({ founders: founders.toReversed() }), "inc-n1").kind).toBe("turn");
  });
});

describe("the founder of a cluster (T1)", () => {
  const all = answers({ n2: said("n2", isNew), n3: said("n3", isNew) });

  test("asks for promises when all others say that they are new", () => {
    expect(nextStep(founder, all, false)).toEqual({ kind: "ask_promises" });
  });

  test("founds when all others have promised, with the incarnations that they promised under", () => {
    const renewed = said("n3", promised, { incarnation: "inc-n3b" });
    const step = nextStep(founder, answers({ n2: said("n2", promised), n3: renewed }), true);
    const members = [...voters("n1", "n2"), { ...voters("n3")[0]!, incarnation: "inc-n3b" }];
    expect(step).toEqual({ kind: "found", members });
  });

  test("waits for every silent node in either round, because a majority does not suffice", () => {
    for (const isSecond of [false, true]) {
      const standing = isSecond ? promised : isNew;
      const step = nextStep(founder, answers({ n2: said("n2", standing), n3: undefined }), isSecond);
      const reason = "n1 is new; to found the cluster it must hear from n3 (no answer)";
      expect(step).toEqual({ kind: "wait", reason });
    }
  });

  test("waits when one node does not promise", () => {
    const step = nextStep(founder, answers({ n2: said("n2", promised), n3: said("n3", isNew) }), true);
    expect(step).toEqual({ kind: "wait", reason: "n1 is new; n3 has not promised yet" });
  });

  test("waits for a node that has lost data, and for one with another list or base", () => {
    const others: [Introduced, string][] = [
      [said("n3", { kind: "retired" }), "n3 has lost data"],
      [
        said("n3", isNew, { founders: founders.slice(1) }),
        "n3 was started with another list of founders: n2=n2:1,n3=n3:1",
      ],
      [said("n3", isNew, { founders: [] }), "another list of founders: none"],
      [said("n3", isNew, { base }), "n3 begins with the snapshot at index 7, and n1 with none"],
    ];
    for (const [n3, reason] of others) {
      const step = nextStep(founder, answers({ n2: said("n2", isNew), n3 }), false);
      expect(step).toMatchObject({ kind: "wait", reason: expect.stringContaining(reason) });
    }
    expect(
      nextStep({ ...founder, base }, answers({ n2: said("n2", isNew), n3: said("n3", isNew, { base }) }), false),
    ).toEqual({ kind: "ask_promises" });
  });

  test("takes an identity of its own again when it had turned to another's cluster (T2)", () => {
    const turn = { clusterId: "", base: undefined, isRenewed: true };
    expect(nextStep(own({ clusterId: "other" }), all, false)).toEqual({ kind: "turn", turn });
  });

  test("founds alone at once when it is the only one", () => {
    const alone = { ...founder, founders: founders.slice(0, 1) };
    expect(nextStep(alone, answers({}), true)).toEqual({ kind: "found", members: voters("n1") });
  });

  test("is the first by name, whatever the order of the list, and the others wait", () => {
    const n2 = own({ name: "n2", founders: founders.toReversed() });
    const step = nextStep(n2, answers({ n1: said("n1", isNew), n3: said("n3", isNew) }), false);
    expect(step).toEqual({ kind: "wait", reason: "n2 is new; n1 founds the cluster; waiting for n1, n3" });
  });

  test("founds nothing when it was told to join, or comes back, and waits to hear of a cluster", () => {
    const step = nextStep(own({ founders: [] }), answers({ n2: said("n2", isNew), n3: undefined }), false);
    expect(step).toEqual({ kind: "wait", reason: "n1 is new; to join its cluster it must hear from n3 (no answer)" });
  });

  test("says what to do when it comes back after a loss and no node knows its cluster", () => {
    const returned = own({ founders: [], clusterId: "c9" });
    const step = nextStep(returned, answers({ n2: said("n2", isNew), n3: said("n3", isNew) }), false);
    expect(step).toMatchObject({ kind: "wait" });
    const { reason } = step as { reason: string };
    expect(reason).toContain("n1 belongs to cluster c9, but n2, n3 know of no cluster: its data may be lost.");
    expect(reason).toContain("Restore a snapshot of it");
    // One that does not answer may know.
    const some = nextStep(returned, answers({ n2: said("n2", isNew), n3: undefined }), false);
    expect(some).toMatchObject({ reason: expect.stringContaining("it must hear from n3 (no answer)") });
  });
});

describe("a node that finds a cluster (T1)", () => {
  test("turns to it at one member's word, whatever the others say or do not say, even as the founder", () => {
    const step = nextStep(founder, answers({ n2: said("n2", member(), { base }), n3: undefined }), true);
    expect(step).toEqual({ kind: "turn", turn: { clusterId: "c9", base, isRenewed: true } });
  });

  test("joins by its leader when it belongs to it", () => {
    const step = nextStep(own({ clusterId: "c9" }), answers({ n2: said("n2", member()) }), false);
    expect(step).toEqual({ kind: "join", leader: { name: "n3", address: "n3:1" } });
  });

  test("waits when no leader is known, or when it is a member already", () => {
    const facts = own({ clusterId: "c9" });
    const leaderless = answers({ n2: said("n2", member({ leader: undefined })) });
    expect(nextStep(facts, leaderless, false)).toMatchObject({ kind: "wait" });
    const known = answers({ n2: said("n2", member({ membership: voters("n1", "n2") })) });
    expect(nextStep(facts, known, false)).toMatchObject({
      kind: "wait",
      reason: expect.stringContaining("n1 is a voter of cluster c9"),
    });
  });

  test("goes by the newest membership, because a member that lags behind does not know of it yet", () => {
    const old = member({ membership: voters("n1"), membershipIndex: 3 });
    const newer = member({ membership: voters("n2"), membershipIndex: 9 });
    const step = nextStep(own({ clusterId: "c9" }), answers({ n2: said("n2", old), n3: said("n3", newer) }), false);
    expect(step.kind).toBe("join");
  });

  test("counts only its own of several, and turns to none when it has none of its own (T2)", () => {
    const two = answers({ n2: said("n2", member()), n3: said("n3", member({ clusterId: "c8" })) });
    expect(nextStep(own({ clusterId: "c8" }), two, false).kind).toBe("join");
    expect(nextStep(own(), two, false)).toMatchObject({
      kind: "wait",
      reason: expect.stringContaining("it cannot tell which one is its own"),
    });
  });

  test("refuses to return, if it was told so, when its name is known under another incarnation", () => {
    const former: Membership = [{ ...voters("n1")[0]!, incarnation: "former" }];
    const known = answers({ n2: said("n2", member({ membership: former })) });
    expect(nextStep(own({ refusesReturn: true }), known, false)).toMatchObject({ kind: "refused" });
    expect(nextStep(own({ refusesReturn: false }), known, false)).toMatchObject({ kind: "turn" });
    const unknown = answers({ n2: said("n2", member({ membership: voters("n2") })) });
    expect(nextStep(own({ refusesReturn: true }), unknown, false)).toMatchObject({ kind: "turn" });
  });
});

test("a node that turns to a cluster draws a new incarnation if it belonged to another or may have voted, and keeps its base (T2)", () => {
  expect(turnTo(own(), "c9", base)).toEqual({ clusterId: "c9", base, isRenewed: false });
  expect(turnTo(own({ clusterId: "c1" }), "c9", undefined).isRenewed).toBe(true);
  expect(turnTo(own({ hasTerm: true }), "c9", undefined).isRenewed).toBe(true);
  expect(turnTo(own({ base: otherBase }), "c9", base).base).toEqual(otherBase);
});
