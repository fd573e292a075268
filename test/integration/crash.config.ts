import { parseArgs } from "node:util";
import { defineConfig } from "vitest/config";

// npm run crash -- [--kills 200] [--seed N] [--data DIR] [--wipe-state 8]
const { values } = parseArgs({
  args: process.argv.slice(process.argv.indexOf("--") + 1),
  options: {
    kills: { type: "string", default: "200" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    data: { type: "string", default: "" },
    "wipe-state": { type: "string", default: "0" },
  },
});
for (const name of ["kills", "seed", "wipe-state"] as const) {
  if (!/^\d+$/.test(values[name]))
    throw new Error(`--${name} must be a whole number, not ${JSON.stringify(values[name])}`);
}

/** The long crash run, as a command of its own. */
export default defineConfig({
  test: {
    globalSetup: ["test/support/global_setup.ts"],
    include: ["test/integration/crash.command.ts"],
    pool: "forks",
    testTimeout: 0,
    disableConsoleIntercept: true,
    env: {
      CRASH_KILLS: values.kills,
      CRASH_SEED: values.seed,
      CRASH_DATA: values.data,
      CRASH_WIPE_STATE: values["wipe-state"],
    },
  },
});
