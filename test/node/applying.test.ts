import { expect, onTestFinished, test } from "vitest";
import { limits } from "../../src/core/limits.js";
import type { Entry } from "../../src/core/types.js";
import { MemoryMachine } from "../../src/machine/memory_machine.js";
import { ActingLeader, putEntries } from "../support/acting_leader.js";
import { nextTurn } from "../support/conditions.js";
import { memoryHome } from "../support/nodes.js";

// Applying is done on the main thread: who has much to apply must not be deaf meanwhile.

/** A machine that writes down in which turn of the event loop it has applied how much. */
class CountingMachine extends MemoryMachine {
  readonly batches: { readonly entries: number; readonly turn: number }[] = [];
  #turn = 0;

  constructor() {
    super();
    let isOver = false;
    onTestFinished(() => {
      isOver = true;
    });
    void this.#countTurns(() => isOver);
  }

  override apply(entries: readonly Entry[]) {
    this.batches.push({ entries: entries.length, turn: this.#turn });
    return super.apply(entries);
  }

  async #countTurns(isOver: () => boolean): Promise<void> {
    for (; !isOver(); this.#turn++) await nextTurn();
  }
}

test("a backlog is applied in batches, and between two of them the event loop has its turn", async () => {
  const machine = new CountingMachine();
  const node = await memoryHome().start({ openMachine: async () => machine });
  const leader = new ActingLeader(node, 2);
  const count = 5 * limits.applyEntries;
  await leader.append(putEntries(1, count, 2), 0);
  expect(machine.batches).toEqual([]);
  await leader.append([], count);
  await node.waitApplied(count);
  const turns = machine.batches.map(({ turn }) => turn);
  expect(machine.batches.map(({ entries }) => entries)).toEqual(Array(5).fill(limits.applyEntries));
  expect(new Set(turns).size).toBe(turns.length);
});
