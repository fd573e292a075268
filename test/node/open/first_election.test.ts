import { beforeEach, expect, test } from "vitest";
import type { NodeHost } from "../../../src/node/host.js";
import { FirstElection } from "../../../src/node/open/first_election.js";
import type { Raft } from "../../../src/raft/raft.js";

/** A clock that a test moves, with the one timer that is running. */
class HandClock {
  ms = 0;
  #timer: { at: number; run: () => void } | undefined;

  now = () => this.ms;
  soon = (run: () => void) => run();
  after = (ms: number, run: () => void) => {
    const timer = { at: this.ms + ms, run };
    this.#timer = timer;
    return () => {
      if (this.#timer === timer) this.#timer = undefined;
    };
  };

  /** Moves to the next timer and runs it; false when none is running. */
  step(): boolean {
    const timer = this.#timer;
    if (timer === undefined) return false;
    this.#timer = undefined;
    this.ms = timer.at;
    timer.run();
    return true;
  }
}

let clock: HandClock;
let leader: string | undefined;
let isEnding: boolean;
/** Times at which the node asked. */
let asked: number[];

beforeEach(() => {
  clock = new HandClock();
  leader = undefined;
  isEnding = false;
  asked = [];
});

function firstElection(random: () => number): FirstElection {
  const core = { campaignEarly: () => asked.push(clock.ms) } as unknown as Raft;
  const host = {
    raft: {
      get leader() {
        return leader;
      },
    },
    ending: {
      get hasBegun() {
        return isEnding;
      },
      attempt: (work: () => void) => work(),
    },
    core: (change: (raft: Raft) => unknown) => change(core),
    wake: () => {},
  } as unknown as NodeHost;
  return new FirstElection(host, { clock, tickMs: 100, electionTicks: 4, random });
}

test("a node that has started asks within a tick, then every one to two ticks, for two election timeouts", () => {
  const drawn = [0.25, 0.5, 0, 0.75, 0.5, 0.5, 0.5];
  firstElection(() => drawn.shift()!).begin();
  while (clock.step());
  expect(asked).toEqual([25, 175, 275, 450, 600, 750]);
});

test("it stops asking when it knows a leader", () => {
  firstElection(() => 0.5).begin();
  clock.step();
  leader = "n2";
  while (clock.step());
  expect(asked).toEqual([50]);
});

test("it asks no more once it is stopped, or while the node is ending", () => {
  const stopped = firstElection(() => 0.5);
  stopped.begin();
  stopped.stop();
  expect(clock.step()).toBe(false);
  firstElection(() => 0.5).begin();
  isEnding = true;
  while (clock.step());
  expect(asked).toEqual([]);
});
