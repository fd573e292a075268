import { test } from "vitest";
import { runTorture, tortureTable } from "./torture/torture.js";

// Run by torture.config.ts, which takes the command line apart.
const { TORTURE_MINUTES, TORTURE_NODES, TORTURE_SEED, TORTURE_HISTORY, TORTURE_TLS } = process.env;

test(`a cluster of ${TORTURE_NODES} nodes stays linearizable for ${TORTURE_MINUTES} minutes with seed ${TORTURE_SEED}`, async () => {
  const report = await runTorture({
    minutes: Number(TORTURE_MINUTES),
    nodes: Number(TORTURE_NODES),
    seed: Number(TORTURE_SEED),
    history: TORTURE_HISTORY || undefined,
    tls: TORTURE_TLS === "true",
    progress: (line) => console.log(line),
  });
  console.log(tortureTable(report));
});
