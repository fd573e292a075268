import { setImmediate as realTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { Trace } from "../../run/trace.js";
import { SimRandom } from "../random.js";
import { EventQueue } from "./event_queue.js";
import { type Place, Scheduler, type SimEvent } from "./scheduler.js";
import { nextTurn } from "./turns.js";

function setUp() {
  const seen: string[] = [];
  const trace = new Trace();
  const scheduler = new Scheduler(trace, {
    settled: (place) => {
      seen.push(`settled ${place?.id ?? "-"}`);
      return undefined;
    },
  });
  const happened: string[] = [];
  const note = (text: string) => () => void happened.push(`${scheduler.nowMs} ${text}`);
  const end = (ms: number) => scheduler.after(ms, undefined, "end", () => scheduler.stop());
  return { scheduler, trace, seen, happened, note, end };
}

function place(id = "n1"): Place & { life: number; isPaused: boolean } {
  return { id, life: 1, isPaused: false, deferred: [] };
}

describe("the queue of events", () => {
  test("returns events by time, and those of one time in the order of their arrival", () => {
    const random = new SimRandom(7);
    const queue = new EventQueue();
    const times = Array.from({ length: 500 }, () => random.whole(0, 50));
    times.forEach((at, order) => {
      queue.push({ at, order } as SimEvent);
    });
    const popped = times.map(() => queue.pop()!);
    const sorted = times.map((at, order) => ({ at, order })).sort((a, b) => a.at - b.at || a.order - b.order);
    expect(popped).toEqual(sorted);
    expect(queue.pop()).toBeUndefined();
  });
});

describe("the scheduler of the simulator", () => {
  test("runs events in order of their time, however they were added", async () => {
    const { scheduler, happened, note, end } = setUp();
    scheduler.after(3, undefined, "c", note("c"));
    scheduler.after(1, undefined, "a", () => {
      note("a")();
      scheduler.after(1, undefined, "b", note("b"));
    });
    end(4);
    await scheduler.run();
    expect(happened).toEqual(["1 a", "2 b", "3 c"]);
  });

  test("finishes all promise jobs and turns of an event before the next event, however many follow each other", async () => {
    const { scheduler, happened, note, end } = setUp();
    scheduler.after(1, undefined, "a", async () => {
      for (let job = 0; job < 1_000; job++) await undefined;
      await nextTurn();
      await nextTurn();
      note("a is over")();
    });
    scheduler.after(1.001, undefined, "b", note("b"));
    end(2);
    await scheduler.run();
    expect(happened).toEqual(["1 a is over", "1.001 b"]);
  });

  test("asks its observer when an event has settled, and runs nothing before the observer has answered", async () => {
    const happened: string[] = [];
    const trace = new Trace();
    const scheduler = new Scheduler(trace, {
      settled: async () => {
        for (let job = 0; job < 50; job++) await undefined;
        happened.push("looked");
      },
    });
    scheduler.after(1, undefined, "a", () => void happened.push("a"));
    scheduler.after(2, undefined, "b", () => scheduler.stop());
    await scheduler.run();
    expect(happened).toEqual(["looked", "a", "looked", "looked"]);
  });

  test("ends the run with the error of an event or of its observer", async () => {
    const { scheduler } = setUp();
    scheduler.after(1, undefined, "a", () => {
      throw new Error("broken");
    });
    await expect(scheduler.run()).rejects.toThrow("broken");
    const watched = new Scheduler(new Trace(), { settled: () => Promise.reject(new Error("seen")) });
    watched.after(1, undefined, "a", () => {});
    await expect(watched.run()).rejects.toThrow("seen");
  });

  test("fails a run that stands still", async () => {
    const { scheduler } = setUp();
    await expect(scheduler.run()).rejects.toThrow("standstill");
  });

  test("drops events that were cancelled, or belong to a life that is over", async () => {
    const { scheduler, happened, note, end } = setUp();
    const node = place();
    scheduler.cancel(scheduler.after(1, undefined, "called off", note("called off")));
    scheduler.after(1, node, "old life", note("old life"));
    scheduler.arrive(1, node, "whoever lives there", note("whoever lives there"));
    node.life += 1;
    end(2);
    await scheduler.run();
    expect(happened).toEqual(["1 whoever lives there"]);
  });

  test("runs the events of a paused place in order when it resumes", async () => {
    const { scheduler, happened, note, end } = setUp();
    const node = place();
    node.isPaused = true;
    scheduler.after(2, node, "b", note("b"));
    scheduler.after(1, node, "a", note("a"));
    scheduler.after(1.5, place("n2"), "elsewhere", note("elsewhere"));
    scheduler.after(5, undefined, "go on", () => {
      node.isPaused = false;
      scheduler.resume(node);
    });
    end(6);
    await scheduler.run();
    expect(happened).toEqual(["1.5 elsewhere", "5 a", "5 b"]);
  });

  test("takes no real time, and yields to the process now and then", async () => {
    const { scheduler, end } = setUp();
    let turns = 0;
    let isOver = false;
    const count = async () => {
      for (; !isOver; turns++) await realTurn();
    };
    const counting = count();
    for (let ms = 1; ms <= 10_000; ms++) scheduler.after(ms * 1_000, undefined, "event", () => {});
    end(10_001_000);
    const started = performance.now();
    await scheduler.run();
    isOver = true;
    await counting;
    expect(scheduler.nowMs).toBe(10_001_000);
    expect(performance.now() - started).toBeLessThan(60_000);
    expect(turns).toBeGreaterThanOrEqual(20);
  });
});

describe("the trace of a run", () => {
  test("has equal hashes only for equal lines", () => {
    const hashOf = (lines: readonly (string | number)[]) => {
      const trace = new Trace();
      for (const line of lines) typeof line === "string" ? trace.add(line) : trace.mix(line);
      return trace.hash;
    };
    expect(hashOf(["a", "b", 1])).toBe(hashOf(["a", "b", 1]));
    const others = [
      ["b", "a", 1],
      ["ab", 1],
      ["a", "b", 2],
      ["a", "b"],
      ["a", "b", 2 ** 40 + 1],
    ].map(hashOf);
    expect(new Set([...others, hashOf(["a", "b", 1])]).size).toBe(6);
  });

  test("remembers its last lines, in order", () => {
    const trace = new Trace();
    for (let line = 1; line <= 150; line++) trace.add(`${line}`);
    expect(trace.last).toEqual(Array.from({ length: 60 }, (_, at) => `${91 + at}`));
  });
});

describe("the random source of a run", () => {
  test("yields the same numbers for the same seed, and others for a fork", () => {
    const draw = (random: SimRandom) => Array.from({ length: 5 }, () => random.fraction());
    expect(draw(new SimRandom(3))).toEqual(draw(new SimRandom(3)));
    expect(draw(new SimRandom(3).fork("disk"))).toEqual(draw(new SimRandom(3).fork("disk")));
    const all = [new SimRandom(3), new SimRandom(4), new SimRandom(3).fork("disk"), new SimRandom(3).fork("network")];
    expect(new Set(all.map((random) => draw(random).join())).size).toBe(4);
  });

  test("has waiting times with the right mean, and with an end", () => {
    const random = new SimRandom(5);
    const times = Array.from({ length: 20_000 }, () => random.waiting(100));
    expect(times.reduce((sum, ms) => sum + ms, 0) / times.length).toBeCloseTo(100, -1);
    expect(Math.max(...times)).toBeLessThanOrEqual(1_000);
  });
});
