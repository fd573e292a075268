import { configDefaults, defineConfig } from "vitest/config";
import { SlowFirst } from "./test/support/run/slow_first.js";

const common = {
  pool: "forks",
  // One more than two cores: tests that start processes wait for timers half of their time.
  maxWorkers: 3,
  testTimeout: 60_000,
  hookTimeout: 60_000,
} as const;

/**
 * Files of these folders run one after the other in the same process, which saves 0.4 s of CPU time for each: they replace no module, and
 * end the processes that they start.
 */
const shared = [
  "base",
  "client",
  "daemon",
  "encoding",
  "gateway",
  "node",
  "peers",
  "raft",
  "rpc",
  "server",
  "storage",
  "system",
].map((folder) => `test/${folder}/**/*.test.ts`);

export default defineConfig({
  test: {
    ...common,
    globalSetup: ["test/support/run/global_setup.ts"],
    sequence: { sequencer: SlowFirst },
    projects: [
      { test: { ...common, name: "shared", include: shared, isolate: false } },
      {
        test: {
          ...common,
          name: "alone",
          include: ["test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, ...shared],
        },
      },
    ],
  },
});
