import { expect, test } from "vitest";
import type { SnapshotOutcome } from "../../src/core/replication.js";
import { systemClock } from "../../src/node/clock.js";
import { silentLogger } from "../../src/node/logger.js";
import { SnapshotOutbox } from "../../src/node/snapshot_outbox.js";
import type { SnapshotInfo } from "../../src/storage/snapshots/snapshot_info.js";
import type { SnapshotStore } from "../../src/storage/snapshots/snapshot_store.js";
import type { InstallReply } from "../../src/transport/install_messages.js";
import type { InstallStream } from "../../src/transport/transport.js";
import { manyTurns, until } from "../support/conditions.js";

const info = { index: 5, term: 1, fileBytes: 3, sha256: new Uint8Array(32) } as SnapshotInfo;

/** A store with one snapshot of three bytes. */
const snapshots = {
  newest: () => info,
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

test("the end of a transfer that another has taken the place of is not reported: it would be taken for the end of that one", async () => {
  const streams: FakeStream[] = [];
  const ended: SnapshotOutcome[] = [];
  const outbox = new SnapshotOutbox({
    id: "n1",
    snapshots,
    choices: async () => [info],
    resumeMs: 1_000,
    clock: systemClock,
    logger: silentLogger,
    idleMs: 10_000,
    chunkBytes: 3,
    open: () => {
      const stream = new FakeStream();
      streams.push(stream);
      return stream;
    },
    ended: (_, outcome) => ended.push(outcome),
  });
  const send = { to: "n2", term: 1 };
  outbox.send(send);
  await until(() => streams[0]?.isWaiting === true, "the first transfer waits for its answer");
  outbox.send(send);
  await until(() => streams[1]?.isWaiting === true, "the second transfer waits for its answer");
  await manyTurns();
  expect(ended).toEqual([]);
  streams[1]!.reply({
    kind: "refused",
    reason: "already_committed",
    detail: "",
    term: 1,
    commitIndex: 7,
    lastLogIndex: 7,
  });
  await until(() => ended.length > 0, "the second transfer has ended");
  expect(ended).toEqual([{ kind: "ahead", commitIndex: 7 }]);
  expect(outbox.list()).toEqual([]);
  await outbox.stop();
});
