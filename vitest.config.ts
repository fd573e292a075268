import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    globalSetup: ["test/support/global_setup.ts"],
    include: ["test/**/*.test.ts"],
    pool: "forks",
    // Integration tests start real processes: more workers than cores would only make them wait for each other.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
