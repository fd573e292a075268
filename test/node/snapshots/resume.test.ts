import { describe, expect, test } from "vitest";
import { TRAILER_BYTES } from "../../../src/encoding/snapshot_format.js";
import type { IncomingSnapshot } from "../../../src/node/snapshots/receiver.js";
import type { InstallMessage, InstallReply } from "../../../src/peers/install/install_messages.js";
import type { KeyValueNode } from "../../../src/server/kv/key_value_node.js";
import { deferred, isSettled, ManualClock, until } from "../../support/conditions.js";
import {
  ActingLeader,
  putCommand,
  putEntries,
  type SnapshotFile,
  snapshotOf,
} from "../../support/nodes/acting_leader.js";
import { type MemoryHome, memoryHome } from "../../support/nodes/nodes.js";

/** Of several chunks. */
async function largeSnapshot(index: number): Promise<SnapshotFile> {
  return snapshotOf(
    Array.from({ length: index }, (_, at) => ({
      index: at + 1,
      term: 2,
      type: "command" as const,
      data: putCommand(`k${at % 40}`, new Uint8Array(20_000).fill(at)),
    })),
  );
}

const source = await largeSnapshot(40);
const newer = await largeSnapshot(60);
const NEARLY = source.file.byteLength - TRAILER_BYTES;

/** Has nearly all of a snapshot arrive. */
async function receiveMost(node: KeyValueNode, term = 2, snapshot = source): Promise<void> {
  const leader = new ActingLeader(node, term);
  const incoming = await leader.offer(snapshot);
  await leader.send(incoming, snapshot, snapshot.file.byteLength - TRAILER_BYTES);
  await incoming.abort();
}

/** Holds the next read of a part file. */
function holdReading(home: MemoryHome) {
  const hold = deferred();
  const state = { isReading: false, release: hold.resolve };
  home.disk.onCall = ({ kind, path }) => {
    if (kind !== "read" || !path.endsWith(".part")) return;
    state.isReading = true;
    return hold.promise;
  };
  return state;
}

describe("a transfer that can resume one of several snapshots chooses", () => {
  const choose = async (node: KeyValueNode, offered: SnapshotFile, others: readonly SnapshotFile[]) => {
    const leader = new ActingLeader(node, 3);
    const offer = { ...leader.offerOf(offered), others: others.map((other) => leader.offerOf(other)) };
    return (await node.receiver.accept(offer)) as IncomingSnapshot;
  };

  test("an older one that is nearly complete", async () => {
    const node = await memoryHome().start();
    await receiveMost(node);
    const incoming = await choose(node, newer, [source]);
    expect([incoming.offer.index, incoming.resumedBytes]).toEqual([40, NEARLY]);
    await new ActingLeader(node, 3).send(incoming, source);
    expect(await incoming.finish()).toMatchObject({ outcome: "installed", matchIndex: 40 });
  });

  test("the newest one when nothing is present, or more of the newest", async () => {
    const home = memoryHome();
    const node = await home.start();
    const first = await choose(node, newer, [source]);
    expect([first.offer.index, first.resumedBytes]).toEqual([60, 0]);
    await first.abort();
    await receiveMost(node, 3, newer);
    const second = await choose(node, newer, [source]);
    expect([second.offer.index, second.resumedBytes]).toEqual([60, newer.file.byteLength - TRAILER_BYTES]);
    await second.abort();
    expect(await home.receivedParts()).toHaveLength(1);
  });

  test("the newest one when the node has committed the older one's state", async () => {
    const home = memoryHome();
    const node = await home.start();
    await receiveMost(node);
    await new ActingLeader(node, 2).replicate(putEntries(1, 45, 2));
    const incoming = await choose(node, newer, [source]);
    expect([incoming.offer.index, incoming.resumedBytes]).toEqual([60, 0]);
    // And what was left of the older one is gone.
    expect(await home.receivedParts()).toHaveLength(1);
    await incoming.abort();
    expect(await home.receivedParts()).toEqual([]);
  });
});

describe("a receiver that verifies what it has", () => {
  const conversation = (node: KeyValueNode, term: number) => {
    const messages = [{ kind: "offer", ...new ActingLeader(node, term).offerOf(source) } as InstallMessage];
    const end = deferred();
    const said = (async function* () {
      yield* messages;
      await end.promise;
    })();
    const replies = node.receiveSnapshot(said)[Symbol.asyncIterator]() as AsyncGenerator<InstallReply>;
    return { replies, end };
  };

  test("tells the sender now and then that it is still at work", async () => {
    const clock = new ManualClock();
    const home = memoryHome();
    const node = await home.start({ clock });
    await receiveMost(node);
    const reading = holdReading(home);
    const { replies, end } = conversation(node, 2);
    for (let round = 0; round < 3; round++) {
      const next = replies.next();
      await until(() => reading.isReading, "the part is being read");
      expect(await isSettled(next)).toBe(false);
      clock.advance(2_000);
      expect((await next).value).toEqual({ kind: "progress", receivedBytes: 0 });
    }
    expect(node.receiver.transfer).toMatchObject({ from: "n9", index: 40, doneBytes: 0 });
    reading.release();
    expect((await replies.next()).value).toEqual({ kind: "accepted", offset: NEARLY });
    end.resolve();
    await replies.return(undefined);
  });

  test("can be ended by an operator, and then tells the sender and loses nothing", async () => {
    const home = memoryHome();
    const node = await home.start();
    await receiveMost(node);
    const reading = holdReading(home);
    const { replies, end } = conversation(node, 2);
    const first = replies.next();
    await until(() => reading.isReading, "the part is being read");
    await node.receiver.cancel({ from: "n9", index: 40 });
    reading.release();
    expect((await first).value).toMatchObject({ kind: "refused", reason: "cancelled" });
    expect((await replies.next()).done).toBe(true);
    end.resolve();
    home.disk.onCall = undefined;
    expect((await new ActingLeader(node, 2).offer(source)).resumedBytes).toBe(NEARLY);
  });

  test("is taken over by a newer leader, which resumes the same snapshot", async () => {
    const home = memoryHome();
    const node = await home.start();
    await receiveMost(node);
    const reading = holdReading(home);
    const older = new ActingLeader(node, 2);
    const given = node.receiver.accept(older.offerOf(source)).then(
      () => "accepted",
      (error) => error.code as string,
    );
    await until(() => reading.isReading, "the part is being read");
    const next = new ActingLeader(node, 3, "n8").offer(source);
    reading.release();
    expect(await given).toBe("CANCELLED");
    expect((await next).resumedBytes).toBe(NEARLY);
  });
});
