import { describe, expect, test } from "vitest";
import { AppendQueue } from "../../src/peers/append/append_queue.js";
import type { PeerAppend } from "../../src/raft/messages.js";
import { heartbeat, withEntries } from "./peers.js";

function roundsIn(queue: AppendQueue): number[] {
  const rounds: number[] = [];
  for (let message = queue.take(); message !== undefined; message = queue.take()) rounds.push(message.round);
  return rounds;
}

function queueOf(...messages: PeerAppend[]): AppendQueue {
  const queue = new AppendQueue();
  for (const message of messages) expect(queue.add(message)).toBe(true);
  return queue;
}

describe("messages that are queued for a peer", () => {
  test("come out in the order in which they went in", () => {
    expect(roundsIn(queueOf(withEntries(1, 1, 2), withEntries(2, 3, 3), heartbeat(3)))).toEqual([1, 2, 3]);
  });

  test("are replaced by a heartbeat when they are heartbeats, and kept when they have entries", () => {
    const queue = queueOf(heartbeat(1), withEntries(2, 1, 1), heartbeat(3), withEntries(4, 2, 2), heartbeat(5));
    expect(queue.length).toBe(3);
    expect(roundsIn(queue)).toEqual([2, 4, 5]);
  });

  test("are all replaced by a message of a later term", () => {
    const queue = queueOf(withEntries(7, 1, 1, 2), heartbeat(8, 2), heartbeat(1, 3));
    expect(roundsIn(queue)).toEqual([1]);
    expect(queue.bytes).toBe(0);
  });

  test("are refused beyond the limit, but one message of any size is accepted", () => {
    const queue = new AppendQueue(1_000);
    const large = withEntries(1, 1, 1, 1, 5_000);
    expect(queue.add(large)).toBe(true);
    expect(queue.add(heartbeat(2))).toBe(false);
    expect(queue.take()).toBe(large);
    expect(queue.bytes).toBe(0);
    expect(queue.add(heartbeat(2))).toBe(true);
  });

  test("never fill the queue when they are heartbeats", () => {
    const queue = new AppendQueue(1_000);
    for (let round = 1; round <= 100; round++) expect(queue.add(heartbeat(round))).toBe(true);
    expect(roundsIn(queue)).toEqual([100]);
  });
});
