import { describe, expect, test } from "vitest";
import { certainMs } from "../../../src/client/leases/timing.js";
import { failure, ManualClock, manyTurns, until } from "../../support/conditions.js";
import { clientOf, deadAddress } from "../support.js";
import { FakeLeases } from "./support.js";

const TTL = 9_000;

async function fixture() {
  const clock = new ManualClock();
  const nodes = [await FakeLeases.start(), await FakeLeases.start()] as const;
  nodes[1].joinTo(nodes[0]);
  // The first node is asked first.
  const client = clientOf(
    nodes.map(({ address }) => address),
    { clock, leaseThread: false, random: () => 0 },
  );
  const kept = () => nodes.flatMap((node) => node.kept);
  return { clock, nodes, client, kept };
}

/** A clock that moves in small steps, so that no timer is late. */
async function pass(clock: ManualClock, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 50) {
    clock.advance(Math.min(left, 50));
    await manyTurns(2);
  }
}

describe("a lease that nobody keeps", () => {
  test("counts as lost a margin before its time to live is over, from the moment the grant was sent", async () => {
    const { clock, client, nodes } = await fixture();
    clock.advance(1_000);
    let answer = () => {};
    nodes[0].callsWaitFor = new Promise((resolve) => {
      answer = resolve;
    });
    const granted = client.leases.grant({ ttlMs: TTL });
    await manyTurns();
    await pass(clock, 400);
    answer();
    const lease = await granted;
    expect(lease.remainingMs).toBe(certainMs(TTL) - 400);
    const { signal } = lease;
    clock.advance(certainMs(TTL) - 401);
    expect([signal.aborted, lease.isAlive]).toEqual([false, true]);
    clock.advance(1);
    expect([signal.aborted, lease.isAlive, lease.remainingMs]).toEqual([true, false, 0]);
    expect(signal.reason).toMatchObject({ code: "LEASE_NOT_FOUND" });
    await failure("LEASE_NOT_FOUND", lease.keepAlive(), "may have ended");
  });

  test("is granted again when the outcome of the grant is unknown", async () => {
    const { client, nodes } = await fixture();
    nodes[0].grantFailures = ["OUTCOME_UNKNOWN"];
    nodes[1].grantFailures = ["OUTCOME_UNKNOWN"];
    const granted = client.leases.grant({ ttlMs: TTL });
    await until(() => nodes[0].leases.size === 2, "both nodes have granted one");
    // Both endpoints have failed once, so the next attempt comes after a pause.
    expect(nodes[0].leases.size).toBe(2);
    const lease = await granted;
    expect(lease.id).toBe(2);
  });

  test.each([999, 1_000.5, 604_800_001, "9000"])("is refused with a time to live of %s", async (ttlMs) => {
    const { client } = await fixture();
    await failure("INVALID_ARGUMENT", client.leases.grant({ ttlMs: ttlMs as number }), "ttlMs");
  });
});

describe("a lease that is kept alive", () => {
  test("gets a keep-alive each third of its time, and lives from the moment the newest was sent", async () => {
    const { clock, client, kept } = await fixture();
    const lease = await client.leases.grant({ ttlMs: TTL });
    const { signal } = lease;
    const first = lease.keepAlive();
    await pass(clock, 50);
    await first;
    expect(kept()).toEqual([[1n]]);
    await pass(clock, 30_000);
    expect(kept().length).toBeGreaterThanOrEqual(10);
    expect(kept().length).toBeLessThanOrEqual(11);
    expect(signal.aborted).toBe(false);
    expect(lease.remainingMs).toBeGreaterThanOrEqual(certainMs(TTL) - TTL / 3 - 50);
  });

  test("shares one stream and its requests with the other leases of the client", async () => {
    const { clock, client, nodes, kept } = await fixture();
    const leases = await Promise.all(Array.from({ length: 1_500 }, () => client.leases.grant({ ttlMs: TTL })));
    const all = Promise.all(leases.map((lease) => lease.keepAlive()));
    await pass(clock, 50);
    await all;
    const before = kept().length;
    await pass(clock, TTL / 3 + 100);
    await until(() => kept().length >= before + 2, "they are kept again");
    expect(
      kept()
        .slice(before)
        .map(({ length }) => length),
    ).toEqual([1_000, 500]);
    expect([nodes[0].opened + nodes[1].opened, nodes[0].open + nodes[1].open]).toEqual([1, 1]);
  });

  test("moves to another node when the stream ends, and to a third when that gives no answer", async () => {
    const { clock, client, nodes } = await fixture();
    const lease = await client.leases.grant({ ttlMs: TTL });
    const first = lease.keepAlive();
    await pass(clock, 50);
    await first;
    const [at, other] = nodes[0].open === 1 ? [nodes[0], nodes[1]] : [nodes[1], nodes[0]];
    other.answers = false;
    at.endStreams();
    await until(() => at.open === 0, "the stream has ended");
    await manyTurns();
    await pass(clock, TTL / 3 + 100);
    await until(() => other.kept.length === 1, "the other node has it");
    expect(lease.remainingMs).toBeLessThan(certainMs(TTL) - TTL / 3);
    const before = at.kept.length;
    // An answer has the time between two keep-alives to come.
    await pass(clock, TTL / 3 + 200);
    await until(() => at.kept.length === before + 1, "the first node has it again");
    await manyTurns();
    expect(other.open).toBe(0);
    expect(lease.remainingMs).toBeGreaterThan(certainMs(TTL) - 300);
    expect(lease.signal.aborted).toBe(false);
  });

  test("is lost at its time when the cluster answers no more, not later, and answers that come then change nothing", async () => {
    const { clock, client, nodes } = await fixture();
    const lease = await client.leases.grant({ ttlMs: TTL });
    const { signal } = lease;
    const first = lease.keepAlive();
    await pass(clock, 50);
    await first;
    for (const node of nodes) node.answers = false;
    const { remainingMs } = lease;
    await pass(clock, remainingMs - 1);
    expect(signal.aborted).toBe(false);
    await pass(clock, 1);
    expect(signal.aborted).toBe(true);
    const sent = nodes[0].kept.length + nodes[1].kept.length;
    for (const node of nodes) node.answers = true;
    await pass(clock, TTL);
    expect([signal.aborted, lease.isAlive]).toEqual([true, false]);
    // It is not kept any more, and without a lease there is no stream.
    expect(nodes[0].kept.length + nodes[1].kept.length).toBe(sent);
    await until(() => nodes[0].open + nodes[1].open === 0, "the stream is closed");
  });

  test("is lost at once when the cluster says that it has ended", async () => {
    const { clock, client, nodes } = await fixture();
    const lease = await client.leases.grant({ ttlMs: TTL });
    const first = lease.keepAlive();
    await pass(clock, 50);
    await first;
    nodes[0].leases.clear();
    await pass(clock, TTL / 3);
    await until(() => lease.signal.aborted, "it is lost");
    expect(lease.signal.reason).toMatchObject({ code: "LEASE_NOT_FOUND", text: "lease 1 has ended" });
  });

  test("is seen as lost right after the event loop was blocked, before any timer has fired", async () => {
    const { client } = await fixture();
    const clock = new ManualClock();
    let now = 0;
    const blockable = { ...clock, now: () => now, after: clock.after.bind(clock), soon: clock.soon.bind(clock) };
    const node = await FakeLeases.start();
    const lease = await clientOf(node.address, { clock: blockable, leaseThread: false }).leases.grant({ ttlMs: TTL });
    expect(lease.signal.aborted).toBe(false);
    now += certainMs(TTL);
    expect(lease.signal.aborted).toBe(true);
    await client.close();
  });

  test("is revoked once, and its signal does not abort", async () => {
    const { clock, client, nodes } = await fixture();
    const lease = await client.leases.grant({ ttlMs: TTL });
    const first = lease.keepAlive();
    await pass(clock, 50);
    await first;
    expect(await Promise.all([lease.revoke(), lease.revoke()])).toEqual([1, 1]);
    expect([...nodes[0].revoked, ...nodes[1].revoked]).toEqual([1n]);
    await until(() => nodes[0].open + nodes[1].open === 0, "the stream is closed");
    await pass(clock, TTL);
    expect([lease.signal.aborted, lease.isAlive]).toEqual([false, false]);
    await failure("LEASE_NOT_FOUND", lease.keepAlive(), "was revoked");
    expect(clock.pending).toBe(0);
  });

  test("is lost when the client is closed, which leaves no timer and no stream", async () => {
    const { clock, client, nodes } = await fixture();
    const lease = await client.leases.grant({ ttlMs: TTL });
    const first = lease.keepAlive();
    await pass(clock, 50);
    await first;
    const { signal } = lease;
    await client.close();
    expect(signal.reason).toMatchObject({ code: "CANCELLED" });
    await until(() => nodes[0].open + nodes[1].open === 0, "the stream is closed");
    expect(clock.pending).toBe(0);
  });
});

test("a lease is kept alive by a thread through any node that answers, until the client is closed", async () => {
  const node = await FakeLeases.start();
  const client = clientOf([await deadAddress(), node.address]);
  const lease = await client.leases.grant({ ttlMs: 2_000 });
  await lease.keepAlive();
  expect(lease.remainingMs).toBeGreaterThan(certainMs(2_000) - 1_000);
  await client.close();
  await until(() => node.open === 0, "the thread has closed its stream");
});
