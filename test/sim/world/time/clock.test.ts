import { expect, test } from "vitest";
import { Trace } from "../../run/trace.js";
import { SimClock } from "./clock.js";
import { Scheduler } from "./scheduler.js";

function setUp(rate = 1) {
  const scheduler = new Scheduler(new Trace(), { settled: () => undefined });
  const node = { id: "n1", life: 1, isPaused: false, deferred: [] };
  const clock = new SimClock(scheduler, node, rate, 5_000);
  const rang: string[] = [];
  const ring = (name: string) => () => void rang.push(`${name} ${scheduler.nowMs} ${clock.now.toFixed(1)}`);
  const run = (ms: number) => {
    scheduler.after(ms, undefined, "end", () => scheduler.stop());
    return scheduler.run();
  };
  return { scheduler, node, clock, rang, ring, run };
}

test("a simulated clock that runs fast fires early by true time, and on time by its own", async () => {
  const { clock, rang, ring, run } = setUp(1.25);
  clock.view().after(100, ring("timer"));
  await run(200);
  expect(rang).toEqual(["timer 80 5100.0"]);
});

test("a jump forward fires the overdue timers of a simulated clock, and the others earlier", async () => {
  const { scheduler, clock, rang, ring, run } = setUp();
  clock.view().after(100, ring("short"));
  clock.view().after(500, ring("long"));
  scheduler.after(50, undefined, "jump", () => clock.jump(300));
  await run(1_000);
  expect(rang).toEqual(["short 50 5350.0", "long 200 5500.0"]);
});

test("a change of pace counts from its own moment on", async () => {
  const { scheduler, clock, rang, ring, run } = setUp();
  clock.view().after(100, ring("timer"));
  scheduler.after(50, undefined, "slower", () => clock.drift(0.5));
  await run(1_000);
  expect(rang).toEqual(["timer 150 5100.0"]);
});

test("timers that were cancelled, or set in an earlier life, never fire, not even by a jump", async () => {
  const { scheduler, node, clock, rang, ring, run } = setUp();
  const before = clock.view();
  before.after(100, ring("old life"));
  before.after(10, ring("called off"))();
  scheduler.after(50, undefined, "restart", () => {
    node.life += 1;
    before.after(1, ring("set by the old life"));
    before.soon(ring("soon of the old life"));
    clock.view().after(20, ring("new life"));
    clock.jump(10);
  });
  await run(1_000);
  expect(rang).toEqual(["new life 60 5070.0"]);
});

test("a timer of no delay fires now, behind the events at hand", async () => {
  const { scheduler, node, clock, rang, ring, run } = setUp();
  scheduler.after(10, node, "event", () => clock.view().soon(ring("soon")));
  scheduler.after(10, node, "event", ring("at hand"));
  await run(100);
  expect(rang).toEqual(["at hand 10 5010.0", "soon 10 5010.0"]);
});
