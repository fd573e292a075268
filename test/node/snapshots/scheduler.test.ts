import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { limits } from "../../../src/base/limits.js";
import type { SnapshotTrigger } from "../../../src/node/snapshots/reason.js";
import { type SnapshotPolicy, SnapshotScheduler } from "../../../src/node/snapshots/scheduler.js";
import { silentLogger } from "../../../src/system/logger.js";
import { deferred, ManualClock, nextTurn } from "../../support/conditions.js";

/** A node that only counts. A snapshot has the size of the state, and holds what was applied when it was begun. */
class Counted {
  readonly clock = new ManualClock();
  readonly taken: SnapshotTrigger[] = [];
  readonly auto: SnapshotScheduler;
  leadsOthers = false;
  stateBytes = 0;
  snapshotBytes = 0;
  /** What taking one waits for, or fails with. */
  taking = async (): Promise<void> => {};
  isTaken = true;
  isMissing = false;
  underWay = 0;
  #entries = 0;
  #bytes = 0;

  constructor(policy: SnapshotPolicy) {
    this.auto = new SnapshotScheduler({
      policy,
      clock: this.clock,
      logger: silentLogger,
      since: () => ({ entries: this.#entries, bytes: this.#bytes, snapshotBytes: this.snapshotBytes }),
      isMissing: () => this.isMissing,
      leadsOthers: () => this.leadsOthers,
      take: (reason) => this.#take(reason),
    });
  }

  async apply(entries: number, bytes = entries): Promise<void> {
    this.#entries += entries;
    this.#bytes += bytes;
    this.auto.applied();
    await nextTurn();
  }

  async wait(ms: number): Promise<void> {
    this.clock.advance(ms);
    await nextTurn();
  }

  async #take(reason: SnapshotTrigger): Promise<boolean> {
    this.taken.push(reason);
    this.underWay += 1;
    expect(this.underWay, "one at a time").toBe(1);
    const [entries, bytes] = [this.#entries, this.#bytes];
    try {
      await this.taking();
    } finally {
      this.underWay -= 1;
    }
    if (!this.isTaken) return false;
    this.#entries -= entries;
    this.#bytes -= bytes;
    this.snapshotBytes = this.stateBytes;
    this.auto.done();
    return true;
  }
}

const MiB = 1024 * 1024;

const full = async () => {
  throw new CairnError("DISK_FULL", "no space left on the device");
};

describe("the trigger by entries", () => {
  test("obeys a given number exactly, however large the state is", async () => {
    const node = new Counted({ entries: 1_000 });
    node.snapshotBytes = node.stateBytes = 10 ** 12;
    await node.apply(999);
    expect(node.taken).toEqual([]);
    await node.apply(1);
    expect(node.taken).toEqual(["entries"]);
    await node.apply(999);
    await node.apply(1);
    expect(node.taken).toEqual(["entries", "entries"]);
  });

  test("waits by default for the ratio to the last snapshot, unless the ratio is off", async () => {
    for (const logRatio of [undefined, false] as const) {
      const node = new Counted({ logRatio, logBytes: false });
      node.snapshotBytes = node.stateBytes = 20 * MiB;
      await node.apply(limits.snapshotEntries, 20 * MiB - 1);
      expect(node.taken).toEqual(logRatio === false ? ["entries"] : []);
      await node.apply(1);
      expect(node.taken).toEqual(["entries"]);
    }
  });
});

describe("the trigger by bytes of log", () => {
  test("uses 64 MiB by default, or the size of the last snapshot if larger, and the reason says which", async () => {
    const node = new Counted({});
    node.stateBytes = 100 * MiB;
    await node.apply(1, 64 * MiB - 1);
    expect(node.taken).toEqual([]);
    await node.apply(1, 1);
    expect(node.taken).toEqual(["log_bytes"]);
    await node.apply(1, 100 * MiB - 1);
    expect(node.taken).toHaveLength(1);
    await node.apply(1, 1);
    expect(node.taken).toEqual(["log_bytes", "log_ratio"]);
  });

  test("uses another ratio when given, or the budget alone when the ratio is off", async () => {
    const twice = new Counted({ logBytes: 100, logRatio: 2.5 });
    twice.snapshotBytes = 100;
    await twice.apply(1, 249);
    expect(twice.taken).toEqual([]);
    await twice.apply(1, 1);
    expect(twice.taken).toEqual(["log_ratio"]);
    const off = new Counted({ logBytes: 100, logRatio: false });
    off.snapshotBytes = 10 ** 9;
    await off.apply(1, 100);
    expect(off.taken).toEqual(["log_bytes"]);
  });

  test("bounds write amplification: with ratio 1, all snapshots but the last take no more bytes than the log", async () => {
    const node = new Counted({ entries: false, logBytes: 1_000 });
    let logBytes = 0;
    let snapshotBytes = 0;
    for (let write = 0; write < 5_000; write++) {
      // A state that grows by a half of what is written, up to a limit.
      node.stateBytes = Math.min(logBytes / 2, 100_000);
      const before = node.taken.length;
      await node.apply(1, 500);
      logBytes += 500;
      if (node.taken.length > before) snapshotBytes += node.snapshotBytes;
    }
    expect(node.taken.length).toBeGreaterThan(20);
    expect(snapshotBytes - node.snapshotBytes).toBeLessThanOrEqual(logBytes);
    expect(snapshotBytes).toBeGreaterThan(logBytes / 2);
  });
});

describe("the trigger by age", () => {
  test("counts from the last snapshot, and takes nothing when nothing was applied", async () => {
    const node = new Counted({ ageMs: 60_000 });
    await node.wait(60_000);
    expect(node.taken).toEqual([]);
    await node.apply(1);
    expect(node.taken).toEqual(["age"]);
    await node.apply(1);
    await node.wait(59_999);
    expect(node.taken).toHaveLength(1);
    await node.wait(1);
    expect(node.taken).toEqual(["age", "age"]);
  });

  test("starts again with a snapshot that was taken for another reason", async () => {
    const node = new Counted({ ageMs: 60_000 });
    await node.apply(1);
    await node.wait(40_000);
    node.auto.done();
    await node.wait(40_000);
    expect(node.taken).toEqual([]);
    await node.wait(20_000);
    expect(node.taken).toEqual(["age"]);
  });
});

describe("automatic snapshots", () => {
  test("become due during another one and are taken right after it", async () => {
    const node = new Counted({ entries: 10 });
    const hold = deferred();
    node.taking = () => hold.promise;
    await node.apply(10);
    await node.apply(15);
    expect(node.taken).toHaveLength(1);
    node.taking = async () => {};
    hold.resolve();
    await nextTurn();
    expect(node.taken).toHaveLength(2);
    await node.apply(9);
    expect(node.taken).toHaveLength(2);
  });

  test("are reconsidered at the next entries when one turned out not to be needed", async () => {
    const node = new Counted({ entries: 10 });
    node.isTaken = false;
    await node.apply(10);
    await nextTurn();
    expect(node.taken).toHaveLength(1);
    await node.apply(1);
    expect(node.taken).toHaveLength(2);
  });

  test("are retried after a delay that grows with each failure, and entries do not hasten it", async () => {
    const node = new Counted({ entries: 10 });
    node.taking = full;
    await node.apply(10);
    await node.apply(100);
    expect(node.taken).toHaveLength(1);
    expect(node.auto.failure).toBe("no space left on the device");
    for (const [at, pause] of [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000].entries()) {
      await node.wait(pause - 1);
      expect(node.taken).toHaveLength(at + 1);
      await node.wait(1);
      expect(node.taken).toHaveLength(at + 2);
    }
    node.taking = async () => {};
    await node.wait(60_000);
    expect(node.taken).toHaveLength(10);
    expect(node.auto.failure).toBeUndefined();
    node.taking = full;
    await node.apply(10);
    await node.wait(1_000);
    expect(node.taken).toHaveLength(12);
  });

  test("end with a stop, which leaves no timer", async () => {
    const node = new Counted({ entries: 10, ageMs: 1_000 });
    node.leadsOthers = true;
    await node.apply(10);
    node.taking = full;
    await node.apply(10);
    expect(node.taken).toHaveLength(1);
    node.auto.stop();
    expect(node.clock.pending).toBe(0);
    await node.wait(10 ** 6);
    await node.apply(100);
    expect(node.taken).toHaveLength(1);
  });
});

describe("an automatic snapshot of a leader with followers", () => {
  test("waits until there is a quarter more log", async () => {
    const node = new Counted({ entries: 100 });
    node.leadsOthers = true;
    await node.apply(124);
    expect(node.taken).toEqual([]);
    await node.apply(1);
    expect(node.taken).toEqual(["entries"]);
  });

  test("waits a few seconds when no more log comes, and waits again the next time", async () => {
    const node = new Counted({ logBytes: 100 });
    node.leadsOthers = true;
    for (let time = 1; time <= 2; time++) {
      await node.apply(100);
      await node.wait(limits.snapshotPatienceMs - 1);
      expect(node.taken).toHaveLength(time - 1);
      await node.wait(1);
      expect(node.taken).toHaveLength(time);
    }
  });

  test("is taken at once when the node no longer leads, or is alone", async () => {
    const node = new Counted({ entries: 100 });
    node.leadsOthers = true;
    await node.apply(100);
    node.leadsOthers = false;
    await node.apply(1);
    expect(node.taken).toEqual(["entries"]);
    expect(node.clock.pending).toBe(0);
  });
});

test("a lost snapshot that the log starts at is taken again at once, whatever the policy says (T7)", async () => {
  const node = new Counted({ entries: false, logBytes: false });
  await node.apply(10);
  node.auto.tick();
  expect(node.taken).toEqual([]);
  node.isMissing = true;
  node.taking = async () => {
    node.isMissing = false;
  };
  node.auto.tick();
  await nextTurn();
  node.auto.tick();
  expect(node.taken).toEqual(["missing"]);
});
