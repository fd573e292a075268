import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { limits } from "../../../src/base/limits.js";
import { Histogram } from "../../../src/base/telemetry/measures.js";
import {
  healthOf,
  healthVerdicts,
  memberFindings,
  type OwnHealthFacts,
  ownFindings,
} from "../../../src/node/health/health.js";
import { MemberWatch } from "../../../src/node/health/member_watch.js";
import { RecentTimes } from "../../../src/node/health/recent_times.js";
import { WriteWatch } from "../../../src/node/health/write_watch.js";
import type { CatchUp } from "../../../src/node/snapshots/lag_monitor.js";
import type { OutgoingTransfer } from "../../../src/node/snapshots/send_queue.js";
import type { ProgressInfo } from "../../../src/raft/raft.js";
import { deferred, ManualClock } from "../../support/conditions.js";

const PACE = { tickMs: 100, electionMs: 1_000 };
const QUICK = { lastMs: 1, maxMs: 2, p99Ms: 2, underWayMs: undefined };

describe("the durations of the last minute", () => {
  test("count their maximum for a minute, and no longer", () => {
    const times = new RecentTimes();
    times.record(1_000, 700);
    times.record(30_000, 5);
    expect(times.maxMs(55_000)).toBe(700);
    expect(times.maxMs(1_000 + limits.healthWindowMs)).toBe(5);
    expect(times.maxMs(10 * limits.healthWindowMs)).toBe(0);
  });

  test("move the 99th percentile by two long ones of a hundred, not by one", () => {
    const times = new RecentTimes();
    for (let at = 0; at < 99; at++) times.record(at, 1.5);
    times.record(100, 900);
    expect([times.p99Ms(200), times.maxMs(200)]).toEqual([2, 900]);
    times.record(200, 900);
    expect(times.p99Ms(200)).toBe(900);
    expect(new RecentTimes().p99Ms(0)).toBe(0);
  });
});

describe("the watch on writes of the log (T8)", () => {
  const started = (isSynced = true) => {
    const clock = new ManualClock();
    const watch = new WriteWatch(clock, PACE.electionMs, { logSyncs: new Histogram() });
    const write = deferred();
    return { clock, watch, write, ended: watch.measure(isSynced, () => write.promise) };
  };

  test("counts a write in progress with the time that it has taken so far", async () => {
    const { clock, watch, write, ended } = started();
    clock.advance(15_000);
    expect(watch.sync).toEqual({ lastMs: 0, maxMs: 15_000, p99Ms: 0, underWayMs: 15_000 });
    expect(watch.disk).toBe("stuck");
    write.resolve();
    await ended;
    expect(watch.sync).toEqual({ lastMs: 15_000, maxMs: 15_000, p99Ms: 15_000, underWayMs: undefined });
  });

  test("calls the disk suspect after a stuck write until a quick write ends or some time passes", async () => {
    const { clock, watch, write, ended } = started();
    clock.advance(PACE.electionMs);
    write.resolve();
    await ended;
    expect(watch.disk).toBe("suspect");
    clock.advance(limits.stuckTimeouts * PACE.electionMs - 1);
    expect(watch.disk).toBe("suspect");
    clock.advance(1);
    expect(watch.disk).toBe("fit");
    const slow = deferred();
    const again = watch.measure(true, () => slow.promise);
    clock.advance(PACE.electionMs);
    slow.resolve();
    await again;
    // It was not synced, and says nothing about the disk.
    await watch.measure(false, async () => {});
    expect(watch.disk).toBe("suspect");
    await watch.measure(true, async () => {});
    expect(watch.disk).toBe("fit");
  });

  test("calls the disk stuck for a write that is not synced, and treats a failed write as ended", async () => {
    const { clock, watch, write, ended } = started(false);
    clock.advance(PACE.electionMs);
    expect(watch.disk).toBe("stuck");
    write.reject(new Error("no"));
    await expect(ended).rejects.toThrow("no");
    expect([watch.disk, watch.sync.underWayMs, watch.sync.lastMs]).toEqual(["suspect", undefined, 0]);
  });

  test("does not count a pause of the process against the disk", () => {
    const { clock, watch } = started();
    clock.advance(5_000);
    watch.stoodStill(4_900);
    expect([watch.sync.underWayMs, watch.disk]).toEqual([100, "fit"]);
  });
});

describe("a node's verdict on itself", () => {
  const facts = { sync: QUICK, lateMs: 0, shortage: undefined, lost: undefined, removedAt: undefined };
  const judge = (change: Partial<OwnHealthFacts>) => healthOf("n1", ownFindings({ ...facts, ...change }, PACE));

  test("is healthy when nothing is wrong", () =>
    expect(judge({})).toEqual({ id: "n1", verdict: "healthy", reason: "" }));

  test("names a write that does not end (T8)", () => {
    const { verdict, reason } = judge({ sync: { ...QUICK, underWayMs: 15_000, maxMs: 15_000 } as never });
    expect(verdict).toBe("stuck_disk");
    expect(reason).toBe("a write of the log has been in progress for 15 s: the disk does not complete it");
  });

  test("is slow from half an election timeout on", () => {
    expect(judge({ sync: { ...QUICK, maxMs: 499 } }).verdict).toBe("healthy");
    const { verdict, reason } = judge({ sync: { ...QUICK, maxMs: 500 } });
    expect([verdict, reason]).toEqual(["slow_disk", expect.stringContaining("took 500 ms within the last minute")]);
  });

  test("names too many open files", () => {
    const shortage = new CairnError("BUSY", "too many open files");
    expect(judge({ shortage })).toMatchObject({
      verdict: "out_of_descriptors",
      reason: expect.stringMatching(/^too many files are open/),
    });
  });

  test("is the worst of several problems, and all are named", () => {
    const { verdict, reason } = judge({ lateMs: 800, shortage: new CairnError("DISK_FULL", "no space left") });
    expect(verdict).toBe("disk_full");
    expect(reason).toMatch(/^the disk is full: .*; the process stalled for 800 ms/);
    expect(healthVerdicts.at(-1)).toBe("healthy");
  });
});

/** A leader's look at n2, tick by tick. */
class Watched {
  readonly clock = new ManualClock();
  readonly watch = new MemberWatch(this.clock);
  member: ProgressInfo = {
    id: "n2",
    key: "n2",
    match: 5,
    next: 6,
    sentRound: 1,
    ackedRound: 1,
    state: "replicate",
    isActive: true,
  };
  lastIndex = 5;
  transfers: OutgoingTransfer[] = [];

  /** Each tick sends a heartbeat; `isAnswered`: all that was sent is answered by the next tick. */
  pass(ms: number, isAnswered: boolean): void {
    for (let at = 0; at < ms; at += PACE.tickMs) {
      this.clock.advance(PACE.tickMs);
      const { sentRound, ackedRound } = this.member;
      this.member = {
        ...this.member,
        ackedRound: isAnswered ? sentRound : ackedRound,
        sentRound: sentRound + 1,
      };
      this.watch.tick([this.member], this.lastIndex, this.transfers);
    }
  }

  verdict(catchUp: CatchUp = { kind: "possible" }) {
    const [times] = this.watch.times([this.member]);
    return healthOf("n2", memberFindings({ times: times!, catchUp, lost: this.member.lost }, PACE));
  }
}

describe("a leader's verdict on a member", () => {
  test("is healthy when it answers and has every entry", () => {
    const n2 = new Watched();
    n2.pass(60_000, true);
    expect(n2.verdict()).toEqual({ id: "n2", verdict: "healthy", reason: "" });
  });

  test("names slow answers (T8)", () => {
    const n2 = new Watched();
    n2.pass(1_000, true);
    n2.pass(900, false);
    expect(n2.verdict()).toMatchObject({
      verdict: "slow_answers",
      reason: expect.stringMatching(/^its answers take \d+ ms/),
    });
    n2.pass(300, true);
    expect(n2.verdict().verdict).toBe("healthy");
  });

  test("names silence, and since when (T8)", () => {
    const n2 = new Watched();
    n2.pass(1_000, true);
    n2.pass(12_000, false);
    expect(n2.verdict()).toEqual({ id: "n2", verdict: "silent", reason: "it has not answered the leader for 12 s" });
  });

  test("names a member that answers and accepts no entries, because health is progress, not answers (T3)", () => {
    const n2 = new Watched();
    n2.pass(1_000, true);
    n2.lastIndex = 9;
    n2.pass(4_900, true);
    expect(n2.verdict().verdict).toBe("healthy");
    n2.pass(100, true);
    expect(n2.verdict()).toMatchObject({ verdict: "falling_behind", reason: expect.stringContaining("for 5000 ms") });
    n2.member = { ...n2.member, match: 6 };
    n2.pass(100, true);
    expect(n2.verdict().verdict).toBe("healthy");
  });

  test("names lost data however the member answers (T3)", () => {
    const n2 = new Watched();
    n2.member = { ...n2.member, state: "lost", lost: { acknowledged: 9, has: 5 } };
    n2.lastIndex = 9;
    n2.pass(60_000, true);
    const reason = "it acknowledged entries up to 9, and its log ends at 5: it has lost data";
    expect(n2.verdict()).toEqual({ id: "n2", verdict: "lost_data", reason });
    n2.pass(10_000, false);
    const silent = `${reason}; it has not answered the leader for 10 s`;
    expect(n2.verdict()).toEqual({ id: "n2", verdict: "lost_data", reason: silent });
  });

  test("is more patient during a snapshot transfer, and calls no member idle whose snapshot was sent in full", () => {
    const n2 = new Watched();
    n2.lastIndex = 900;
    n2.member = { ...n2.member, state: "snapshot" };
    n2.transfers = [{ to: "n2", doneBytes: 10, totalBytes: 100 } as OutgoingTransfer];
    n2.pass(29_000, true);
    expect(n2.verdict().verdict).toBe("healthy");
    n2.pass(2_000, true);
    expect(n2.verdict().verdict).toBe("falling_behind");
    n2.transfers = [{ to: "n2", doneBytes: 100, totalBytes: 100 } as OutgoingTransfer];
    n2.pass(90_000, true);
    expect(n2.verdict().verdict).toBe("healthy");
    expect(n2.verdict({ kind: "hopeless", reason: "n2 cannot catch up: it is too slow" })).toMatchObject({
      verdict: "cannot_catch_up",
    });
  });

  test("is forgotten for removed members, and for all when the node no longer leads", () => {
    const n2 = new Watched();
    n2.pass(10_000, false);
    n2.watch.tick([], 5, []);
    n2.pass(100, false);
    expect(n2.verdict().verdict).toBe("healthy");
  });

  test("does not count a pause of the leader's process against the member", () => {
    const n2 = new Watched();
    n2.pass(1_000, true);
    n2.clock.advance(30_000);
    n2.watch.stoodStill(30_000);
    expect(n2.verdict().verdict).toBe("healthy");
  });
});
