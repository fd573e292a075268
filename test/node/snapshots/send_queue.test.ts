import { describe, expect, test } from "vitest";
import { SendQueue, type SendQueueOptions } from "../../../src/node/snapshots/send_queue.js";
import type { InstallReply } from "../../../src/peers/install/install_messages.js";
import type { InstallStream } from "../../../src/peers/transport.js";
import type { TransferOutcome } from "../../../src/raft/leader/replication.js";
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
  const queue = new SendQueue({
    id: "n1",
    snapshots,
    choices: async () => [info],
    resumeMs: 1_000,
    atOnce: 2,
    bandwidth: undefined,
    compression: undefined,
    isWanted: () => true,
    clock: systemClock,
    logger: silentLogger,
    idleMs: 10_000,
    chunkBytes: 3,
    open: (to) => {
      const stream = new FakeStream();
      streams.set(to, stream);
      opened.push(to);
      return stream;
    },
    ended: ({ to }, outcome) => ended.push([to, outcome]),
    ...change,
  });
  const waits = (to: string) => until(() => streams.get(to)?.isWaiting === true, `the transfer to ${to} waits`);
  return { queue, streams, opened, ended, waits };
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
    let term = 1;
    const { queue, streams, opened, ended, waits } = queueOf({ atOnce: 1, isWanted: (send) => send.term === term });
    queue.send({ to: "n2", term: 1 });
    queue.send({ to: "n3", term: 1 });
    queue.send({ to: "n4", term: 1 });
    await waits("n2");
    term = 2;
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
    const { queue, streams, ended, waits } = queueOf({
      snapshots: pinning(list),
      choices: async () => list,
      clock,
    });
    queue.send({ to: "n2", term: 1 });
    await waits("n2");
    expect(queue.pinnedIndex).toBe(5);
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
    expect([queue.pinnedIndex, pinned()]).toEqual([5, [5]]);
    clock.advance(999);
    expect(queue.pinnedIndex).toBe(5);
    clock.advance(1);
    expect([queue.pinnedIndex, pinned(), clock.pending]).toEqual([undefined, [], 0]);
    await queue.stop();
  });

  test("is released when the follower wants another one, and is not sent when it is gone", async () => {
    pins.clear();
    let list = [at(5)];
    const store = { ...pinning([]), list: () => list } as unknown as SnapshotStore;
    const offered = { snapshots: store, choices: async () => list, clock: new ManualClock() };
    const { queue, streams, ended, waits } = queueOf(offered);
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
    const { queue, streams, ended, waits } = queueOf({ snapshots: pinning(list), choices: async () => list, clock });
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
    expect(queue.pinnedIndex).toBe(9);
    queue.send({ to: "n2", term: 1 });
    await waits("n2");
    streams.get("n2")!.reply(AHEAD);
    await until(() => ended.length === 2, "the follower is ahead");
    expect([queue.pinnedIndex, clock.pending]).toEqual([undefined, 0]);
    await interrupt("n3");
    await interrupt("n4");
    queue.letGo((to) => to === "n4");
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
