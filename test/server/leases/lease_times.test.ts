import fc from "fast-check";
import { expect, test } from "vitest";
import { LeaseTimes } from "../../../src/server/leases/lease_times.js";

const idsOf = (due: readonly { readonly id: number }[]) => due.map(({ id }) => id).sort((one, other) => one - other);

test("a lease is due after its whole time, and not before", () => {
  const times = new LeaseTimes(1_050);
  times.begin(1, 1_000, 0, 1_050);
  expect(times.takeDue(2_049, 10, 10)).toEqual([]);
  expect(times.takeDue(2_100, 10, 10)).toEqual([{ id: 1, keepAlives: 0 }]);
  expect(times.takeDue(9_999, 10, 10)).toEqual([]);
});

test("a lease that is kept alive begins anew, and is due on its newest number of keep-alives", () => {
  const times = new LeaseTimes(0);
  times.begin(1, 1_000, 0, 0);
  times.begin(1, 1_000, 1, 900);
  expect(times.takeDue(1_100, 10, 10)).toEqual([]);
  expect(times.remainingMs(1, 1_100)).toBe(800);
  expect(times.takeDue(1_900, 10, 10)).toEqual([{ id: 1, keepAlives: 1 }]);
});

test("a lease that was forgotten is never due, and leaves nothing behind", () => {
  const times = new LeaseTimes(0);
  times.begin(1, 1_000, 0, 0);
  times.begin(2, 1_000, 0, 0);
  times.forget(1);
  expect(times.remainingMs(1, 0)).toBeUndefined();
  expect(times.size).toBe(1);
  expect(idsOf(times.takeDue(5_000, 10, 10))).toEqual([2]);
});

test("a lease that is put back is found again, and one that is begun anew meanwhile keeps its new time", () => {
  const times = new LeaseTimes(0);
  times.begin(1, 1_000, 0, 0);
  times.begin(2, 1_000, 0, 0);
  expect(idsOf(times.takeDue(1_000, 10, 10))).toEqual([1, 2]);
  times.begin(2, 1_000, 1, 1_000);
  times.putBack(1);
  times.putBack(2);
  expect(idsOf(times.takeDue(1_001, 10, 10))).toEqual([1]);
  expect(idsOf(times.takeDue(2_000, 10, 10))).toEqual([2]);
});

test("many leases that are due at once are taken in parts, and all of them", () => {
  const times = new LeaseTimes(0);
  for (let id = 1; id <= 10_000; id++) times.begin(id, 1_000, 0, id % 3);
  const taken: number[] = [];
  for (let part = times.takeDue(2_000, 500, 600); part.length > 0; part = times.takeDue(2_000, 500, 600)) {
    expect(part.length).toBeLessThanOrEqual(500);
    taken.push(...part.map(({ id }) => id));
  }
  expect(new Set(taken).size).toBe(10_000);
});

test("whatever is kept alive or forgotten meanwhile, each lease is due when its time is over, to a tenth of a second", () => {
  const step = fc.record({
    id: fc.integer({ min: 1, max: 6 }),
    what: fc.constantFrom("begin", "begin", "forget"),
    wait: fc.nat(900),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 3 }), (steps, most) => {
      const times = new LeaseTimes(0);
      const ends = new Map<number, number>();
      let now = 0;
      let count = 0;
      const take = () => {
        // Taking goes on until nothing is left to look at.
        do {
          for (const { id } of times.takeDue(now, most, 2)) {
            expect(ends.get(id)).toBeLessThanOrEqual(now);
            times.forget(id);
            ends.delete(id);
          }
        } while (times.hasQueue);
        for (const end of ends.values()) expect(end).toBeGreaterThan(now - 100);
      };
      for (const { id, what, wait } of steps) {
        const ttlMs = 1_000 + 333 * id;
        if (what === "begin") {
          times.begin(id, ttlMs, ++count, now);
          ends.set(id, now + ttlMs);
        } else {
          times.forget(id);
          ends.delete(id);
        }
        now += wait;
        take();
      }
      now += 3_200;
      take();
      expect(times.size).toBe(0);
    }),
  );
});
