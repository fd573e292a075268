import { expect, test } from "vitest";
import { LogPins } from "../../../src/node/snapshots/log_pins.js";
import type { OutgoingTransfer } from "../../../src/node/snapshots/send_queue.js";
import type { ProgressInfo } from "../../../src/raft/raft.js";

/** A leader's pins, with the transfers and the followers that a test sets. */
function pinsOf() {
  const raft = { progress: [] as ProgressInfo[], snapshot: { index: 20, term: 1 } };
  const transfers = { running: [] as OutgoingTransfer[], offered: [] as number[], list: () => transfers.running };
  let released = 0;
  const pins = new LogPins(raft, () => {
    released += 1;
  });
  const follow = (match: number, isActive = true) => {
    raft.progress = [
      { id: "n2", key: "n2", match, next: match + 1, sentRound: 0, ackedRound: 0, state: "probe", isActive },
    ];
  };
  return { pins, raft, transfers, follow, released: () => released };
}

const transferTo = (to: string, index: number) => ({ to, index }) as OutgoingTransfer;

test("nothing is pinned before there are transfers", () => {
  const { pins, released } = pinsOf();
  pins.look();
  expect([pins.pinnedIndex, released()]).toEqual([undefined, 0]);
});

test("a transfer pins the log behind the lowest snapshot that its receiver may choose", () => {
  const { pins, transfers, released } = pinsOf();
  pins.connect(transfers);
  transfers.running = [transferTo("n2", 9), transferTo("n3", 12)];
  transfers.offered = [5, 12];
  expect(pins.pinnedIndex).toBe(5);
  // The receiver has chosen the newer one.
  transfers.offered = [9, 12];
  pins.look();
  expect([pins.pinnedIndex, released()]).toEqual([9, 1]);
});

test("a pin moves on with its follower, and is released when that has caught up with the newest snapshot", () => {
  const { pins, transfers, follow, released } = pinsOf();
  pins.connect(transfers);
  transfers.running = [transferTo("n2", 9)];
  expect(pins.pinnedIndex).toBe(9);
  transfers.running = [];
  pins.installed("n2", 9);
  follow(9);
  pins.look();
  expect(pins.pinnedIndex).toBe(9);
  follow(15);
  pins.look();
  expect([pins.pinnedIndex, released()]).toEqual([15, 0]);
  follow(20);
  pins.look();
  expect([pins.pinnedIndex, released()]).toEqual([undefined, 1]);
});

test("a follower that stops answering pins nothing", () => {
  const { pins, transfers, follow, released } = pinsOf();
  pins.connect(transfers);
  pins.installed("n2", 9);
  follow(9, false);
  pins.look();
  expect([pins.pinnedIndex, released()]).toEqual([undefined, 1]);
});
