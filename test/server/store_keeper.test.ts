import { expect, onTestFinished, test } from "vitest";
import { CairnError } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { decodeCommand } from "../../src/machine/kv/command.js";
import { StoreKeeper, type StoreNode } from "../../src/server/kv/store_keeper.js";
import { ManualClock, manyTurns } from "../support/conditions.js";

/** A node whose store wants so many flush points, and its keeper on a clock of the test's own. */
function keeperOf(wanted: number) {
  const state = { role: "leader", wanted, drains: true, charge: 0, proposals: 0, refusals: 0 };
  const node = {
    raft: state,
    machine: {
      get upkeep() {
        return { isWanted: state.wanted > 0, drains: state.drains, charge: state.charge };
      },
    },
    async propose(data: Uint8Array) {
      expect(decodeCommand(data)?.operation).toMatchObject({ case: "store", value: { drain: state.drains } });
      state.proposals++;
      if (state.refusals-- > 0) throw new CairnError("NOT_LEADER", "another node leads");
      state.wanted--;
      state.charge = 0;
    },
  };
  const clock = new ManualClock();
  const keeper = new StoreKeeper(node as unknown as StoreNode, clock);
  keeper.start();
  onTestFinished(() => keeper.stop());
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= limits.storeLookMs) {
      clock.advance(limits.storeLookMs);
      await manyTurns();
    }
  };
  return { state, pass, keeper, clock };
}

test("an idle leader asks for flush points as long as its store wants them", async () => {
  const { state, pass } = keeperOf(3);
  await pass(limits.storeIdleMs);
  expect(state.proposals).toBe(0);
  await pass(2 * limits.storeLookMs);
  expect(state.proposals).toBeGreaterThan(0);
  await pass(3 * limits.storeLookMs);
  expect(state).toMatchObject({ proposals: 3, wanted: 0 });
});

test("a flush point that need not drain does not", async () => {
  const { state, pass } = keeperOf(1);
  state.drains = false;
  await pass(limits.storeIdleMs + 2 * limits.storeLookMs);
  expect(state).toMatchObject({ proposals: 1, wanted: 0 });
});

test("writes put off the flush points of an idle leader", async () => {
  const { state, pass } = keeperOf(1);
  for (let write = 1; write <= 5; write++) {
    state.charge += 100;
    await pass(limits.storeIdleMs / 2);
  }
  expect(state.proposals).toBe(0);
  await pass(limits.storeIdleMs);
  expect(state.proposals).toBe(1);
});

test("a follower asks for no flush point, and a new leader waits as long as any", async () => {
  const { state, pass } = keeperOf(1);
  state.role = "follower";
  await pass(3 * limits.storeIdleMs);
  expect(state.proposals).toBe(0);
  state.role = "leader";
  await pass(limits.storeIdleMs / 2);
  expect(state.proposals).toBe(0);
  await pass(limits.storeIdleMs);
  expect(state.proposals).toBe(1);
});

test("a flush point that was refused is asked for again", async () => {
  const { state, pass } = keeperOf(1);
  state.refusals = 2;
  await pass(2 * limits.storeIdleMs);
  expect(state).toMatchObject({ proposals: 3, wanted: 0 });
});

test("a keeper that is stopped, or whose machine has no store, looks at nothing", () => {
  const { keeper, clock } = keeperOf(1);
  keeper.stop();
  expect(clock.pending).toBe(0);
  const other = new StoreKeeper({ machine: {} } as unknown as StoreNode, clock);
  other.start();
  expect(clock.pending).toBe(0);
});
