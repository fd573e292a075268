import { defineConfig } from "vitest/config";

/**
 * How much of the core its own tests reach: `npm run coverage`. Files that hold types only count for nothing and are shown with 0.
 *
 * Left out, with the reason: nothing. Assertions are calls, so that a broken invariant is no branch; one that cannot be broken from outside has
 * no test.
 */
export default defineConfig({
  test: {
    include: ["test/raft/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
    coverage: {
      enabled: true,
      provider: "v8",
      include: ["src/raft/**/*.ts"],
      reporter: ["text"],
      thresholds: { lines: 98, branches: 98 },
    },
  },
});
