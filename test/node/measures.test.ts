import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { Histogram, quantileOf } from "../../src/base/telemetry/measures.js";
import { LogAge } from "../../src/node/measures/log_age.js";
import { NodeMeasures } from "../../src/node/measures/node_measures.js";
import { StageProbe } from "../../src/node/measures/stage_probe.js";
import { ManualClock } from "../support/conditions.js";

describe("a histogram", () => {
  test("counts a value in the first bucket whose bound is not below it", () => {
    const histogram = new Histogram([1, 10]);
    for (const value of [0.5, 1, 1.5, 10, 11, 1_000]) histogram.record(value);
    expect(histogram.view()).toEqual({ bounds: [1, 10], counts: [2, 2, 2], count: 6, sum: 1_024 });
  });

  test("gives quantiles within the bucket that holds them, and the last bound above", () => {
    const histogram = new Histogram([1, 10]);
    expect(quantileOf(histogram.view(), 0.5)).toBeUndefined();
    for (let at = 0; at < 9; at++) histogram.record(5);
    expect(quantileOf(histogram.view(), 0.5)).toBeCloseTo(5.5);
    histogram.record(50);
    expect(quantileOf(histogram.view(), 1)).toBe(10);
  });
});

describe("the probe of the stages of a write", () => {
  const counts = (probe: StageProbe) => Object.values(probe.times).map((each) => each.view().count);

  test("follows one write at a time through its stages", () => {
    const clock = new ManualClock();
    const probe = new StageProbe(clock);
    probe.proposed(5);
    probe.proposed(6);
    clock.advance(1);
    probe.writing(4);
    probe.writing(6);
    clock.advance(2);
    probe.written(6);
    clock.advance(1);
    probe.committed(6);
    clock.advance(4);
    probe.applied(6);
    const sums = Object.fromEntries(Object.entries(probe.times).map(([stage, each]) => [stage, each.view().sum]));
    expect(sums).toEqual({ queue: 1, sync: 2, replicate: 3, apply: 4 });
    expect(counts(probe)).toEqual([1, 1, 1, 1]);
  });

  test("forgets a write that another leader's log has replaced", () => {
    const probe = new StageProbe(new ManualClock());
    probe.proposed(5);
    probe.truncated(4);
    probe.proposed(5);
    probe.writing(5);
    expect(counts(probe)).toEqual([1, 0, 0, 0]);
  });
});

describe("the timeline of a node", () => {
  test("tells a warning once while it holds, whatever its figures, and that it is over", () => {
    const { timeline, ...measures } = measuresOf();
    measures.look(["a sync took 512 ms"]);
    measures.look(["a sync took 700 ms"]);
    measures.look([]);
    expect(timeline.entries.map(({ kind }) => kind)).toEqual(["warning", "cleared"]);
  });

  test("keeps the newest entries only", () => {
    const { timeline } = measuresOf();
    for (let at = 0; at <= limits.timelineEntries; at++) timeline.add({ kind: "warning", text: `${at}` });
    expect(timeline.entries).toHaveLength(limits.timelineEntries);
    expect(timeline.entries[0]).toMatchObject({ number: 2, text: "1", unixMs: 7 });
  });
});

test("a happening is published on the channel cairn:happening, for programs that embed a node", () => {
  const heard: unknown[] = [];
  const listener = (message: unknown) => heard.push(message);
  subscribe("cairn:happening", listener);
  measuresOf().timeline.add({ kind: "warning", text: "the disk is full" });
  unsubscribe("cairn:happening", listener);
  measuresOf().timeline.add({ kind: "warning", text: "nobody hears this" });
  expect(heard).toEqual([{ node: "n1", kind: "warning", text: "the disk is full", number: 1, unixMs: 7 }]);
});

function measuresOf() {
  const measures = new NodeMeasures(
    "n1",
    new ManualClock(),
    () => 7,
    new LogAge(
      () => 7,
      0,
      () => undefined,
    ),
  );
  return { timeline: measures.timeline, look: (warnings: string[]) => measures.lookAtWarnings(warnings) };
}
