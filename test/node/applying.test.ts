import { expect, onTestFinished, test } from "vitest";
import { CairnError } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import type { Entry } from "../../src/raft/types.js";
import { nextTurn, until } from "../support/conditions.js";
import { ActingLeader, putEntries } from "../support/nodes/acting_leader.js";
import { memoryHome } from "../support/nodes/nodes.js";

// Applying is done on the main thread: who has much to apply must not be deaf meanwhile.

/** A machine that writes down in which turn of the event loop it has applied how much. */
class CountingMachine extends MemoryMachine {
  readonly batches: { readonly entries: number; readonly turn: number }[] = [];
  /** Called when a batch is applied. */
  onApply: () => unknown = () => {};
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
    this.onApply();
    return super.apply(entries);
  }

  async #countTurns(isOver: () => boolean): Promise<void> {
    for (; !isOver(); this.#turn++) await nextTurn();
  }
}

const BATCHES = 5;

/** A node that has a backlog of so many batches to apply, and a leader that has only to say that it is committed. */
async function withBacklog() {
  const machine = new CountingMachine();
  const node = await memoryHome().start({ openMachine: async () => machine });
  const leader = new ActingLeader(node, 2);
  const count = BATCHES * limits.applyEntries;
  await leader.append(putEntries(1, count, 2), 0);
  expect(machine.batches).toEqual([]);
  return { machine, node, leader, count };
}

function expectTurns({ batches }: CountingMachine): void {
  expect(batches.map(({ entries }) => entries)).toEqual(Array(BATCHES).fill(limits.applyEntries));
  expect(new Set(batches.map(({ turn }) => turn)).size).toBe(BATCHES);
}

test("a backlog of entries is applied in batches, with a turn of the event loop between two of them", async () => {
  const { machine, node, leader, count } = await withBacklog();
  await leader.append([], count);
  await node.waitApplied(count);
  expectTurns(machine);
});

test("a backlog is applied with turns of the event loop even while callers keep the node busy in microtasks", async () => {
  const { machine, node, leader, count } = await withBacklog();
  const talkers: Promise<unknown>[] = [];
  // A chain of microtasks, each of which wakes the node.
  const talk = async () => {
    const answers = [];
    for (let times = 0; times < 100; times++) {
      await null;
      answers.push(leader.append([], count));
    }
    await Promise.all(answers);
  };
  machine.onApply = () => talkers.push(talk());
  await leader.append([], count);
  await node.waitApplied(count);
  expectTurns(machine);
  await Promise.all(talkers);
});

/** A machine that prepares for entries until it is told that it is done. */
class PreparingMachine extends MemoryMachine {
  readonly prepared: number[] = [];
  done: (() => void) | undefined;

  prepare(entries: readonly Entry[]): Promise<void> | undefined {
    this.prepared.push(entries.at(-1)!.index);
    if (this.prepared.length > 1) return undefined;
    return new Promise((resolve) => {
      this.done = resolve;
    });
  }
}

test("a node writes its log and answers its leader while its machine prepares for entries", async () => {
  const machine = new PreparingMachine();
  const node = await memoryHome().start({ openMachine: async () => machine });
  const leader = new ActingLeader(node, 2);
  await leader.append(putEntries(1, 3, 2), 3);
  await until(() => machine.done !== undefined, "the machine prepares");
  await leader.append(putEntries(4, 6, 2), 6);
  expect(machine).toMatchObject({ appliedIndex: 0, prepared: [3] });
  machine.done?.();
  await node.waitApplied(6);
  expect(machine).toMatchObject({ appliedIndex: 6, prepared: [3, 6] });
});

test("a node stops when its machine cannot prepare for entries", async () => {
  const machine = new PreparingMachine();
  machine.prepare = () => Promise.reject(new CairnError("CORRUPT", "the state cannot be read"));
  const ends: unknown[] = [];
  const home = memoryHome();
  const node = await home.start({ openMachine: async () => machine, onFatal: (error) => ends.push(error) });
  await new ActingLeader(node, 2).append(putEntries(1, 3, 2), 3);
  await until(() => ends.length > 0, "the node says that it cannot go on");
  expect(ends).toMatchObject([{ code: "CORRUPT" }]);
  await node.stop();
  await home.crash(node);
});
