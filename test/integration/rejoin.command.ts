import { expect, test } from "vitest";
import { rejoin } from "./rejoin/rejoin.js";

// Run by rejoin.config.ts, which takes the command line apart.
const keys = Number(process.env.REJOIN_KEYS);
const valueBytes = Number(process.env.REJOIN_VALUE_BYTES);

test.each(["none", "link cut three times", "follower killed", "leader killed"] as const)(
  `a follower that missed ${keys} keys of ${valueBytes} bytes comes back by a snapshot: %s`,
  async (disturbance) => {
    const report = await rejoin({ keys, valueBytes, disturbance, args: [], progress: (line) => console.log(line) });
    console.log(`${disturbance}: ${JSON.stringify(report, undefined, 2)}`);
    expect(report.errors).toEqual([]);
  },
);
