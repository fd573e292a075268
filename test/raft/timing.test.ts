import { describe, expect, test } from "vitest";
import { Timing, type TimingOptions } from "../../src/raft/timing.js";

const timing = (options: Partial<TimingOptions> = {}) =>
  new Timing({ elections: "automatic", electionTicks: 10, random: () => 0, ...options });

describe("the timing of the core refuses", () => {
  test("an election timeout of one tick, which leaves no random part", () => {
    expect(() => timing({ electionTicks: 1 })).toThrow("an election timeout has 2 ticks or more");
    expect(timing({ electionTicks: 2 }).electionTicks).toBe(2);
  });

  test.each([0, 10, 11])("heartbeats after %d of 10 ticks", (heartbeatTicks) => {
    expect(() => timing({ heartbeatTicks })).toThrow("heartbeats come within an election timeout");
  });
});

test("a heartbeat is sent every tick by default", () => {
  expect(timing().heartbeatTicks).toBe(1);
  expect(timing({ heartbeatTicks: 9 }).heartbeatTicks).toBe(9);
});

test("election timeouts are drawn anew each time from electionTicks to 2 * electionTicks - 1 (Raft section 5.2)", () => {
  const numbers = [0, 0.1, 0.5, 0.999];
  const drawing = timing({ random: () => numbers.shift()! });
  expect([1, 2, 3, 4].map(() => drawing.drawTimeout())).toEqual([10, 11, 15, 19]);
});

describe("leases (thesis section 6.4.1)", () => {
  test("are used when reads go by them", () => {
    expect([timing().hasLeases, timing({ reads: "quorum" }).hasLeases, timing({ reads: "lease" }).hasLeases]).toEqual([
      false,
      false,
      true,
    ]);
  });

  test("are not used with manual elections, where a voter may be told to campaign at any time", () => {
    expect(timing({ reads: "lease", elections: "manual" }).hasLeases).toBe(false);
  });

  test.each([
    [2, 0],
    [3, 1],
    [10, 8],
    [100, 89],
  ])(
    "with an election timeout of %d ticks last %d, nine tenths of the time that voters surely wait",
    (electionTicks, lease) => {
      expect(timing({ electionTicks }).leaseTicks).toBe(lease);
    },
  );
});

test("only automatic elections start campaigns on a timer", () => {
  expect([timing().isAutomatic, timing({ elections: "manual" }).isAutomatic]).toEqual([true, false]);
});
