import { parseArgs } from "node:util";
import { defineConfig } from "vitest/config";

// npm run torture -- [--minutes 15] [--nodes 5] [--seed N] [--history FILE]
const { values } = parseArgs({
  args: process.argv.slice(process.argv.indexOf("--") + 1),
  options: {
    minutes: { type: "string", default: "15" },
    nodes: { type: "string", default: "5" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    history: { type: "string", default: "" },
  },
});
for (const name of ["minutes", "nodes", "seed"] as const) {
  if (!/^\d+(\.\d+)?$/.test(values[name]))
    throw new Error(`--${name} must be a number, not ${JSON.stringify(values[name])}`);
}

/** The long torture run, as a command of its own. */
export default defineConfig({
  test: {
    globalSetup: ["test/support/global_setup.ts"],
    include: ["test/integration/torture.command.ts"],
    pool: "forks",
    testTimeout: 0,
    disableConsoleIntercept: true,
    env: {
      TORTURE_MINUTES: values.minutes,
      TORTURE_NODES: values.nodes,
      TORTURE_SEED: values.seed,
      TORTURE_HISTORY: values.history,
    },
  },
});
