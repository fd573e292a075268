import { expect, test } from "vitest";
import { rejoin } from "./rejoin/rejoin.js";

// A small state over a slow link, so that its transfer can be disturbed half-way. `npm run rejoin` does the same with as much as one likes.
const KEYS = 3_000;
const VALUE_BYTES = 1_024;
const ARGS = [
  ...["--tick-ms", "50", "--snapshot-entries", "1000", "--trailing-log-bytes", "0"],
  ...["--segment-bytes", `${5 * 1024 * 1024}`],
];
const BYTES_PER_SECOND = 1_500_000;

test.each(["link cut three times", "follower killed", "leader killed"] as const)(
  "a follower that was down comes back by a snapshot: %s",
  async (disturbance) => {
    const report = await rejoin({
      keys: KEYS,
      valueBytes: VALUE_BYTES,
      disturbance,
      bytesPerSecond: BYTES_PER_SECOND,
      args: ARGS,
    });
    console.info(JSON.stringify(report));
    expect(report.errors).toEqual([]);
    expect(report.disturbed).toBe(disturbance === "link cut three times" ? 3 : 1);
    // What was there before a disturbance is not sent again: one snapshot, and little besides (chunks in flight, heartbeats, the log behind).
    expect(report.sentBytes).toBeLessThan(1.25 * report.snapshotBytes);
  },
  60_000,
);
