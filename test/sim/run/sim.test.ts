import { describe, expect, test } from "vitest";
import { runSimulation, type SeedResult, summarize } from "./launch.mjs";

/** Run at every test, and enough to get everywhere. */
const FIXED_SEEDS = 50;
const FIRST_SEED = 208;
const FIRST_DRAWN_SEED = 21;
/** Others each time. */
const FRESH_SEEDS = 25;

/** What a run that says nothing would not have met with. */
const situations = [
  "a leader with a stuck disk was replaced",
  "all nodes at once",
  "became leader",
  "became pre-candidate",
  "bit flip in snapshots",
  "bit flip in wal",
  "clean stop",
  "client forgotten",
  "client told DISK_FULL",
  "client told NOT_LEADER",
  "client told OUTCOME_UNKNOWN",
  "clock drift",
  "clock jump",
  "commits",
  "corrupt chunk",
  "crash inside a call of the disk",
  "crash of the leader",
  "crash while a snapshot is being installed",
  "crash while recovering",
  "crash",
  "crawling disk",
  "damage found",
  "damaged member removed",
  "damaged member replaced",
  "done: add_learner",
  "done: campaign",
  "done: promote",
  "done: remove the leader",
  "done: remove",
  "done: transfer",
  "entries replayed at a start",
  "failed sync ended a node",
  "follower in state snapshot",
  "full disk",
  "history linearizable",
  "install by stream",
  "install refused: already_committed",
  "install refused: busy",
  "install resumed",
  "late retry answered OK",
  "late retry answered RETRY_TOO_OLD",
  "late retry answered SESSION_EXPIRED",
  "message doubled",
  "message lost",
  "node: cut a half-written record from the log's end",
  "node: installed a snapshot",
  "node: the disk is full: refusing writes until there is room",
  "node: the disk does not complete writes of the log",
  "node: the disk completes writes of the log again",
  "node: the process stalled for longer than an election timeout",
  "node: there is room again: accepting writes",
  "node: took a snapshot",
  "partition: flapping",
  "partition: half",
  "partition: leader",
  "partition: link",
  "partition: one way",
  "partition: one",
  "pause and partition",
  "pause",
  "power failure of the leader",
  "power failure",
  "read",
  "read at a follower",
  "read passed on by a follower",
  "refused to promote: FAILED_PRECONDITION",
  "requests repeated in the log",
  "restart with the state that was there",
  "slow disk",
  "slow link",
  "snapshot being installed",
  "snapshot not needed",
  "snapshot on request",
  "state loaded from a snapshot at a start",
  "states compared",
  "stuck disk",
  "stuck or crawling disk of the leader",
  "torn record cut off",
  "transfer interrupted",
  "transfer: another node campaigns",
  "transfer: both ends restarted",
  "transfer: cancelled at its receiver",
  "transfer: cancelled at its sender",
  "transfer: disk of the receiver full",
  "transfer: leader changed",
  "transfer: receiver restarted",
  "transfer: sender restarted",
  "transfer: superseded",
  "value of a retried compare-and-set forgotten",
  "wiped disk",
  "write of unknown fate",
  "write tried again",
  "write",
];

/** The same of nodes that draw their own identity. */
const situationsOfDrawn = [
  "a cluster is founded",
  "a machine gets an empty disk",
  "a node has an old copy of its directory",
  "a node lost the end of its log",
  "a stranger was refused with FAILED_PRECONDITION",
  "history linearizable",
  "join refused with FAILED_PRECONDITION",
  "join",
  "late request of a new node",
  "learner votes again",
  "member: founded",
  "member: joined",
  "member: lost",
  "member: promoted",
  "member: turned",
  "member: waiting",
  "message for another directory",
  "promise",
  "told to join",
  "wiped after: founded",
  "wiped after: listening",
  "wiped after: turned",
  "wiped disk",
  "wiped disks: all but one",
  "wiped disks: all",
  "wiped disks: two",
];

function failures(results: readonly SeedResult[]): string[] {
  return results.flatMap(({ seed, failure }) =>
    failure === undefined
      ? []
      : [`seed ${seed}: ${failure.invariant}\n${failure.text}\nsee npm run sim -- --seed ${seed} --trace`],
  );
}

test(`${FIXED_SEEDS} known seeds break no invariant, and meet every kind of event`, { timeout: 300_000 }, async () => {
  const results = await runSimulation({
    seeds: FIXED_SEEDS,
    start: FIRST_SEED,
    identities: "given",
    goOn: true,
  });
  expect(failures(results)).toEqual([]);
  const { counts } = summarize(results);
  expect(situations.filter((what) => (counts[what] ?? 0) === 0)).toEqual([]);
});

test(`${FIXED_SEEDS} known seeds of nodes that draw their own identity break no invariant, and meet every kind of event (T1, T2, T3, T4)`, {
  timeout: 300_000,
}, async () => {
  const results = await runSimulation({ seeds: FIXED_SEEDS, start: FIRST_DRAWN_SEED, identities: "drawn", goOn: true });
  expect(failures(results)).toEqual([]);
  const { counts } = summarize(results);
  expect(situationsOfDrawn.filter((what) => (counts[what] ?? 0) === 0)).toEqual([]);
});

test(`${FRESH_SEEDS} fresh seeds break no invariant`, { timeout: 300_000 }, async () => {
  const start = 1_000_000 + (Date.now() % 1_000_000_000);
  console.log(`fresh seeds from ${start} on`);
  const results = await runSimulation({ seeds: FRESH_SEEDS, start });
  expect(failures(results)).toEqual([]);
  expect(results).toHaveLength(FRESH_SEEDS);
});

describe("the run of a seed", () => {
  const list = [3, 5, 8];

  test("is the same to the last event when it is repeated, in one process and in two", async () => {
    const inOne = await runSimulation({ list: [...list, ...list], workers: 1 });
    const inTwo = await runSimulation({ list, workers: 2 });
    const hashes = (results: readonly SeedResult[]) =>
      list.map((seed) => [...new Set(results.filter((result) => result.seed === seed).map(({ hash }) => hash))]);
    expect(hashes(inOne)).toEqual(hashes(inTwo));
    for (const each of hashes(inOne)) expect(each).toHaveLength(1);
  });

  test("differs from that of another seed", async () => {
    const results = await runSimulation({ list });
    expect(new Set(results.map(({ hash }) => hash)).size).toBe(list.length);
  });
});

test("a planted bug runs as it is patched, and a patch that does not fit is refused", async () => {
  const patch = { file: "src/raft/membership/quorum.ts", find: "voters / 2) + 1", replace: "voters / 2)" };
  const results = await runSimulation({ patches: [patch], seeds: 10 });
  expect(failures(results).length).toBeGreaterThan(0);
  const unfit = { ...patch, find: "nothing that is there" };
  await expect(runSimulation({ patches: [unfit], seeds: 1 })).rejects.toThrow("occurs 0 times");
});
