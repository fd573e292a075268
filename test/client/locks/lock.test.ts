import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { certainMs } from "../../../src/client/leases/timing.js";
import { type AcquireOptions, acquire, type LockHandle } from "../../../src/client/locks/lock.js";
import { deferred, failure, isSettled, ManualClock, manyTurns, until } from "../../support/conditions.js";
import { MemoryCluster } from "./support.js";

const TTL = 10_000;

function fixture() {
  const cluster = new MemoryCluster();
  const clock = new ManualClock();
  const client = cluster.client(clock);
  return { cluster, clock, client, lock: (options: AcquireOptions = {}) => acquire(client, "a/b", options) };
}

/** Holders in the order in which they got the lock. */
function inTurn(locks: readonly Promise<LockHandle>[]): LockHandle[] {
  const holders: LockHandle[] = [];
  for (const lock of locks) lock.then((holder) => holders.push(holder)).catch(() => {});
  return holders;
}

describe("a lock", () => {
  test("is held by one at a time, in the order in which they came, with growing tokens", async () => {
    const { cluster, lock } = fixture();
    const locks = [];
    for (let at = 0; at < 50; at++) {
      locks.push(lock());
      await manyTurns(3);
    }
    const holders = inTurn(locks);
    for (let at = 0; at < 50; at++) {
      await until(() => holders.length === at + 1, `number ${at} has it`);
      await manyTurns(3);
      expect(holders.length).toBe(at + 1);
      expect(await locks[at]).toBe(holders[at]);
      await holders[at]!.release();
    }
    const tokens = holders.map(({ token }) => token);
    expect(tokens).toEqual(tokens.toSorted((a, b) => a - b));
    expect(cluster.keys.size).toBe(0);
  });

  test("wakes one waiter when its holder ends, whatever the number of those who wait", async () => {
    const { cluster, lock } = fixture();
    const holders = inTurn(Array.from({ length: 100 }, () => lock()));
    await until(() => cluster.watches === 99, "all wait");
    expect(cluster.ranges).toBe(100);
    await holders[0]!.release();
    await until(() => holders.length === 2, "the next has it");
    expect([cluster.wakes, cluster.ranges, cluster.watches]).toEqual([[holders[0]!.key], 101, 98]);
  });

  test("is not given to a waiter whose predecessor gave up while another one holds it", async () => {
    const { cluster, lock } = fixture();
    const holder = await lock();
    const gaveUp = new AbortController();
    const second = lock({ signal: gaveUp.signal });
    await until(() => cluster.watches === 1, "the second waits");
    const third = lock();
    await until(() => cluster.watches === 2, "the third waits");
    gaveUp.abort();
    await failure("CANCELLED", second);
    await until(() => cluster.wakes.length === 1, "the third has seen that");
    await manyTurns();
    expect([await isSettled(third), cluster.keys.size]).toEqual([false, 2]);
    await holder.release();
    expect((await third).token).toBeGreaterThan(holder.token);
  });

  test("goes by the order of the keys, not of the leases", async () => {
    const { cluster, lock } = fixture();
    const held = deferred();
    cluster.grantsWaitFor = held.promise;
    const early = lock();
    await manyTurns();
    cluster.grantsWaitFor = Promise.resolve();
    const holder = await lock();
    held.resolve();
    await until(() => cluster.watches === 1, "the one with the older lease waits");
    expect(await isSettled(early)).toBe(false);
    await holder.release();
    const next = await early;
    expect(next.key < holder.key).toBe(true);
    expect(next.token).toBeGreaterThan(holder.token);
  });

  test("is for locks of its own name only", async () => {
    const { client, lock } = fixture();
    const held = await lock();
    const others = await Promise.all(["a", "a/b/", "a%2Fb", "ä ö"].map((name) => acquire(client, name, {})));
    expect(new Set([held, ...others].map(({ key }) => key.split("/")[1])).size).toBe(5);
    await failure("INVALID_ARGUMENT", acquire(client, "", {}));
    await failure("LIMIT_EXCEEDED", acquire(client, "x".repeat(1_024), {}), "keyBytes");
  });
});

describe("the time to wait for a lock", () => {
  test("may be none: the call fails at once, names the holder, and leaves nothing behind", async () => {
    const { cluster, lock } = fixture();
    const holder = await lock({ value: "the first" });
    await failure("TIMEOUT", lock({ waitMs: 0 }), `${holder.key}, "the first"`);
    expect([cluster.keys.size, cluster.leases.size]).toEqual([1, 1]);
    await holder.release();
    expect((await lock({ waitMs: 0 })).isHeld).toBe(true);
  });

  test("ends a wait at its end, and not the lock that was got before", async () => {
    const { cluster, clock, client, lock } = fixture();
    const holder = await lock({ waitMs: 5_000 });
    const late = lock({ waitMs: 5_000 });
    await until(() => cluster.watches === 1, "it waits");
    clock.advance(4_999);
    await manyTurns();
    expect(await isSettled(late)).toBe(false);
    clock.advance(1);
    await failure("TIMEOUT", late, "5000 ms");
    client.confirm();
    expect([cluster.keys.size, holder.isHeld]).toEqual([1, true]);
  });

  test.each([
    [{ waitMs: -1 }, "waitMs"],
    [{ ttlMs: 10 }, "ttlMs"],
    [{ signal: {} as AbortSignal }, "signal"],
  ])("refuses %j", async (options, text) => {
    const { lock, cluster } = fixture();
    await failure("INVALID_ARGUMENT", lock(options), text);
    expect(cluster.leases.size).toBe(0);
  });
});

describe("a holder", () => {
  test("is told that the lock may be lost a margin before the cluster may end it", async () => {
    const { clock, client, lock } = fixture();
    const { signal, throwIfLost } = await lock({ ttlMs: TTL });
    expect(throwIfLost).toBeTypeOf("function");
    clock.advance(5_000);
    client.confirm();
    clock.advance(certainMs(TTL) - 1);
    expect(signal.aborted).toBe(false);
    clock.advance(1);
    expect([signal.aborted, certainMs(TTL) <= TTL * 0.9]).toEqual([true, true]);
    expect(signal.reason).toMatchObject({ code: "LEASE_NOT_FOUND" });
  });

  test("sees it at once after its event loop was blocked, by what the keeper has confirmed meanwhile", async () => {
    const cluster = new MemoryCluster();
    const clock = new ManualClock();
    let blockedMs = 0;
    const blocked = {
      now: () => clock.now() + blockedMs,
      after: clock.after.bind(clock),
      soon: clock.soon.bind(clock),
    };
    const client = cluster.client(blocked);
    const lock = await acquire(client, "name", { ttlMs: TTL });
    blockedMs = certainMs(TTL) - 1;
    expect([lock.isHeld, lock.remainingMs]).toEqual([true, 1]);
    client.confirm();
    blockedMs += certainMs(TTL) - 1;
    expect([lock.isHeld, lock.signal.aborted]).toEqual([true, false]);
    blockedMs += 1;
    expect([lock.isHeld, lock.signal.aborted]).toEqual([false, true]);
    await failure("LEASE_NOT_FOUND", () => lock.throwIfLost());
  });

  test("whose lease has ended cannot make a fenced write when the next one holds the lock", async () => {
    const { cluster, client, lock } = fixture();
    const old = await lock();
    const waiting = lock();
    await until(() => cluster.watches === 1, "the next waits");
    cluster.end(Number.parseInt(old.key.split("/").at(-1)!, 16));
    const next = await waiting;
    const written = async ({ fence }: LockHandle) => (await client.txn().when(fence).commit()).succeeded;
    expect([await written(old), await written(next)]).toEqual([false, true]);
    // To release a lock that was lost is no failure, and takes nothing from the next.
    await old.release();
    expect(await written(next)).toBe(true);
  });

  test("releases its lock when it is disposed of, and is not told that it is lost", async () => {
    const { cluster, lock } = fixture();
    const held = await lock();
    await held[Symbol.asyncDispose]();
    expect([cluster.keys.size, held.isHeld, held.signal.aborted]).toEqual([0, false, false]);
    await failure("LEASE_NOT_FOUND", () => held.throwIfLost(), "was revoked");
  });
});

describe("a waiter", () => {
  test("that loses its lease takes another place, behind those who came meanwhile", async () => {
    const { cluster, lock } = fixture();
    const holder = await lock();
    const first = lock({ value: "first" });
    await until(() => cluster.watches === 1, "the first waits");
    const second = lock({ value: "second" });
    await until(() => cluster.watches === 2, "the second waits");
    const holders = inTurn([first, second]);
    const [, lost] = [...cluster.keys.values()];
    cluster.end(lost!.leaseId);
    // Both look again: the second watches the holder now, and learns nothing else.
    await until(() => cluster.wakes.length === 1, "the second has woken");
    await holder.release();
    await until(() => holders.length === 1, "one has it");
    expect(holders[0]).toBe(await second);
    await holders[0]!.release();
    expect((await first).token).toBeGreaterThan(holders[0]!.token);
  });

  test("fails, and leaves nothing behind, when its place cannot be taken", async () => {
    const { cluster, lock } = fixture();
    cluster.txnFailure = new CairnError("OUTCOME_UNKNOWN", "as the test wants it");
    await failure("OUTCOME_UNKNOWN", lock());
    expect(cluster.leases.size).toBe(0);
  });

  test("sets no timer that outlives its wait", async () => {
    const { clock, lock } = fixture();
    const held = await lock({ waitMs: 60_000 });
    // That of the lease.
    expect(clock.pending).toBe(1);
    await held.release();
    expect(clock.pending).toBe(0);
  });
});
