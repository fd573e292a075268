import { describe, expect, test } from "vitest";
import { InvariantViolation } from "../../src/base/assert.js";
import { CairnError } from "../../src/base/errors.js";
import type { StateMachine } from "../../src/machine/state_machine.js";
import { Ending } from "../../src/node/ending.js";
import type { NodeStorage } from "../../src/node/open/storage.js";
import { Turns } from "../../src/node/turns.js";
import { silentLogger } from "../../src/system/logger.js";
import { failure, ManualClock, manyTurns } from "../support/conditions.js";

/** The ending of a node whose loop ends with `loopFailure`, and all that it does, in order. */
function endingOf({ loopFailure, isConnected = true }: { loopFailure?: unknown; isConnected?: boolean } = {}) {
  const done: string[] = [];
  const errors: unknown[] = [];
  const damage = new AbortController();
  let loseLock: (error: CairnError) => void = () => {};
  const note = (what: string) => async () => void done.push(what);
  const storage = {
    directory: {
      crash: note("abandoned"),
      close: note("closed"),
      markStopped: note("marked"),
      onLost: (callback: typeof loseLock) => {
        loseLock = callback;
      },
    },
    log: { last: { index: 1, term: 1 }, close: note("log closed"), crash: note("log crashed") },
    machine: { damaged: damage.signal, close: note("state closed"), crash: note("state crashed") },
  } as unknown as NodeStorage<StateMachine>;
  const onFatal = (error: unknown) => {
    done.push("told");
    errors.push(error);
  };
  const ending = new Ending(storage, { id: "n1", logger: silentLogger, onFatal });
  const stopParts = async () => {
    done.push("parts stopped");
    return loopFailure;
  };
  if (isConnected) ending.connect(stopParts);
  return { ending, done, errors, damage, loseLock: (error: CairnError) => loseLock(error) };
}

const ABANDONED = ["state crashed", "log crashed", "abandoned"];
const failed = new CairnError("STORAGE_FAILED", "a sync failed");

describe("an error that ends a node stops its parts, leaves the disk as it is, and is told once", () => {
  type Setup = ReturnType<typeof endingOf>;
  const roads: Record<string, (setup: Setup) => unknown> = {
    "the core throws": ({ ending }) => {
      const change = () => {
        throw failed;
      };
      expect(() => ending.guard({}, change)).toThrow(failed);
    },
    "a tick or a turn throws": ({ ending }) =>
      ending.attempt(() => {
        throw failed;
      }),
    "the loop ends": ({ ending }) => ending.watchLoop(Promise.reject(failed)),
    "work on snapshots leaves the disk in an unknown state": ({ ending }) =>
      failure("STORAGE_FAILED", ending.watch(Promise.reject(failed))),
    "the lock is lost": ({ ending, loseLock }) => {
      ending.watchStorage();
      loseLock(failed);
    },
    "the state is found damaged": ({ ending, damage }) => {
      ending.watchStorage();
      damage.abort(failed);
    },
    "the state was found damaged before": ({ ending, damage }) => {
      damage.abort(failed);
      ending.watchStorage();
    },
    "a part says so": ({ ending }) => ending.fail(failed),
  };

  test.each(Object.entries(roads))("%s", async (_name, fail) => {
    const setup = endingOf();
    const { ending, done, errors } = setup;
    ending.assertRunning();
    await fail(setup);
    expect(ending.hasBegun).toBe(true);
    expect(() => ending.assertRunning()).toThrow("n1 has stopped");
    ending.fail(new Error("a later one"));
    await ending.stop();
    await manyTurns();
    expect(done).toEqual(["parts stopped", ...ABANDONED, "told"]);
    expect(errors).toEqual([failed]);
  });

  test("even before its parts are connected", async () => {
    const { ending, done, errors } = endingOf({ isConnected: false });
    ending.fail(failed);
    await manyTurns();
    expect([done, errors]).toEqual([[...ABANDONED, "told"], [failed]]);
  });
});

test("a broken invariant ends the node, an error of one caller does not", async () => {
  const { ending } = endingOf();
  await failure("NOT_FOUND", ending.watch(Promise.reject(new CairnError("NOT_FOUND", "there is none"))));
  await expect(ending.watch(Promise.resolve(1))).resolves.toBe(1);
  expect(ending.hasBegun).toBe(false);
  await expect(ending.watch(Promise.reject(new InvariantViolation("broken", {})))).rejects.toThrow("broken");
  expect(ending.hasBegun).toBe(true);
});

describe("a node that is stopped", () => {
  const CLOSED = ["state closed", "log closed", "marked", "closed"];

  test.each([undefined, "STOPPED", "CANCELLED"] as const)(
    "closes its storage when its loop ended with %s",
    async (code) => {
      const { ending, done, errors } = endingOf({ loopFailure: code && new CairnError(code, "interrupted") });
      await ending.stop();
      await ending.stop();
      await ending.crash();
      expect([done, errors]).toEqual([["parts stopped", ...CLOSED], []]);
    },
  );

  test("abandons its storage and says why when its loop failed on the way", async () => {
    const { ending, done } = endingOf({ loopFailure: failed });
    await failure("STORAGE_FAILED", ending.stop());
    expect(done).toEqual(["parts stopped", ...ABANDONED]);
  });

  test("as by a crash writes and reports nothing", async () => {
    const { ending, done, errors } = endingOf({ loopFailure: failed });
    await ending.crash();
    expect([done, errors]).toEqual([["parts stopped", ...ABANDONED], []]);
  });

  test("takes no turns that were due, except those that it needs to stop", async () => {
    const { ending } = endingOf();
    const turns = new Turns(new ManualClock(), ending);
    let count = 0;
    turns.connect(() => {
      count += 1;
    });
    turns.wake();
    turns.wake();
    await manyTurns();
    expect(count).toBe(1);
    turns.wake();
    await ending.stop();
    await manyTurns();
    expect(count).toBe(1);
    turns.now();
    expect(count).toBe(2);
  });
});
