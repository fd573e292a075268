import { expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import type { InstallReply } from "../../src/peers/install/install_messages.js";
import type { InstallStream, TransportEvents, TransportFactory } from "../../src/peers/transport.js";
import { ManualClock, manyTurns } from "../support/conditions.js";
import { putCommand } from "../support/nodes/acting_leader.js";
import { refuse } from "../support/nodes/core.js";
import { memoryHome } from "../support/nodes/nodes.js";

const SECONDS = 3_600;
const WRITES_PER_SECOND = 10;
const VALUE_BYTES = 500;
const KEYS = 200;
/** How long each sync of a snapshot's file takes, of which there are two. */
const SYNC_MS = 5_000;
const TRANSFER_SECONDS = 100;

const settings = {
  snapshots: { entries: false, logBytes: 50_000, logRatio: 1 },
  trailingLogBytes: 30_000,
  pinnedLogBytes: 250_000,
  segmentBytes: 16 * 1024,
} as const;

/** The formula of the README's section on the disk, for a node that sends snapshots to so many followers and is sent none. */
function diskBound(facts: { snapshotBytes: number; writtenDuringSnapshot: number; transfers: number }): {
  log: number;
  snapshots: number;
} {
  const { snapshots, trailingLogBytes, pinnedLogBytes, segmentBytes } = settings;
  const trigger = Math.max(snapshots.logBytes, snapshots.logRatio * facts.snapshotBytes);
  const sinceSnapshot = trigger + facts.writtenDuringSnapshot;
  const kept = Math.max(sinceSnapshot, trailingLogBytes, facts.transfers > 0 ? pinnedLogBytes : 0);
  return {
    log: sinceSnapshot + kept + 2 * (segmentBytes + limits.segmentReserveBytes),
    snapshots: (limits.snapshotsKept + 1 + facts.transfers) * facts.snapshotBytes,
  };
}

/** A learner that answers, but has never anything of the log, and takes a long time to take a snapshot in. */
function slowLearner(clock: ManualClock): TransportFactory & { transfers: number } {
  const factory = (_self: unknown, events: TransportEvents) => ({
    send: (_to: unknown, request: Parameters<typeof refuse>[0]) =>
      queueMicrotask(() => events.answer(refuse(request, { conflictIndex: 1 }))),
    openInstall: () => {
      factory.transfers += 1;
      return slowStream(clock);
    },
    retain: () => {},
    close: async () => {},
  });
  factory.transfers = 0;
  return factory;
}

function slowStream(clock: ManualClock): InstallStream {
  let isCancelled = false;
  let index = 0;
  let end = () => {};
  async function* replies(): AsyncGenerator<InstallReply, void, void> {
    yield { kind: "accepted", offset: 0 } as InstallReply;
    for (let second = 0; second < TRANSFER_SECONDS && !isCancelled; second++) {
      await new Promise<void>((resolve) => {
        end = resolve;
        clock.after(1_000, resolve);
      });
      yield { kind: "progress", receivedBytes: second } as InstallReply;
    }
    if (!isCancelled) yield { kind: "installed", matchIndex: index } as InstallReply;
  }
  return {
    send: async (message) => {
      if (message.kind === "offer") index = message.index;
    },
    replies: replies(),
    cancel: () => {
      isCancelled = true;
      end();
    },
  };
}

test.each([
  { learners: 0, name: "alone" },
  { learners: 1, name: "with a follower that takes all that is kept for it" },
])("an hour of writes never takes more disk than the formula says: $name", { timeout: 120_000 }, async (given) => {
  const home = memoryHome();
  const clock = new ManualClock();
  const learner = slowLearner(clock);
  const learners = given.learners === 0 ? [] : [{ id: "n2", address: "n2:1", role: "learner" } as const];
  const node = await home.startLeader({
    ...settings,
    clock,
    tickMs: 1_000,
    transport: learner,
    members: [{ id: "n1", address: "n1:1", role: "voter" }, ...learners],
  });
  home.disk.onCall = ({ kind, path }) =>
    kind === "datasync" && path.endsWith(".part") ? new Promise((resolve) => clock.after(SYNC_MS, resolve)) : undefined;
  const seen = { log: 0, snapshots: 0, snapshotBytes: 0, taken: new Set<number>() };
  for (let second = 0; second < SECONDS; second++) {
    const writes = Array.from({ length: WRITES_PER_SECOND }, (_, at) => second * WRITES_PER_SECOND + at);
    const value = new Uint8Array(VALUE_BYTES);
    await Promise.all(writes.map((write) => node.propose(putCommand(`k${write % KEYS}`, value))));
    clock.advance(1_000);
    await manyTurns();
    const files = [...home.disk.image()];
    const bytesIn = (part: string) =>
      files.reduce((sum, [path, { byteLength }]) => sum + (path.includes(part) ? byteLength : 0), 0);
    seen.log = Math.max(seen.log, bytesIn("/wal/"));
    seen.snapshots = Math.max(seen.snapshots, bytesIn("/snapshots/"));
    for (const { index, fileBytes } of node.snapshots.list()) {
      seen.taken.add(index);
      seen.snapshotBytes = Math.max(seen.snapshotBytes, fileBytes);
    }
  }
  home.disk.onCall = undefined;
  clock.advance(SYNC_MS);
  const { snapshotBytes } = seen;
  const rate = node.raft.log.last.index / SECONDS;
  const entryBytes = VALUE_BYTES + 100;
  const writtenDuringSnapshot = ((2 * SYNC_MS) / 1_000 + 2) * rate * entryBytes;
  const bound = diskBound({ snapshotBytes, writtenDuringSnapshot, transfers: given.learners });
  expect(seen.log).toBeLessThanOrEqual(bound.log);
  expect(seen.snapshots).toBeLessThanOrEqual(bound.snapshots);
  // Not because little happened: the log was written many times over, and what the formula allows was made use of.
  expect(node.raft.log.last.index * VALUE_BYTES).toBeGreaterThan(20 * bound.log);
  expect(seen.log).toBeGreaterThan(bound.log / 2);
  expect(seen.snapshots).toBeGreaterThan(bound.snapshots / 2);
  expect(seen.taken.size).toBeGreaterThan(20);
  expect(learner.transfers > 10).toBe(given.learners > 0);
});
