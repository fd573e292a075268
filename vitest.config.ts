import { defineConfig } from "vitest/config";
import { SlowFirst } from "./test/support/run/slow_first.js";

export default defineConfig({
  test: {
    pool: "forks",
    // Files run one after the other in the same processes, which saves half a second of CPU time for each. So no file replaces a module, and
    // each ends what it starts.
    isolate: false,
    // One more than two cores: tests that start processes wait for timers half of their time.
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/run/global_setup.ts"],
    // What they do after a file is done in the opposite order.
    setupFiles: ["test/support/run/cpu_times.ts", "test/support/run/end_processes.ts"],
    sequence: { sequencer: SlowFirst },
  },
});
