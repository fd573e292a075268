import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runs, triesAll } from "../../run/tries_all.js";
import type { Operation } from "../history.js";
import { checkLinearizable, type Violation } from "../linearizability.js";
import { anyOperation, plans, type Traffic } from "./arbitrary_histories.js";
import { carryOut, isLinearizable } from "./brute_force.js";
import { type Plan, runPlans } from "./simulated_register.js";

/** So few that a read often has several explanations. */
const fewValues = fc.constantFrom("1", "2", "3");

/** Tiny histories, with much going on at once. */
const tiny: Traffic = { clients: 3, values: fewValues, longest: 6, unknownPerMille: 300, latest: 20 };

/** A history as clients would see it of a register that works. */
function simulated(traffic: Traffic, length: { minLength: number; maxLength: number }): fc.Arbitrary<Operation[]> {
  return fc.array(plans(traffic), length).map((all) => runPlans(all));
}

/** The answers that an operation can have, so far as the values are of `fewValues`. */
function answers(operation: Operation): Operation[] {
  const { client, op, key, call, ret, value, from } = operation;
  const asked = { client, op, key, call, ret, status: "ok" as const };
  const outs = ["1", "2", "3"];
  switch (op) {
    case "put":
      return [operation];
    case "get":
      return [{ ...asked, found: false }, ...outs.map((out) => ({ ...asked, found: true, out }))];
    case "delete":
      return [true, false].map((found) => ({ ...asked, found }));
    case "cas": {
      const cas = { ...asked, value: value!, from: from! };
      return [{ ...cas, found: true }, { ...cas, found: false }, ...outs.map((out) => ({ ...cas, found: false, out }))];
    }
  }
}

describe("the verdict equals that of trying all orders", () => {
  /** Checks that the verdicts are the same, and that both come often enough for that to mean anything. */
  function compare(histories: fc.Arbitrary<readonly Operation[]>, numRuns: number): void {
    const seen = { ok: 0, violation: 0 };
    fc.assert(
      fc.property(histories, (history) => {
        const expected = isLinearizable(history) ? "ok" : "violation";
        seen[expected]++;
        expect(checkLinearizable(history).outcome).toBe(expected);
      }),
      { numRuns },
    );
    expect(Math.min(seen.ok, seen.violation)).toBeGreaterThan(numRuns / 10);
  }

  test("for answers at random", () => {
    compare(fc.array(anyOperation(fewValues, 10), { minLength: 2, maxLength: 7 }), runs(1500, 6000));
  });

  test("for answers at random, with all calls at once and mostly unknown", () => {
    const operation = fc.tuple(anyOperation(fewValues, 2), fc.nat(2)).map(([each, kind]): Operation => {
      return kind === 0 || each.op === "get" ? each : { ...each, status: "info", ret: null };
    });
    compare(fc.array(operation, { minLength: 4, maxLength: 7 }), runs(800, 3000));
  });

  test("for a register with one wrong answer", () => {
    const history = fc
      .tuple(simulated(tiny, { minLength: 3, maxLength: 8 }), fc.nat(), fc.nat())
      .map(([operations, at, choice]) => {
        const changeable = operations.filter(({ status, op }) => status === "ok" && op !== "put");
        const changed = changeable[at % changeable.length];
        if (changed === undefined) return operations;
        const possible = answers(changed);
        return operations.with(operations.indexOf(changed), possible[choice % possible.length]!);
      });
    compare(history, runs(1000, 4000));
  });
});

describe("a register that works", () => {
  test("is accepted, however few values and however many unknown outcomes its history has", () => {
    fc.assert(
      fc.property(simulated(tiny, { minLength: 1, maxLength: 60 }), (history) => {
        expect(checkLinearizable(history).outcome).toBe("ok");
      }),
      { numRuns: runs(150, 500) },
    );
  });

  test("is accepted on many keys", () => {
    fc.assert(
      fc.property(fc.array(simulated(tiny, { minLength: 1, maxLength: 20 }), { maxLength: 5 }), (histories) => {
        const history = histories.flatMap((ofKey, at) => ofKey.map((operation) => ({ ...operation, key: `k${at}` })));
        expect(checkLinearizable(history).outcome).toBe("ok");
      }),
    );
  });

  test("is rejected when one read returns a value that was overwritten before the read, or never written", () => {
    fc.assert(
      fc.property(uniquePlans(60, tiny), fc.nat(), fc.nat(), (all, at, choice) => {
        const history = runPlans(all);
        const reads = history.filter(({ op, status }) => op === "get" && status === "ok");
        const read = reads[at % reads.length];
        fc.pre(read !== undefined);
        const impossible = ["never written", ...overwrittenBefore(history, read.call)];
        const out = impossible[choice % impossible.length]!;
        const verdict = checkLinearizable(history.with(history.indexOf(read), { ...read, found: true, out }));
        expect(verdict).toMatchObject({ outcome: "violation", culprit: { out } });
      }),
      { numRuns: runs(150, 500) },
    );
  });
});

/** Values, each written once, behind which another put was called and had returned before a time. */
function overwrittenBefore(history: readonly Operation[], time: number): string[] {
  const puts = history.filter(({ op, status }) => op === "put" && status === "ok");
  return puts
    .filter(({ ret }) => puts.some((later) => later.call > ret! && later.ret! < time))
    .map(({ value }) => value!);
}

/** Plans whose values are written once each; what cas expects was written a little earlier. The clients take turns. */
function uniquePlans(count: number, traffic: Traffic): fc.Arbitrary<Plan[]> {
  return fc.array(plans(traffic), { minLength: count, maxLength: count, size: "max" }).map((all) =>
    all.map((plan, at) => ({
      ...plan,
      client: at % traffic.clients,
      value: `v${at}`,
      from: `v${Math.max(0, at - traffic.clients)}`,
    })),
  );
}

describe("the explanation of a violation", () => {
  const rejected = fc
    .array(anyOperation(fewValues, 10), { minLength: 2, maxLength: 7 })
    .map((history) => ({ history, verdict: checkLinearizable(history) }))
    .filter((each): each is { history: Operation[]; verdict: Violation } => each.verdict.outcome === "violation");

  /** What returned before an operation, in the order of returns; those at the same time in the order of the history. */
  function returnedBefore(history: readonly Operation[], culprit: Operation): Operation[] {
    const returned = history.filter(({ status }) => status === "ok").sort((a, b) => a.ret! - b.ret!);
    return returned.slice(0, returned.indexOf(culprit));
  }

  /** The history up to the last of some returns; what else was called by then has an unknown outcome. */
  function beginning(history: readonly Operation[], returned: readonly Operation[]): Operation[] {
    const end = returned.at(-1)?.ret ?? Number.NEGATIVE_INFINITY;
    return history
      .filter(({ call, status }) => call <= end && status !== "fail")
      .map((each) => (returned.includes(each) ? each : { ...each, status: "info", ret: null }));
  }

  test("blames the first return after which no order is left", () => {
    fc.assert(
      fc.property(rejected, ({ history, verdict: { culprit } }) => {
        const before = returnedBefore(history, culprit);
        expect(isLinearizable(beginning(history, before))).toBe(true);
        expect(isLinearizable(beginning(history, [...before, culprit]))).toBe(false);
      }),
      { numRuns: runs(150, 500) },
    );
  });

  test("orders all operations that returned before, and says what the key can hold after them", () => {
    fc.assert(
      fc.property(rejected, ({ history, verdict: { prefix, states, culprit, inFlight } }) => {
        const before = returnedBefore(history, culprit);
        expect(prefix).toEqual(expect.arrayContaining(before));
        expect(stateBehind(prefix)).toBeDefined();
        expect(states.length).toBeGreaterThan(0);
        for (const state of states) expect(isLinearizable([...beginning(history, before), readOf(state)])).toBe(true);
        expect(inFlight.every(({ call, ret }) => call <= culprit.ret! && ret! >= culprit.ret!)).toBe(true);
      }),
      { numRuns: runs(150, 500) },
    );
  });

  /** What the key holds when operations have taken effect in this order; undefined if they cannot have. */
  function stateBehind(order: readonly Operation[]): { state: string | null } | undefined {
    return order.reduce<{ state: string | null } | undefined>(
      (before, operation) => before && carryOut(operation, before.state),
      { state: null },
    );
  }

  function readOf(state: string | null): Operation {
    const read = { client: "r", op: "get", key: "k", call: 1000, ret: 1001, status: "ok" } as const;
    return state === null ? { ...read, found: false } : { ...read, found: true, out: state };
  }
});

describe("many operations on one key", () => {
  const OPERATIONS = 5000;
  const SEEDS = triesAll ? [1, 2, 3] : [1];
  const traffic: Traffic = { clients: 8, values: fc.constant(""), longest: 100, unknownPerMille: 50, latest: 2000 };

  function sample(seed: number, plansOf: fc.Arbitrary<Plan[]>): Operation[] {
    return runPlans(fc.sample(plansOf, { seed, numRuns: 1 })[0]!);
  }

  test.each(SEEDS)("take hardly more steps than their number (seed %i)", (seed) => {
    const history = sample(seed, uniquePlans(OPERATIONS, traffic));
    const unknown = history.filter(({ status, op }) => status === "info" && op !== "get").length;
    expect(unknown).toBeGreaterThan(OPERATIONS / 40);
    const { outcome, steps } = checkLinearizable(history);
    expect(outcome).toBe("ok");
    expect(steps).toBeLessThan(3 * OPERATIONS);
  });

  test.each(SEEDS)("take a few more steps when the last read is wrong (seed %i)", (seed) => {
    const history = sample(seed, uniquePlans(OPERATIONS, traffic));
    const at = history.findLastIndex(({ op, status }) => op === "get" && status === "ok");
    const wrong = { ...history[at]!, found: true, out: "never written" };
    const verdict = checkLinearizable(history.with(at, wrong));
    expect(verdict).toMatchObject({ outcome: "violation", culprit: wrong });
    expect(verdict.steps).toBeLessThan(100 * OPERATIONS);
  });

  test.each(SEEDS)("may have mostly unknown outcomes (seed %i)", (seed) => {
    const history = sample(seed, uniquePlans(OPERATIONS, { ...traffic, unknownPerMille: 600 }));
    const { outcome, steps } = checkLinearizable(history);
    expect(outcome).toBe("ok");
    expect(steps).toBeLessThan(3 * OPERATIONS);
  });
});
