import { describe, expect, test } from "vitest";
import type { NodeHost } from "../../../src/node/host.js";
import { SendQueue, type SendQueueOptions } from "../../../src/node/snapshots/send_queue.js";
import type { InstallReply } from "../../../src/peers/install/install_messages.js";
import type { InstallStream } from "../../../src/peers/transport.js";
import type { SnapshotSend, TransferOutcome } from "../../../src/raft/leader/replication.js";
import type { SnapshotInfo } from "../../../src/storage/snapshots/snapshot_info.js";
import type { SnapshotStore } from "../../../src/storage/snapshots/snapshot_store.js";
import { systemClock } from "../../../src/system/clock.js";
import { silentLogger } from "../../../src/system/logger.js";
import { ManualClock, manyTurns, until } from "../../support/conditions.js";

const info = { index: 5, term: 1, fileBytes: 3, sha256: new Uint8Array(32) } as SnapshotInfo;

/** A store with one snapshot of three bytes. */
const snapshots = {
  newest: () => info,
  list: () => [info],
  pin: () => () => {},
  async *readFile() {
    yield new Uint8Array(3);
  },
} as unknown as SnapshotStore;

/** A stream whose other end says what the test wants. */
class FakeStream implements InstallStream {
  #waiting: ((result: IteratorResult<InstallReply>) => void) | undefined;

  async send(): Promise<void> {}

  cancel(): void {
    this.#waiting?.({ done: true, value: undefined });
  }

  reply(value: InstallReply): void {
    this.#waiting!({ done: false, value });
  }

  get isWaiting(): boolean {
    return this.#waiting !== undefined;
  }

  readonly replies: AsyncIterable<InstallReply> = {
    [Symbol.asyncIterator]: () => ({
      next: () =>
        new Promise<IteratorResult<InstallReply>>((resolve) => {
          this.#waiting = (result) => {
            this.#waiting = undefined;
            resolve(result);
          };
        }),
    }),
  };
}

/** A send queue, and what comes of it. */
function queueOf(change: Partial<SendQueueOptions> = {}) {
  const streams = new Map<string, FakeStream>();
  const opened: string[] = [];
  const ended: [to: string, outcome: TransferOutcome][] = [];
  /** What the queue's owner, pins and lag monitor hear, in order. */
  const told: string[] = [];
  const wanted: SnapshotSend[] = [];
  const raft = {
    role: "leader",
    term: 1,
    log: { boundary: { index: 2 } },
    membership: { index: 0 },
    progress: [] as object[],
  };
  const core = {
    takeSnapshotSends: () => wanted.splice(0),
    snapshotSent({ to }: SnapshotSend, outcome: TransferOutcome) {
      ended.push([to, outcome]);
      told.push(`core ${to} ${outcome.kind}`);
    },
  };
  const host = {
    id: "n1",
    key: "n1",
    raft,
    core: (change: (raft: typeof core) => unknown) => change(core),
    ending: { attempt: (work: () => void) => work() },
    wake: () => told.push("wake"),
  } as unknown as NodeHost;
  const queue = new SendQueue(host, {
    snapshots,
    resumeMs: 1_000,
    atOnce: 2,
    bandwidth: undefined,
    compression: undefined,
    clock: systemClock,
    logger: silentLogger,
    idleMs: 10_000,
    chunkBytes: 3,
    measures: { transferred: () => {} },
    peers: {
      openInstall: (to) => {
        const stream = new FakeStream();
        streams.set(to, stream);
        opened.push(to);
        return stream;
      },
    },
    pins: {
      installed: (to, matchIndex) => told.push(`pin ${to} ${matchIndex}`),
      look: () => told.push("look"),
    },
    lagMonitor: {
      begun: (to) => told.push(`begun ${to}`),
      ended: (to, arrived, boundary) => told.push(`lag ${to} ${arrived?.index} ${arrived?.fileBytes} ${boundary}`),
    },
    takeSnapshot: async () => undefined,
    ...change,
  });
  const waits = (to: string) => until(() => streams.get(to)?.isWaiting === true, `the transfer to ${to} waits`);
  return { queue, raft, wanted, streams, opened, ended, told, waits };
}

const AHEAD: InstallReply = {
  kind: "refused",
  reason: "already_committed",
  detail: "",
  term: 1,
  commitIndex: 7,
  lastLogIndex: 7,
};

test("the end of a transfer that another has replaced is not reported, as it would be taken for the end of the other", async () => {
  const { queue, streams, opened, ended, waits } = queueOf();
  const send = { to: "n2", term: 1 };
  queue.send(send);
  await waits("n2");
  queue.send(send);
  await until(() => opened.length === 2 && streams.get("n2")!.isWaiting, "the second transfer waits for its answer");
  await manyTurns();
  expect(ended).toEqual([]);
  streams.get("n2")!.reply(AHEAD);
  await until(() => ended.length > 0, "the second transfer has ended");
  expect(ended).toEqual([["n2", { kind: "ahead", commitIndex: 7 }]]);
  expect(queue.list()).toEqual([]);
  await queue.stop();
});

test("a transfer that the core wants tells the lag monitor of its beginning, and core, pins and lag monitor of its end", async () => {
  const { queue, wanted, streams, told, waits } = queueOf();
  wanted.push({ to: "n2", term: 1 }, { to: "n3", term: 1 });
  queue.serve();
  await waits("n2");
  await waits("n3");
  expect(told.splice(0)).toEqual(["begun n2", "begun n3"]);
  streams.get("n2")!.reply({ kind: "accepted", offset: 0 });
  await waits("n2");
  streams.get("n2")!.reply({ kind: "installed", term: 1, matchIndex: 5, applied: true });
  await until(() => told.includes("wake"), "the first transfer has ended");
  expect(told.splice(0)).toEqual(["core n2 installed", "pin n2 5", "lag n2 5 3 2", "look", "wake"]);
  streams.get("n3")!.cancel();
  await until(() => told.includes("wake"), "the second transfer has failed");
  expect(told).toEqual(["core n3 failed", "lag n3 undefined undefined 2", "look", "wake"]);
  await queue.stop();
});

test("a snapshot is taken for a follower when the log continues from none that is on disk", async () => {
  const taken = { ...info, index: 8 };
  const stale = { ...info, index: 1 };
  const list = [stale];
  const store = { ...snapshots, list: () => list } as unknown as SnapshotStore;
  const takeSnapshot = async () => {
    list.unshift(taken);
    return taken;
  };
  const { queue, streams, waits } = queueOf({ snapshots: store, takeSnapshot });
  queue.send({ to: "n2", term: 1 });
  await waits("n2");
  expect(queue.offered).toEqual([8]);
  streams.get("n2")!.reply({ kind: "accepted", offset: 0 });
  await waits("n2");
  expect(queue.list()).toMatchObject([{ to: "n2", index: 8 }]);
  await queue.stop();
});

describe("followers beyond the number of concurrent transfers", () => {
  test("wait for their turn, the oldest first, and are listed meanwhile", async () => {
    const { queue, streams, opened, waits } = queueOf();
    for (const to of ["n2", "n3", "n4", "n5"]) queue.send({ to, term: 1 });
    await waits("n2");
    await waits("n3");
    await manyTurns();
    expect(opened).toEqual(["n2", "n3"]);
    expect(queue.list().map(({ to, index, doneBytes }) => [to, index, doneBytes])).toEqual(
      ["n2", "n3", "n4", "n5"].map((to) => [to, 5, 0]),
    );
    streams.get("n3")!.reply(AHEAD);
    await waits("n4");
    streams.get("n2")!.reply(AHEAD);
    await waits("n5");
    expect(opened).toEqual(["n2", "n3", "n4", "n5"]);
    await queue.stop();
  });

  test("stop waiting when they are cancelled, which is reported, or when the node stops", async () => {
    const { queue, opened, ended, waits } = queueOf({ atOnce: 1 });
    for (const to of ["n2", "n3", "n4"]) queue.send({ to, term: 1 });
    await waits("n2");
    queue.list()[1]!.cancel();
    expect(ended).toEqual([["n3", { kind: "failed" }]]);
    queue.list()[0]!.cancel();
    await waits("n4");
    expect(ended.map(([to]) => to)).toEqual(["n3", "n2"]);
    queue.send({ to: "n3", term: 1 });
    await queue.stop();
    expect(opened).toEqual(["n2", "n4"]);
  });

  test("get nothing when the leader was deposed meanwhile, or has another term", async () => {
    const { queue, raft, streams, opened, ended, waits } = queueOf({ atOnce: 1 });
    queue.send({ to: "n2", term: 1 });
    queue.send({ to: "n3", term: 1 });
    queue.send({ to: "n4", term: 1 });
    await waits("n2");
    raft.term = 2;
    queue.send({ to: "n4", term: 2 });
    streams.get("n2")!.reply(AHEAD);
    await waits("n4");
    expect(opened).toEqual(["n2", "n4"]);
    expect(ended.map(([to, { kind }]) => `${to} ${kind}`)).toEqual(["n2 ahead", "n3 failed"]);
    await queue.stop();
  });
});

describe("the snapshot of an interrupted transfer", () => {
  const pins = new Map<number, number>();
  const at = (index: number) => ({ ...info, index });
  const pinning = (list: readonly SnapshotInfo[]) =>
    ({
      ...snapshots,
      list: () => list,
      pin: ({ index }: SnapshotInfo) => {
        pins.set(index, (pins.get(index) ?? 0) + 1);
        let isPinned = true;
        return () => {
          if (isPinned) pins.set(index, pins.get(index)! - 1);
          isPinned = false;
        };
      },
    }) as unknown as SnapshotStore;
  const pinned = () => [...pins].filter(([, count]) => count > 0).map(([index]) => index);

  test("is kept, with the log behind it, until its time is up", async () => {
    pins.clear();
    const clock = new ManualClock();
    const list = [at(9), at(5)];
    const { queue, streams, ended, waits } = queueOf({ snapshots: pinning(list), clock });
    queue.send({ to: "n2", term: 1 });
    await waits("n2");
    expect(queue.offered).toEqual([5]);
    // While offers wait for their answers, old snapshots go all the same.
    expect(pinned()).toEqual([]);
    // The receiver wants the older one, of which it has more.
    streams.get("n2")!.reply({ kind: "accepted", offset: 1, index: 5 });
    await waits("n2");
    expect(queue.list()).toMatchObject([{ index: 5, doneBytes: 1, resumedBytes: 1 }]);
    expect(pinned()).toEqual([5]);
    streams.get("n2")!.cancel();
    await until(() => ended.length === 1, "the transfer has failed");
    // One that gets nowhere changes nothing.
    queue.send({ to: "n2", term: 1 });
    await waits("n2");
    streams.get("n2")!.cancel();
    await until(() => ended.length === 2, "the next one has failed, too");
    expect([queue.offered, pinned()]).toEqual([[5], [5]]);
    clock.advance(999);
    expect(queue.offered).toEqual([5]);
    clock.advance(1);
    expect([queue.offered, pinned(), clock.pending]).toEqual([[], [], 0]);
    await queue.stop();
  });

  test("is released when the follower wants another one, and is not sent when it is gone", async () => {
    pins.clear();
    let list = [at(5)];
    const store = { ...pinning([]), list: () => list } as unknown as SnapshotStore;
    const { queue, streams, ended, waits } = queueOf({ snapshots: store, clock: new ManualClock() });
    const offer = async () => {
      queue.send({ to: "n2", term: 1 });
      await waits("n2");
    };
    const interrupt = async (index: number) => {
      await offer();
      streams.get("n2")!.reply({ kind: "accepted", offset: 0 });
      await waits("n2");
      expect(pinned()).toEqual([index]);
      const before = ended.length;
      streams.get("n2")!.cancel();
      await until(() => ended.length > before, "the transfer has failed");
      expect(pinned()).toEqual([index]);
    };
    await interrupt(5);
    list = [at(9), ...list];
    await interrupt(9);
    await offer();
    list = [at(12)];
    streams.get("n2")!.reply({ kind: "accepted", offset: 0 });
    await until(() => ended.length === 3, "the one that it wants is gone");
    expect(ended.at(-1)).toEqual(["n2", { kind: "failed", hasProgressed: false }]);
    await queue.stop();
  });

  test("is released when the follower no longer needs it, and when the node stops", async () => {
    pins.clear();
    const clock = new ManualClock();
    const list = [at(9)];
    const { queue, raft, streams, ended, waits } = queueOf({ snapshots: pinning(list), clock });
    const interrupt = async (to: string) => {
      queue.send({ to, term: 1 });
      await waits(to);
      streams.get(to)!.reply({ kind: "accepted", offset: 0 });
      await waits(to);
      const before = ended.length;
      streams.get(to)!.cancel();
      await until(() => ended.length > before, "the transfer has failed");
    };
    await interrupt("n2");
    expect(queue.offered).toEqual([9]);
    queue.send({ to: "n2", term: 1 });
    await waits("n2");
    streams.get("n2")!.reply(AHEAD);
    await until(() => ended.length === 2, "the follower is ahead");
    expect([queue.offered, clock.pending]).toEqual([[], 0]);
    await interrupt("n3");
    await interrupt("n4");
    raft.progress = [{ key: "n4", state: "snapshot" }];
    queue.serve();
    expect(clock.pending).toBe(1);
    await queue.stop();
    expect([pinned(), clock.pending]).toEqual([[], 0]);
  });
});

test("the sender waits for a receiver that checks its data, and not for one that is silent", async () => {
  const clock = new ManualClock();
  const { queue, streams, ended, waits } = queueOf({ clock, idleMs: 100 });
  queue.send({ to: "n2", term: 1 });
  for (let round = 0; round < 5; round++) {
    await waits("n2");
    clock.advance(90);
    streams.get("n2")!.reply({ kind: "progress", receivedBytes: 0 });
  }
  await waits("n2");
  expect(ended).toEqual([]);
  clock.advance(100);
  await until(() => ended.length === 1, "it is given up");
  await queue.stop();
});
