import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { orderedAnswers } from "../../src/rpc/ordered.js";
import { collect, deferred } from "../support/nodes/loopback.js";

async function* from<Value>(values: Iterable<Value>): AsyncGenerator<Value> {
  yield* values;
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe("orderedAnswers", () => {
  test("yields answers in the order of the requests, whatever the order in which they are ready", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(fc.integer(), { maxLength: 30 }),
        fc.integer({ min: 1, max: 8 }),
        async (scheduler, values, window) => {
          const handle = (value: number) => scheduler.schedule(Promise.resolve(value * 2));
          const answers = collect(orderedAnswers(from(values), handle, window));
          await scheduler.waitFor(answers);
          expect(await answers).toEqual(values.map((value) => value * 2));
        },
      ),
      { numRuns: 100 },
    );
  });

  test("starts as many requests as fit the window, and one more for each answer taken", async () => {
    const works = Array.from({ length: 10 }, () => deferred<number>());
    const started: number[] = [];
    const handle = (index: number) => {
      started.push(index);
      return works[index]!.promise;
    };
    const answers = orderedAnswers(from(works.keys()), handle, 3);

    const first = answers.next();
    await turn();
    expect(started).toEqual([0, 1, 2]);

    works[2]!.resolve(2);
    works[1]!.resolve(1);
    await turn();
    expect(started).toEqual([0, 1, 2]);

    works[0]!.resolve(0);
    expect(await first).toEqual({ done: false, value: 0 });
    await turn();
    expect(started).toEqual([0, 1, 2, 3]);

    for (const [index, work] of works.entries()) work.resolve(index);
    expect(await collect(answers)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test("throws a failure after the answers before it, and stops reading requests", async () => {
    const slow = deferred<number>();
    const started: number[] = [];
    let closed = false;
    async function* endless() {
      try {
        for (let index = 0; ; index++) yield index;
      } finally {
        closed = true;
      }
    }
    const answers = orderedAnswers(
      endless(),
      async (index) => {
        started.push(index);
        if (index === 0) return slow.promise;
        if (index === 1) throw new Error("no");
        return index;
      },
      4,
    );
    const first = answers.next();
    await turn();
    slow.resolve(0);
    expect(await first).toEqual({ done: false, value: 0 });
    await expect(answers.next()).rejects.toThrow("no");
    expect(await answers.next()).toEqual({ done: true, value: undefined });
    await turn();
    expect(closed).toBe(true);
    expect(Math.max(...started)).toBeLessThan(5);
  });

  test("yields the answers to earlier requests before it throws the requests' failure", async () => {
    async function* broken() {
      yield 1;
      yield 2;
      throw new Error("gone");
    }
    const seen: number[] = [];
    const read = async () => {
      for await (const value of orderedAnswers(broken(), async (request) => request, 8)) seen.push(value);
    };
    await expect(read()).rejects.toThrow("gone");
    expect(seen).toEqual([1, 2]);
  });

  test("treats a handler that throws synchronously like any other failure", async () => {
    const handle = (): Promise<number> => {
      throw new Error("at once");
    };
    await expect(collect(orderedAnswers(from([1]), handle, 2))).rejects.toThrow("at once");
  });

  test("closes the requests and drops the work in progress when its reader leaves early", async () => {
    const never = deferred<number>();
    let closed = false;
    async function* requests() {
      try {
        yield 0;
        yield 1;
        yield 2;
      } finally {
        closed = true;
      }
    }
    for await (const _ of orderedAnswers(requests(), async (index) => (index === 0 ? 0 : never.promise), 2)) break;
    await turn();
    expect(closed).toBe(true);
    never.reject(new Error("dropped: an unhandled rejection would fail the run"));
    await turn();
  });
});
