import { expect, test } from "vitest";
import { type CrashOptions, crashTable, runCrash } from "./crash.js";

// `npm run crash -- --kills 200` is the long form of these.

test("a node that is killed again and again under load loses nothing that it acknowledged", async () => {
  const { statesRebuilt, statesDistrusted } = await killed({ kills: 7 });
  expect(statesRebuilt).toBeLessThanOrEqual(statesDistrusted);
});

test("a node that is killed, and whose state is sometimes wiped, rebuilds the state from snapshot and log", async () => {
  const { statesWiped, statesRebuilt, statesDistrusted } = await killed({ kills: 6, wipeState: 2 });
  expect(statesWiped).toBeGreaterThan(0);
  // A start may be killed before it has built the state again, or there may be no snapshot yet.
  expect(statesRebuilt).toBeLessThanOrEqual(statesWiped + statesDistrusted);
});

async function killed(options: Pick<CrashOptions, "kills" | "wipeState">) {
  // A new one for each run; a failure names it.
  const report = await runCrash({ ...options, seed: Date.now() % 2 ** 31 });
  console.log(crashTable(report));
  expect(report.kills).toBe(options.kills);
  expect(report.acknowledged, "writes were acknowledged").toBeGreaterThan(0);
  expect(report.snapshotFilesVerified, "snapshot files were verified").toBeGreaterThan(0);
  return report;
}
