import { expect, test } from "vitest";
import { rejoin } from "./rejoin/rejoin.js";

// A small state over a slow link, so that its transfer can be disturbed half-way. `npm run rejoin` does the same with as
// much as one likes, and kills the follower, too.
const KEYS = 6_000;
const VALUE_BYTES = 1_024;
const ARGS = [
  ...["--tick-ms", "50", "--snapshot-entries", "1000", "--trailing-log-bytes", "0"],
  ...["--segment-bytes", `${5 * 1024 * 1024}`],
];
const BYTES_PER_SECOND = 3_000_000;
/** Bytes that a link's end costs: a chunk that was not there whole, and what was on its way behind it, in sockets and in the proxy. */
const IN_FLIGHT_BYTES = 900_000;

test.each(["link cut three times", "leader killed"] as const)(
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
    // What was there before a disturbance is not sent again, but for what was in flight; heartbeats and the log behind are small.
    const most = report.snapshotBytes + (report.disturbed + 1) * IN_FLIGHT_BYTES;
    expect(report.sentBytes).toBeLessThan(most);
  },
  240_000,
);
