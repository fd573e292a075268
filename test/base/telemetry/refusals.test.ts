import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { isLimitName, limitRefusals, overLimit } from "../../../src/base/telemetry/refusals.js";
import { withoutComments } from "../../support/repository/source_text.js";
import { sourceFiles } from "../../support/repository/sources.js";

describe("an error because of a limit", () => {
  test("is counted under the limit's name", () => {
    const before = limitRefusals.get("watches");
    const error = overLimit("BUSY", "watches", "too many watches", { retryAfterMs: 5 });
    expect(error).toMatchObject({ code: "BUSY", text: "too many watches", retryAfterMs: 5 });
    expect(limitRefusals.get("watches")).toBe(before + 1);
  });

  test("names one of the limits", () => {
    expect(Object.keys(limits).every(isLimitName)).toBe(true);
    expect(["", "constructor", "nothing"].some(isLimitName)).toBe(false);
  });

  test("is made by overLimit, but for the errors that no limit causes", () => {
    /** Files that make such errors otherwise, with the number of places and the reason. */
    const others: Readonly<Record<string, number>> = {
      // Somebody else's errors, which were counted where they were made, or those of grpc-js.
      "src/rpc/status.ts": 2,
      // Limits of the system: files that are open.
      "src/system/fs.ts": 1,
      "src/machine/lmdb/environment.ts": 1,
      // Two uses of one thing at a time.
      "src/storage/snapshots/part_files.ts": 1,
      "src/machine/worker/worker_thread.ts": 1,
      // Leadership is being handed over.
      "src/node/requests/refusals.ts": 1,
      // A limit of a newer version.
      "src/server/kv/key_value_calls.ts": 1,
    };
    const made = /new CairnError\(\s*"(LIMIT_EXCEEDED|BUSY|QUEUE_FULL|SLOW_WATCHER)"/g;
    const found = sourceFiles().flatMap(({ path, source }) => {
      const count = [...withoutComments(source).matchAll(made)].length;
      return count === 0 ? [] : [[path, count]];
    });
    expect(Object.fromEntries(found)).toEqual(others);
  });
});
