import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Entry } from "../../src/raft/types.js";
import { type ModelLeader, membershipAt } from "./model/cluster.js";
import { type Counts, Harness } from "./model/harness.js";

/** One thing that happens, and numbers that say how, to be taken modulo what is possible. */
interface Happening {
  readonly kind: keyof typeof happenings;
  readonly a: number;
  readonly b: number;
  readonly c: number;
}

/** New stories told, at about five milliseconds each. Have many more told after a change to the core. */
const RUNS = Number(process.env.CAIRN_MODEL_RUNS ?? 200);

/** How often each kind is drawn, beside the others. */
const weights = {
  work: 12,
  append: 12,
  extend: 3,
  commit: 3,
  elect: 2,
  install: 2,
  takeSnapshot: 4,
  crash: 1,
  vote: 1,
  campaign: 1,
  propose: 2,
  read: 1,
  tick: 1,
  settle: 1,
} as const;

const happenings = {
  work: (harness, { a }) => harness.work(a % 2 === 0, a % 3 === 0),
  settle: (harness) => harness.settle(),
  append,
  install,
  elect,
  vote,
  extend: ({ cluster }, { a, b }) => {
    if (cluster.active === undefined) return;
    for (let more = a % 3; more >= 0; more--) cluster.extend(cluster.active, b % 5 === 0);
  },
  commit: ({ cluster }, { a }) => {
    const { active } = cluster;
    if (active !== undefined) cluster.commit(active, active.log.length - (a % 3));
  },
  takeSnapshot: (harness, { a }) => harness.takeSnapshot(a % 4),
  crash: (harness, { a }) => harness.restart(a % 2 === 0),
  campaign: (harness) => campaign(harness, () => harness.raft.campaign()),
  tick: (harness) => campaign(harness, () => harness.raft.tick()),
  propose: (harness, { a }) => {
    if ("accepted" in harness.raft.propose(new Uint8Array([a % 256]))) harness.count("proposed");
  },
  read: (harness) => harness.readIndex(),
} satisfies Record<keyof typeof weights, (harness: Harness, how: Happening) => void>;

/** A leader sends entries: mostly the last one, and from about where the node's log ends. */
function append(harness: Harness, { a, b, c }: Happening): void {
  const leader = pickLeader(harness, a);
  if (leader === undefined) return;
  const around = harness.raft.log.last.index + 2 - (b % 6);
  const prevIndex = Math.max(0, Math.min(b % 4 === 0 ? b % (leader.log.length + 1) : around, leader.log.length));
  const request = {
    type: "append_entries",
    from: leader.id,
    requestId: harness.nextRequest(),
    term: leader.term,
    prev: { index: prevIndex, term: leader.log[prevIndex - 1]?.term ?? 0 },
    entries: leader.log.slice(prevIndex, prevIndex + (c % 5)),
    leaderCommit: leader.commit,
  } as const;
  harness.ask(request, leader);
}

/** A leader sends a snapshot of something that it knows to be committed. */
function install(harness: Harness, { a, b }: Happening): void {
  const leader = pickLeader(harness, a);
  if (leader === undefined || leader.commit === 0 || harness.isInstalling) return;
  const index = leader.commit - Math.min(b % 4, leader.commit - 1);
  const { term } = leader.log[index - 1]!;
  const snapshot = { index, term, membership: membershipAt(leader.log, index) };
  const requestId = harness.nextRequest();
  harness.ask({ type: "install_snapshot", from: leader.id, requestId, term: leader.term, snapshot }, leader);
}

/** Another node becomes leader, with a log that some node has. */
function elect(harness: Harness, { a, b, c }: Happening): void {
  const { cluster, raft } = harness;
  const committed = cluster.committed.length;
  const logs = [ownLog(harness), ...cluster.leaders.map((leader) => leader.log)].filter((log) => hasAll(log, harness));
  const log = logs[a % logs.length] ?? cluster.committed;
  const base = log.slice(0, committed + (b % (log.length - committed + 1)));
  const isLeading = raft.role === "leader";
  const leader = cluster.elect(Math.max(cluster.highestTerm, raft.term) + 1 + (c % 2), base);
  harness.count("elected elsewhere");
  // A leader that is alone commits without asking anybody: it must hear of the new one at once.
  if (isLeading) append(harness, { kind: "append", a: 0, b: 1, c });
  expect(leader.log.length).toBeGreaterThan(base.length);
}

/** The durable log of the node under test from its first entry, where it is still known. */
function ownLog({ disk, cluster }: Harness): Entry[] {
  return [...cluster.committed.slice(0, disk.boundary.index), ...disk.entries];
}

function hasAll(log: readonly Entry[], { cluster }: Harness): boolean {
  return cluster.committed.every((entry, at) => log[at]?.term === entry.term);
}

/** A candidate, which loses, asks for a vote. */
function vote(harness: Harness, { a, b, c }: Happening): void {
  const { cluster, raft } = harness;
  const log = cluster.leaders[a % Math.max(1, cluster.leaders.length)]?.log ?? [];
  const last = log[(b % (log.length + 1)) - 1];
  const term = Math.max(1, raft.term + (c % 3));
  const preVote = c % 2 === 0;
  // A term that has a leader has no other candidate that anybody votes for.
  const taken =
    cluster.leaders.some((leader) => leader.term === term) || (raft.role === "leader" && raft.term === term);
  if (taken || term < cluster.highestTerm) return;
  if (!preVote) cluster.highestTerm = Math.max(cluster.highestTerm, term);
  const from = `candidate-${a % 3}`;
  const request = {
    type: "request_vote",
    from,
    requestId: harness.nextRequest(),
    term,
    preVote,
    leadershipTransfer: false,
  } as const;
  harness.ask({ ...request, last: { index: last?.index ?? 0, term: last?.term ?? 0 } }, undefined);
}

/** Does what may make this node a leader, when the model allows it. */
function campaign(harness: Harness, act: () => void): void {
  if (!harness.mayCampaign) return;
  const wasLeading = harness.raft.role === "leader";
  act();
  if (wasLeading || harness.raft.role !== "leader") return;
  harness.cluster.depose(harness.raft.term);
  harness.count("elected here");
}

/** Mostly the last one; else the one before it or any other, which may not know yet that it is deposed. */
function pickLeader({ cluster }: Harness, a: number): ModelLeader | undefined {
  const { leaders } = cluster;
  if (a % 8 === 7) return leaders.at(-2);
  return a % 4 === 3 ? leaders[a % leaders.length] : leaders.at(-1);
}

const happening: fc.Arbitrary<Happening> = fc.record({
  kind: fc.oneof(
    ...Object.entries(weights).map(([kind, weight]) => ({
      arbitrary: fc.constant(kind as keyof typeof weights),
      weight,
    })),
  ),
  a: fc.nat(1000),
  b: fc.nat(1000),
  c: fc.nat(1000),
});

function play(story: readonly Happening[], random: readonly number[], counts: Counts): void {
  let drawn = 0;
  const harness = new Harness(counts, () => random[drawn++ % random.length]!);
  for (const each of story) {
    happenings[each.kind](harness, each);
    harness.check();
  }
  harness.settle();
}

const stories = fc.array(happening, { minLength: 1, maxLength: 150, size: "max" });
const randomNumbers = fc.array(fc.double({ min: 0, max: 0.999, noNaN: true }), { minLength: 1, maxLength: 5 });

/** Tells stories, and counts what happened in them. */
function explore(parameters: fc.Parameters<[Happening[], number[]]>): Counts {
  const counts: Counts = {};
  fc.assert(
    fc.property(stories, randomNumbers, (story, random) => play(story, random, counts)),
    parameters,
  );
  return counts;
}

test("the core keeps its invariants whatever happens, in whatever order, with crashes between", () => {
  explore({ numRuns: RUNS });
});

test("a snapshot drops the log behind an entry that was replaced in memory, when it brings back the entry that is on disk", () => {
  explore({ seed: 205638098, numRuns: 20 });
});

test("the known stories of the model reach every step of the core", () => {
  const counts = explore({ numRuns: 400, seed: 1 });
  const reached = [
    "appended",
    "refused: stale_term",
    "refused: log_mismatch",
    "snapshot installed",
    "snapshot already_committed",
    "snapshot stale_term",
    "snapshot taken",
    "snapshot outdated when taken",
    "vote granted",
    "pre-vote granted",
    "elected elsewhere",
    "elected here",
    "committed by this node",
    "read answered",
    "read refused",
    "truncate",
    "apply",
    "crash before: publish",
    "crash before: start log at snapshot",
    "crash before: restore state",
    "crash before: report the state",
    "carried out while a snapshot is loaded",
    "crash before: truncate",
    "crash before: write",
    "crash before: apply",
    "crash before: advance",
  ];
  expect(reached.filter((what) => counts[what] === undefined)).toEqual([]);
});

describe("a crash between any two steps of installing a snapshot recovers (R8)", () => {
  /** Steps from the arrival of the snapshot to its answer: more than enough. */
  const STEPS = 14;

  /** A follower that knows two entries of term 1, and two leaders of which it has not heard. */
  function twoUnheardLeaders() {
    const harness = new Harness({}, () => 0);
    const { cluster } = harness;
    const first = cluster.elect(1, []);
    for (let entries = 0; entries < 5; entries++) cluster.extend(first, false);
    cluster.commit(first, 2);
    harness.ask(entriesOf(harness, first, 0, 2), first);
    harness.settle();
    // Deposed without knowing it: what it has appended is lost.
    const deposed = cluster.elect(5, first.log.slice(0, 2));
    for (let entries = 0; entries < 7; entries++) cluster.extend(deposed, false);
    const present = cluster.elect(7, first.log);
    cluster.commit(present, 7);
    return { harness, deposed, present };
  }

  function entriesOf(harness: Harness, leader: ModelLeader, first: number, last: number) {
    const prev = { index: first, term: leader.log[first - 1]?.term ?? 0 };
    const entries = leader.log.slice(first, last);
    const { id: from, term, commit: leaderCommit } = leader;
    return {
      type: "append_entries",
      from,
      requestId: harness.nextRequest(),
      term,
      prev,
      entries,
      leaderCommit,
    } as const;
  }

  const crashes = Array.from({ length: STEPS }, (_, steps) => [
    { steps, powerFailed: false },
    { steps, powerFailed: true },
  ]).flat();

  test.each(crashes)("after $steps steps, with power failed: $powerFailed", ({ steps, powerFailed }) => {
    const { harness, deposed, present } = twoUnheardLeaders();
    const { id: from, term } = present;
    const snapshot = { index: 6, term: 1, membership: membershipAt(present.log, 6) };
    harness.ask({ type: "install_snapshot", from, requestId: harness.nextRequest(), term, snapshot }, present);
    for (let step = 0; step < steps; step++) {
      harness.work(true);
      harness.check();
    }
    harness.restart(powerFailed);
    harness.check();
    // What a leader that was deposed before the snapshot's sends must not be taken for a part of the snapshot's log.
    harness.ask(entriesOf(harness, deposed, 2, 5), deposed);
    harness.settle();
    harness.ask(entriesOf(harness, present, 2, 7), present);
    harness.settle();
    expect(harness.raft.log.applied).toBe(7);
    expect(harness.raft.log.last).toEqual({ index: 7, term: 7 });
  });

  test("within the number of steps that are tried", () => {
    const { harness, present } = twoUnheardLeaders();
    const snapshot = { index: 6, term: 1, membership: membershipAt(present.log, 6) };
    const { id: from, term } = present;
    harness.ask({ type: "install_snapshot", from, requestId: harness.nextRequest(), term, snapshot }, present);
    for (let step = 0; step < STEPS; step++) {
      harness.work(true);
      harness.check();
    }
    expect(harness.isInstalling).toBe(false);
  });
});
