import { describe, expect, onTestFinished, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import {
  type OnceEvent,
  OnceHandle,
  type OnceOptions,
  type OnceRun,
  type Schedule,
} from "../../../src/client/locks/once.js";
import { deferred, failure, ManualClock, manyTurns, until } from "../../support/conditions.js";
import { MemoryCluster } from "./support.js";

const START = Date.parse("2026-01-01T00:00:00Z");

/** A fleet of processes, each with its own clock. */
function fleet() {
  const cluster = new MemoryCluster();
  const runs: OnceRun[] = [];
  const join = (
    options: { ahead?: number; schedule?: Schedule; job?: (run: OnceRun) => unknown } & OnceOptions = {},
  ) => {
    const { ahead = 0, schedule = { everyMs: 1_000 }, job = () => {}, ...more } = options;
    const clock = new ManualClock();
    const events: OnceEvent[] = [];
    const client = cluster.client(clock, () => START + ahead + clock.now());
    const run = (each: OnceRun) => {
      runs.push(each);
      return job(each);
    };
    const handle = new OnceHandle(client, "job", schedule, run, { onEvent: (event) => events.push(event), ...more });
    onTestFinished(() => handle.stop());
    return { clock, events, handle, client };
  };
  return { cluster, runs, join };
}

const types = (events: readonly OnceEvent[]) =>
  events.map((event) => ("because" in event ? event.because : event.type));

describe("a job that runs once in a fleet", () => {
  test("is run by one process for each time, with growing tokens, however close their clocks are", async () => {
    const { cluster, runs, join } = fleet();
    const members = Array.from({ length: 5 }, (_, at) => join({ ahead: at }));
    for (let second = 1; second <= 20; second++) {
      for (const { clock } of members) clock.advance(1_000);
      await until(() => members.every(({ events }) => events.length === second), "all have asked");
    }
    const times = runs.map(({ time }) => time.getTime());
    expect(times).toEqual(Array.from({ length: 20 }, (_, at) => START + (at + 1) * 1_000));
    const tokens = runs.map(({ token }) => token);
    expect(tokens).toEqual(tokens.toSorted((a, b) => a - b));
    expect(cluster.leases.size).toBe(0);
  });

  test("does not begin while an earlier run lasts, in any process", async () => {
    const { runs, join } = fleet();
    const end = deferred();
    const [slow, other] = [join({ job: () => end.promise }), join()];
    slow.clock.advance(1_000);
    await until(() => runs.length === 1, "it runs");
    other.clock.advance(1_000);
    await until(() => other.events.length === 1, "the first time is claimed");
    other.clock.advance(1_000);
    await until(() => other.events.length === 2, "the second is not run");
    slow.clock.advance(1_500);
    end.resolve();
    await until(() => slow.events.length === 1, "it has ended");
    other.clock.advance(1_000);
    await until(() => other.events.length === 3, "the third time is run");
    expect([types(slow.events), types(other.events)]).toEqual([["ran"], ["claimed", "running", "ran"]]);
  });

  test("is not run again for a time whose process has died, and is run for the next when its lease has ended", async () => {
    const { cluster, runs, join } = fleet();
    const [dead, other] = [join({ job: () => new Promise(() => {}) }), join()];
    // Its run never ends, and neither would the wait for that.
    dead.handle.stop = async () => {};
    dead.clock.advance(1_000);
    await until(() => runs.length === 1, "it runs");
    for (const lease of [...cluster.leases]) cluster.end(lease);
    other.clock.advance(1_000);
    await until(() => other.events.length === 1, "the first time is claimed");
    other.clock.advance(1_000);
    await until(() => other.events.length === 2, "the second is run");
    expect(types(other.events)).toEqual(["claimed", "ran"]);
    const [old, next] = runs;
    const fenced = (run: OnceRun) => other.client.txn().when(run.fence).commit();
    expect([next!.token > old!.token, (await fenced(old!)).succeeded]).toEqual([true, false]);
  });

  test("tells of a failed run and of a cluster that cannot be asked, and runs at the next time", async () => {
    const { cluster, join } = fleet();
    let isBad = true;
    const member = join({
      job: () => {
        if (isBad) throw new Error("bad");
      },
    });
    member.clock.advance(1_000);
    await until(() => member.events.length === 1, "it has failed");
    expect(member.events[0]).toMatchObject({ type: "failed", error: new Error("bad"), time: new Date(START + 1_000) });
    cluster.txnFailure = new CairnError("TIMEOUT", "as the test wants it");
    await manyTurns();
    member.clock.advance(1_000);
    await until(() => member.events.length === 2, "it was not claimed");
    cluster.txnFailure = undefined;
    isBad = false;
    await manyTurns();
    member.clock.advance(1_000);
    await until(() => member.events.length === 3, "it has run");
    expect([types(member.events), cluster.leases.size]).toEqual([["failed", "unclaimed", "ran"], 0]);
  });

  test("gets the signal of its lease", async () => {
    const { runs, join } = fleet();
    const member = join({
      ttlMs: 2_000,
      job: ({ signal }) => new Promise<void>((end) => signal.addEventListener("abort", () => end())),
    });
    member.clock.advance(1_000);
    await until(() => runs.length === 1, "it runs");
    member.clock.advance(2_000);
    expect(runs[0]!.signal.aborted).toBe(true);
    await until(() => member.events.length === 1, "it has ended");
  });
});

describe("the times of a job", () => {
  test("are those of a function, until there are no more, and far ones are waited for", async () => {
    const { runs, join } = fleet();
    const times = [START + 86_400_000, START + 2 * 86_400_000];
    const next = (after: Date) => {
      const time = times.find((each) => each > after.getTime());
      return time === undefined ? undefined : new Date(time);
    };
    const member = join({ schedule: { next } });
    for (let minute = 0; minute < 2 * 1_440; minute++) {
      member.clock.advance(60_000);
      if (minute % 1_440 === 1_439) await until(() => member.events.length === (minute + 1) / 1_440, "it has run");
    }
    await manyTurns();
    expect([runs.length, member.clock.pending]).toEqual([2, 0]);
  });

  test("end with stop(), which waits for the run that has begun", async () => {
    const { runs, join } = fleet();
    const end = deferred();
    const member = join({ job: () => end.promise });
    member.clock.advance(1_000);
    await until(() => runs.length === 1, "it runs");
    const stopped = member.handle.stop();
    end.resolve();
    await stopped;
    expect([types(member.events), member.clock.pending]).toEqual([["ran"], 0]);
  });

  test.each([
    [{}, "either everyMs or next"],
    [{ everyMs: 0 }, "everyMs"],
    [{ next: 5 }, "next must be a function"],
    [{ next: (after: Date) => after }, "a time after"],
  ])("are refused as %j", async (schedule, text) => {
    const { join } = fleet();
    await failure("INVALID_ARGUMENT", () => join({ schedule: schedule as Schedule }), text);
  });
});
