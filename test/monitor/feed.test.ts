import { describe, expect, test } from "vitest";
import { Sampler } from "../../src/monitor/feed/sampler.js";
import { TransfersView } from "../../src/monitor/feed/transfers.js";
import type { ProcessFigures } from "../../src/monitor/process_figures.js";
import { RecentAnswers } from "../../src/monitor/recent_answers.js";
import { serve } from "../support/nodes/served_node.js";

describe("the answers that are kept for a moment", () => {
  test("are made once a second for each question, and a hundred are kept", () => {
    let now = 0;
    let made = 0;
    const answers = new RecentAnswers(() => now);
    const ask = (question: string) => answers.get(question, () => `${++made}`);
    expect([ask("a"), ask("a"), ask("b"), ask("a")]).toEqual(["1", "1", "2", "1"]);
    now = 1_000;
    expect(ask("a")).toBe("3");
    for (let at = 0; at < 100; at++) ask(`c${at}`);
    const before = made;
    expect(ask("a")).toBe(`${before + 1}`);
    expect(ask("c99")).toBe(`${before}`);
  });
});

describe("the transfers that a page shows", () => {
  test("have a rate at the receiver, too, from the second look on", () => {
    const view = new TransfersView();
    const look = (doneBytes: number, ms: number, from = "n1") => {
      const transfer = { from, index: 7, totalBytes: 9_000, doneBytes, resumedBytes: 0 };
      return view
        .of({ transfers: [], receiver: { transfer } } as never, ms)
        .map(({ bytesPerSecond }) => bytesPerSecond);
    };
    expect(look(1_000, 0)).toEqual([0]);
    expect(look(3_000, 1_000)).toEqual([2_000]);
    expect(look(3_000, 2_000)).toEqual([1_000]);
    // Another transfer begins anew.
    expect(look(5_000, 3_000, "n2")).toEqual([0]);
  });
});

describe("the points of the charts", () => {
  const figures = { loopDelay: () => undefined } as unknown as ProcessFigures;

  test("count by a clock that nobody sets", async () => {
    const served = await serve({ lead: true });
    const sampler = new Sampler(figures);
    expect(sampler.sample(served, 0, 1_000_000)).toBeUndefined();
    await served.kv.put({ key: Buffer.from("k"), value: Buffer.from("v") });
    // The wall clock was set back by a minute.
    const point = sampler.sample(served, 2_000, 940_000)!;
    expect(point.slice(0, 2)).toEqual([940_000, 0.5]);
  });

  test("begin anew with a node that takes the place of another, however little that has done", async () => {
    const [first, second] = [await serve({ lead: true }), await serve({ lead: true })];
    const sampler = new Sampler(figures);
    await first.kv.get({ key: Buffer.from("k") });
    sampler.sample(first, 0);
    expect(sampler.sample(second, 2_000)).toBeUndefined();
    expect(sampler.sample(second, 4_000)).toBeDefined();
  });
});
