import { parseArgs } from "node:util";
import { defineConfig } from "vitest/config";

// npm run rejoin -- [--keys 600000] [--value-bytes 1024]
const { values } = parseArgs({
  args: process.argv.slice(process.argv.indexOf("--") + 1),
  options: {
    keys: { type: "string", default: "600000" },
    "value-bytes": { type: "string", default: "1024" },
  },
});
for (const name of ["keys", "value-bytes"] as const) {
  if (!/^[1-9]\d*$/.test(values[name])) throw new Error(`--${name} must be a whole number, not ${values[name]}`);
}

/** A follower that missed very much, as a command of its own. */
export default defineConfig({
  test: {
    globalSetup: ["test/support/global_setup.ts"],
    include: ["test/integration/rejoin.command.ts"],
    pool: "forks",
    testTimeout: 0,
    disableConsoleIntercept: true,
    env: { REJOIN_KEYS: values.keys, REJOIN_VALUE_BYTES: values["value-bytes"] },
  },
});
