import { describe, expect, test } from "vitest";
import type { RangeResponse } from "../../gen/cairn/v1/kv_pb.js";
import { limits } from "../../src/base/limits.js";
import { deferred, failure, isSettled, ManualClock, until } from "../support/conditions.js";
import { holdCalls } from "../support/disk/held_calls.js";
import { ActingLeader, bytes, putEntries, text } from "../support/nodes/acting_leader.js";
import { collect, serve } from "../support/nodes/served_node.js";

const key = bytes("key");

test("the key-value service answers put, get, delete and compare-and-set with results, versions and headers", async () => {
  const { kv, node } = await serve({ lead: true });
  const created = await kv.put({ key, value: bytes("a") });
  expect(created).toMatchObject({
    version: 2n,
    header: { clusterId: "cluster-1", nodeId: "n1", leaderId: "n1", term: 1n },
  });
  expect(created.header!.appliedIndex).toBeGreaterThanOrEqual(2n);
  await kv.put({ key, value: bytes("b") });
  const { kv: found } = await kv.get({ key });
  expect([text(found?.value), found?.version, found?.createVersion]).toEqual(["b", 3n, 2n]);
  expect((await kv.get({ key: bytes("none") })).kv).toBeUndefined();

  const wrong = await kv.compareAndSet({ key, expected: { case: "value", value: bytes("x") }, newValue: bytes("c") });
  expect([wrong.swapped, text(wrong.current?.value), wrong.current?.version]).toEqual([false, "b", 3n]);
  const swapped = await kv.compareAndSet({ key, expected: { case: "version", value: 3n }, newValue: bytes("c") });
  expect([swapped.swapped, swapped.version, swapped.current]).toEqual([true, 5n, undefined]);
  const absent = { key: bytes("new"), expected: { case: "value", value: bytes("") }, newValue: bytes("n") } as const;
  expect(await kv.compareAndSet(absent)).toMatchObject({ swapped: false });
  expect(await kv.compareAndSet({ ...absent, createIfMissing: true })).toMatchObject({ swapped: true, version: 7n });

  expect((await kv.delete({ key })).deleted).toBe(true);
  expect((await kv.delete({ key })).deleted).toBe(false);
  expect((await kv.get({ key })).kv).toBeUndefined();
  expect(node.raft.log.last.index).toBe(9);
});

test("a retry with the same request id has no second effect, and one that is too old has an unknown outcome", async () => {
  const { kv } = await serve({ lead: true });
  const requestId = (sequence: bigint, acknowledgedThrough = 0n) => ({ clientId: "c", sequence, acknowledgedThrough });
  const first = await kv.put({ key, value: bytes("1"), requestId: requestId(1n) });
  await kv.put({ key, value: bytes("2"), requestId: requestId(2n) });
  const retried = await kv.put({ key, value: bytes("1"), requestId: requestId(1n) });
  expect(retried.version).toBe(first.version);
  expect(text((await kv.get({ key })).kv?.value)).toBe("2");
  await kv.put({ key, value: bytes("3"), requestId: requestId(3n, 2n) });
  await failure(
    "OUTCOME_UNKNOWN",
    kv.put({ key, value: bytes("2"), requestId: requestId(2n) }),
    "request_id is forgotten",
  );
  await failure("INVALID_ARGUMENT", kv.put({ key, requestId: requestId(0n) }), "request_id.sequence");
});

describe("a range of the key-value service", () => {
  test("returns keys in order, within a prefix, up to a limit", async () => {
    const { kv } = await serve({ lead: true });
    for (const name of ["b2", "a", "b1", "c", "b3"]) await kv.put({ key: bytes(name), value: bytes(name) });
    const keys = async (request: object) => {
      const parts = await collect(kv.range(request));
      return { keys: parts.flatMap(({ kvs }) => kvs.map((kv) => text(kv.key))), more: parts.at(-1)!.more };
    };
    expect(await keys({})).toEqual({ keys: ["a", "b1", "b2", "b3", "c"], more: false });
    expect(await keys({ prefix: bytes("b") })).toEqual({ keys: ["b1", "b2", "b3"], more: false });
    expect(await keys({ prefix: bytes("b"), limit: 2n })).toEqual({ keys: ["b1", "b2"], more: true });
    expect(await keys({ prefix: bytes("b"), limit: 3n })).toEqual({ keys: ["b1", "b2", "b3"], more: false });
    expect(await keys({ prefix: bytes("x") })).toEqual({ keys: [], more: false });
    expect(await keys({ after: bytes("b1"), limit: 2n })).toEqual({ keys: ["b2", "b3"], more: true });
    expect(await keys({ after: bytes("b3"), limit: 2n })).toEqual({ keys: ["c"], more: false });
    expect(await keys({ prefix: bytes("b"), after: bytes("b2") })).toEqual({ keys: ["b3"], more: false });
    await failure("INVALID_ARGUMENT", collect(kv.range({ limit: 2n ** 60n })), "limit is");
    const long = new Uint8Array(limits.keyBytes + 1);
    await failure("LIMIT_EXCEEDED", collect(kv.range({ prefix: long })), "prefix has 1025 bytes; the limit keyBytes");
    await failure("LIMIT_EXCEEDED", collect(kv.range({ after: long })), "after has 1025 bytes; the limit keyBytes");
  });

  test("comes in parts of one view, the first with a header, however long it takes", async () => {
    const { kv } = await serve({ lead: true });
    const value = new Uint8Array(100_000);
    for (let at = 0; at < 20; at++) await kv.put({ key: bytes(`k${at + 10}`), value });
    const parts = kv.range({})[Symbol.asyncIterator]();
    const first: RangeResponse = (await parts.next()).value;
    await kv.put({ key: bytes("k99"), value });
    await kv.delete({ key: bytes("k29") });
    const rest = await collect({ [Symbol.asyncIterator]: () => parts });
    const all = [first, ...rest];
    expect(all.length).toBeGreaterThan(4);
    expect(all.map(({ header }) => header !== undefined)).toEqual(all.map((_, at) => at === 0));
    expect(all.flatMap(({ kvs }) => kvs.map((kv) => text(kv.key)))).toEqual(
      Array.from({ length: 20 }, (_, at) => `k${at + 10}`),
    );
    for (const { kvs } of all.slice(0, -1)) {
      const size = kvs.reduce((sum, kv) => sum + kv.value.byteLength, 0);
      expect(size).toBeGreaterThanOrEqual(limits.rangePartBytes);
      expect(size).toBeLessThan(limits.rangePartBytes + 2 * value.byteLength);
    }
  });

  test("releases the state when its reader leaves early", async () => {
    const { kv, node } = await serve({ lead: true });
    for (let at = 0; at < 30; at++) await kv.put({ key: bytes(`k${at}`), value: new Uint8Array(200_000) });
    const closed = deferred();
    const range = node.machine.range.bind(node.machine);
    Object.assign(node.machine, {
      range: (options: object) => {
        const entries = range(options);
        const close = entries.close.bind(entries);
        entries.close = () => {
          close();
          closed.resolve();
        };
        return entries;
      },
    });
    for await (const _ of kv.range({})) break;
    await closed.promise;
  });
});

describe("a call beyond a limit is refused with the limit's name, and nothing happens", () => {
  const long = new Uint8Array(limits.keyBytes + 1).fill(97);
  const longest = new Uint8Array(limits.keyBytes).fill(97);

  test("for keys", async () => {
    const { kv, node } = await serve({ lead: true });
    const text = `1025 bytes; the limit keyBytes is ${limits.keyBytes}`;
    await failure("LIMIT_EXCEEDED", kv.put({ key: long }), text);
    await failure("LIMIT_EXCEEDED", kv.get({ key: long }), text);
    await failure("LIMIT_EXCEEDED", kv.delete({ key: long }), text);
    await failure("LIMIT_EXCEEDED", kv.compareAndSet({ key: long, expected: { case: "version", value: 0n } }), text);
    for (const call of [kv.put({}), kv.get({}), kv.delete({})])
      await failure("INVALID_ARGUMENT", call, "at least one byte");
    await failure("INVALID_ARGUMENT", kv.compareAndSet({ key }), "expected is missing");
    expect(node.raft.log.last.index).toBe(1);
    await kv.put({ key: longest });
  });

  test("for values and messages", async () => {
    const { kv, node } = await serve({ lead: true, segmentBytes: limits.segmentBytes });
    await failure(
      "LIMIT_EXCEEDED",
      kv.put({ key, value: new Uint8Array(limits.valueBytes + 1) }),
      `the limit valueBytes is ${limits.valueBytes}`,
    );
    await failure("LIMIT_EXCEEDED", kv.put({ key, value: new Uint8Array(limits.messageBytes) }), "messageBytes");
    const swap = {
      key,
      expected: { case: "value", value: new Uint8Array(limits.valueBytes) },
      newValue: new Uint8Array(limits.valueBytes),
    } as const;
    await failure("LIMIT_EXCEEDED", kv.compareAndSet(swap), `the limit entryBytes is ${limits.entryBytes}`);
    expect(node.raft.log.last.index).toBe(1);
    await kv.put({ key: longest, value: new Uint8Array(limits.valueBytes) });
    expect((await kv.get({ key: longest })).kv?.value.byteLength).toBe(limits.valueBytes);
  });
});

test("a follower answers stale reads, even of a future index, and names the leader for all else", async () => {
  const { kv, node } = await serve();
  const leader = new ActingLeader(node, 3, "n7");
  await leader.replicate(putEntries(1, 2, 3));
  const error = await failure("NOT_LEADER", kv.put({ key }));
  expect([error.leaderHint, error.retryable]).toEqual(["n7", true]);
  await failure("NOT_LEADER", kv.get({ key }));
  await failure("NOT_LEADER", collect(kv.range({})));
  expect(text((await kv.get({ key: bytes("k2"), stale: true })).kv?.value)).toBe("3.2");
  const later = kv.get({ key: bytes("k3"), stale: true, minAppliedIndex: 3n });
  const range = collect(kv.range({ stale: true, minAppliedIndex: 3n }));
  expect(await isSettled(later)).toBe(false);
  await leader.replicate(putEntries(3, 3, 3));
  const { kv: found, header } = await later;
  expect([text(found?.value), header?.leaderId, header?.term]).toEqual(["3.3", "n7", 3n]);
  expect((await range)[0]!.kvs).toHaveLength(3);
  await failure("TIMEOUT", kv.get({ key, stale: true, minAppliedIndex: 99n }, { timeoutMs: 50 }));
  await failure("INVALID_ARGUMENT", kv.get({ key, stale: true, minAppliedIndex: 2n ** 60n }), "min_applied_index");
});

test("a node with a full disk refuses writes, answers reads, and says so in its status", async () => {
  const clock = new ManualClock();
  const { kv, admin, home, node } = await serve({ lead: true, clock });
  await kv.put({ key, value: bytes("a") });
  home.disk.capacityBytes = home.disk.usedBytes;
  await failure("OUTCOME_UNKNOWN", kv.put({ key: bytes("large"), value: new Uint8Array(1_000_000) }));
  await failure("DISK_FULL", kv.put({ key, value: bytes("b") }));
  expect(text((await kv.get({ key })).kv?.value)).toBe("a");
  expect((await admin.getStatus({})).diskFull).toBe(true);
  home.disk.capacityBytes = Number.POSITIVE_INFINITY;
  clock.advance(250);
  await until(() => !node.isDiskFull, "there is room");
  await kv.put({ key, value: bytes("b") });
  expect((await admin.getStatus({})).diskFull).toBe(false);
});

test("a write takes effect even when its caller leaves", async () => {
  const { kv, home, node } = await serve({ lead: true });
  const hold = holdCalls(home.disk, ({ kind, path }) => kind === "datasync" && path.includes("/wal/"));
  const controller = new AbortController();
  const write = kv.put({ key, value: bytes("a") }, { signal: controller.signal });
  await hold.reached("the write is under way");
  controller.abort();
  await failure("CANCELLED", write);
  hold.resolve();
  await node.waitApplied(2);
  expect(text(node.machine.get(key)?.value)).toBe("a");
});

test("a node that was stopped answers STOPPED", async () => {
  const { kv, admin, home, node } = await serve({ lead: true });
  await home.stop(node);
  await failure("STOPPED", kv.put({ key }));
  await failure("STOPPED", kv.get({ key }));
  await failure("STOPPED", collect(kv.range({})));
  await failure("STOPPED", admin.takeSnapshot({}));
  await failure("STOPPED", admin.campaign({}));
});
