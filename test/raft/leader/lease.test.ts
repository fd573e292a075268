import { expect, test } from "vitest";
import { Lease } from "../../../src/raft/leader/lease.js";
import { Timing } from "../../../src/raft/timing.js";

/** A lease of so many ticks, at its beginning. */
function leaseOf(ticks: number): Lease {
  const timing = new Timing({ elections: "automatic", electionTicks: 10, random: () => 0, reads: "lease" });
  expect(timing.leaseTicks).toBe(ticks);
  return new Lease(timing);
}

test("the lease counts a message from the tick in which it was sent, or an earlier one", () => {
  const lease = leaseOf(8);
  lease.tick(4);
  lease.tick(4);
  lease.tick(9);
  expect([1, 3].map((round) => lease.sentAt(round))).toEqual([0, 0]);
  expect([4, 8].map((round) => lease.sentAt(round))).toEqual([2, 2]);
  expect([9, 50].map((round) => lease.sentAt(round))).toEqual([3, 3]);
});

test("the lease counts nothing for no message at all", () => {
  expect(leaseOf(8).sentAt(0)).toBe(Number.NEGATIVE_INFINITY);
});

test("the lease lasts for leaseTicks from when the answered messages were sent", () => {
  const lease = leaseOf(8);
  lease.tick(5);
  const sent = lease.sentAt(5);
  let ticks = 0;
  for (; lease.lasts(sent); ticks++) lease.tick(6);
  expect(ticks).toBe(8);
});

test("the lease forgets messages that are too old to count", () => {
  const lease = leaseOf(8);
  for (let round = 2; round < 50; round++) lease.tick(round);
  expect(lease.sentAt(49)).toBe(48);
  expect(lease.sentAt(42)).toBe(41);
  expect(lease.sentAt(40)).toBe(Number.NEGATIVE_INFINITY);
  expect(lease.lasts(lease.sentAt(42))).toBe(true);
  expect(lease.lasts(lease.sentAt(41))).toBe(false);
});

test("the lease counts only new messages after a time that cannot be trusted", () => {
  const lease = leaseOf(8);
  lease.tick(5);
  lease.distrustBefore(7);
  expect(lease.sentAt(6)).toBe(Number.NEGATIVE_INFINITY);
  expect(lease.sentAt(7)).toBe(1);
});

test("no lease exists when reads do not use leases", () => {
  const lease = new Lease(new Timing({ elections: "automatic", electionTicks: 10, random: () => 0 }));
  lease.tick(5);
  expect([lease.now, lease.lasts(lease.now)]).toEqual([1, false]);
});
