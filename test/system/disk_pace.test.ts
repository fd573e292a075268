import { describe, expect, test } from "vitest";
import { DiskPace } from "../../src/system/disk_pace.js";

/** Counts this many syncs of this duration in the thread pool; returns when the pace turned quick. */
function pooled(pace: DiskPace, syncs: number, ms: number): number | undefined {
  for (let sync = 1; sync <= syncs; sync++) {
    pace.pooled(ms);
    if (pace.isQuick) return sync;
  }
  return undefined;
}

describe("the pace of a disk", () => {
  test("is not taken for quick before it has been measured", () => {
    expect(new DiskPace().isQuick).toBe(false);
  });

  test("is quick after a number of short syncs in the thread pool, and stays so while syncs are short", () => {
    const pace = new DiskPace();
    expect(pooled(pace, 100, 0.2)).toBe(32);
    for (let sync = 0; sync < 1_000; sync++) pace.direct(0.07);
    expect(pace.isQuick).toBe(true);
  });

  test("is never tried on the calling thread on a disk whose shortest sync takes milliseconds", () => {
    expect(pooled(new DiskPace(), 10_000, 5)).toBeUndefined();
  });

  test("one short sync among long ones allows a trial: the others may have waited for a busy thread", () => {
    const pace = new DiskPace();
    pooled(pace, 31, 12);
    pace.pooled(0.3);
    expect(pace.isQuick).toBe(true);
  });

  test("goes back to the thread pool at the first sync that stalls", () => {
    const pace = new DiskPace();
    pooled(pace, 32, 0.2);
    pace.direct(60);
    expect(pace.isQuick).toBe(false);
  });

  test("tolerates one slow sync in four, because another process may have run meanwhile", () => {
    const pace = new DiskPace();
    pooled(pace, 32, 0.2);
    for (let sync = 0; sync < 1_000; sync++) pace.direct(sync % 4 === 0 ? 9 : 0.07);
    expect(pace.isQuick).toBe(true);
  });

  test("goes back to the thread pool when half of the syncs are slow", () => {
    const pace = new DiskPace();
    pooled(pace, 32, 0.2);
    for (let sync = 0; sync < 60 && pace.isQuick; sync++) pace.direct(sync % 2 === 0 ? 1.8 : 0.07);
    expect(pace.isQuick).toBe(false);
  });

  test("waits twice as long for the next trial after each one that failed, up to a limit", () => {
    const pace = new DiskPace();
    pooled(pace, 32, 0.2);
    const waits = [];
    for (let trial = 0; trial < 10; trial++) {
      pace.direct(60);
      waits.push(pooled(pace, 20_000, 0.2));
    }
    expect(waits).toEqual([64, 128, 256, 512, 1024, 2048, 4096, 8192, 8192, 8192]);
  });
});
