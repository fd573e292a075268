import { test } from "vitest";
import { crashTable, runCrash } from "./crash.js";

// Run by crash.config.ts, which takes the command line apart.
const { CRASH_KILLS, CRASH_SEED, CRASH_DATA, CRASH_WIPE_STATE } = process.env;

test(`a node loses no acknowledged write over ${CRASH_KILLS} kills with seed ${CRASH_SEED}`, async () => {
  const report = await runCrash({
    kills: Number(CRASH_KILLS),
    seed: Number(CRASH_SEED),
    directory: CRASH_DATA || undefined,
    wipeState: Number(CRASH_WIPE_STATE) || undefined,
    progress: (line) => console.log(line),
  });
  console.log(crashTable(report));
});
