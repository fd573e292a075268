import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { WatchHub, type WatchWish } from "../../../src/server/watch/hub.js";
import type { Watch } from "../../../src/server/watch/watch.js";
import { WatchGroup } from "../../../src/server/watch/watch_group.js";
import { failure } from "../../support/conditions.js";
import {
  bytes,
  del,
  expire,
  grant,
  leasedPut,
  load,
  newest,
  put,
  request,
  revoke,
  type StepInit,
  txn,
} from "../../support/machines/machines.js";
import { Random } from "../../support/random.js";
import { ALL, FakeNode, FakeSink, StepClock, shown, shownChange } from "./hub_support.js";

function world() {
  const node = new FakeNode();
  const clock = new StepClock();
  const hub = new WatchHub(node, clock);
  const watch = (sink: FakeSink, wish: Partial<WatchWish> = {}) => {
    const start = hub.firstIndex(wish.start ?? 0);
    return hub.add({ ...ALL, ...wish, start }, sink);
  };
  const write = (...keys: string[]) => node.apply(...keys.map((key) => newest(put(key, "v"))));
  return { node, clock, hub, watch, write };
}

describe("a hub", () => {
  test("encodes the answers to equal watches once", async () => {
    const { clock, watch, write } = world();
    const sinks = Array.from({ length: 3 }, () => new FakeSink());
    for (const sink of sinks) watch(sink);
    write("a");
    await clock.settle();
    expect(sinks[0]!.events.map(shown)).toEqual(["1 created a=v"]);
    for (const { encoded } of sinks) expect(encoded[0]).toBe(sinks[0]!.encoded[0]);
  });

  test("queues nothing for a stream that is not ready, and serves it from the history when it is", async () => {
    const { node, clock, watch, write } = world();
    const [slow, quick] = [new FakeSink(1), new FakeSink()];
    for (const sink of [slow, quick]) watch(sink);
    for (let at = 0; at < 50; at++) {
      write(`k${at}`);
      await clock.settle();
    }
    expect([slow.events.length, quick.events.length]).toEqual([1, 50]);
    node.inMemory = 40;
    slow.take(100);
    await clock.settle();
    expect(node.reads).toBeGreaterThan(0);
    expect(slow.events.map(shown)).toEqual(node.changes.map(shownChange));
    write("live");
    const { reads } = node;
    await clock.settle();
    expect(slow.events).toHaveLength(51);
    expect(node.reads, "it is live again").toBe(reads);
  });

  test("reads a part of the log once for all watches that are within it", async () => {
    const { node, clock, watch, write } = world();
    for (let at = 0; at < 30; at++) write(`k${at}`);
    node.inMemory = 31;
    const sinks = Array.from({ length: 100 }, () => new FakeSink());
    for (const sink of sinks) watch(sink, { start: 1 });
    await clock.settle();
    for (const sink of sinks) expect(sink.events).toHaveLength(30);
    expect(node.reads).toBe(3);
  });

  test("ends a watch that takes nothing with SLOW_WATCHER, and no other", async () => {
    const { clock, watch, write } = world();
    const [slow, idle, quick] = [new FakeSink(0), new FakeSink(0), new FakeSink()];
    watch(slow);
    // Nothing happens to its key, so there is nothing that it could take.
    watch(idle, { target: { type: "key", key: "other" } });
    watch(quick);
    write("a");
    await clock.settle();
    for (let ms = 1_000; ms < limits.watchStallMs; ms += 1_000) clock.advance(1_000);
    expect(slow.error).toBeUndefined();
    for (let ms = 0; ms < 3_000; ms += 1_000) clock.advance(1_000);
    expect(slow.error).toMatchObject({ code: "SLOW_WATCHER", retryable: true });
    expect([idle.error, quick.error]).toEqual([undefined, undefined]);
  });

  test("ends a slow watch with SLOW_WATCHER when the log is trimmed past it", async () => {
    const { node, clock, watch, write } = world();
    const slow = new FakeSink(0);
    watch(slow);
    write("a", "b");
    await clock.settle();
    node.trim(2);
    clock.advance(1_000);
    expect(slow.error).toMatchObject({ code: "SLOW_WATCHER" });
  });

  test("refuses a watch from an index below the history with OUT_OF_RANGE, and names the oldest that works", async () => {
    const { node, hub, watch, write } = world();
    write("a", "b", "c");
    node.trim(2);
    const error = await failure("OUT_OF_RANGE", () => hub.firstIndex(2));
    expect(error.oldestIndex).toBe(3);
    const sink = new FakeSink();
    watch(sink, { start: error.oldestIndex! });
    expect(hub.size).toBe(1);
  });

  test("ends live watches when a snapshot is installed over them, and keeps those that begin behind it", async () => {
    const { node, clock, hub, watch, write } = world();
    write("a");
    const [live, future] = [new FakeSink(), new FakeSink()];
    watch(live);
    watch(future, { start: 5 });
    await node.install(newest(put("b", "v")), newest(put("c", "v")), newest(put("d", "v")));
    await clock.settle();
    expect(live.error).toMatchObject({ code: "OUT_OF_RANGE", oldestIndex: 5 });
    expect(hub.size).toBe(1);
    write("e");
    await clock.settle();
    expect(future.events.map(shown)).toEqual(["5 created e=v"]);
  });

  test("ends watches at a load, which replaces all keys", async () => {
    const { node, clock, watch, write } = world();
    const live = new FakeSink();
    watch(live);
    write("a");
    node.apply(newest(load(["a", "b"])));
    await clock.settle();
    expect(live.error).toMatchObject({ code: "OUT_OF_RANGE", oldestIndex: 3 });
  });

  test("sends marks of progress to watches without changes, never past what they were told of", async () => {
    const { clock, watch, write } = world();
    const sink = new FakeSink();
    watch(sink, { target: { type: "key", key: "mine" }, progressMs: 1_000 });
    write("other");
    await clock.settle();
    expect(sink.through).toEqual([]);
    clock.advance(1_000);
    await clock.settle();
    expect(sink.through).toEqual([1]);
    write("other");
    await clock.settle();
    clock.advance(1_000);
    await clock.settle();
    expect(sink.through).toEqual([1, 2]);
    expect(sink.events).toEqual([]);
  });

  test("refuses more than limits.watches watches with BUSY, until one has ended", async () => {
    const { hub, watch } = world();
    const watches: Watch[] = [];
    for (let at = 0; at < limits.watches; at++) watches.push(watch(new FakeSink()));
    await failure("BUSY", () => hub.firstIndex(0), "limit watches");
    hub.remove(watches[7]!);
    expect(hub.firstIndex(0)).toBe(1);
  });

  test("keeps nothing going without watches", () => {
    const { node, clock, hub, watch, write } = world();
    const gone = watch(new FakeSink(), { filter: { ...ALL.filter, previous: true } });
    write("a");
    expect(node.machine.history.recordsBefore(1)).toEqual([undefined]);
    hub.remove(gone);
    expect(node.machine.history.recordsBefore(1)).toBeUndefined();
    clock.advance(0);
    write("b");
    expect(node.machine.history.recordsBefore(2)).toBeUndefined();
  });

  test("ends those watches alone that would be told of more at one index than fits a message", async () => {
    const { node, clock, watch } = world();
    const [all, other] = [new FakeSink(), new FakeSink()];
    node.apply(newest(grant()));
    const long = (at: number) => `${at}`.padStart(5, "0").padEnd(limits.keyBytes, "k");
    const attached = (at: number) => newest(leasedPut(long(at), "", 1));
    node.apply(...Array.from({ length: 4_200 }, (_, at) => attached(at)));
    watch(all);
    watch(other, { target: { type: "key", key: long(7) } });
    node.apply(newest(revoke(1)));
    await clock.settle();
    const index = node.applied;
    expect(all.error).toMatchObject({ code: "OUT_OF_RANGE", oldestIndex: index + 1 });
    expect(other.error).toBeUndefined();
    expect(other.events).toMatchObject([{ index: BigInt(index), deleted: true, expired: false, leaseId: 1n }]);
    const again = new FakeSink();
    watch(again, { start: index });
    await clock.settle();
    expect(again.error).toMatchObject({ code: "OUT_OF_RANGE", oldestIndex: index + 1 });
  });

  test("tells which keys went with their lease, and whether it expired", async () => {
    const { node, clock, watch } = world();
    const sink = new FakeSink();
    watch(sink, { filter: { ...ALL.filter, previous: true } });
    node.apply(newest(grant()), newest(leasedPut("a", "1", 1)), newest(leasedPut("b", "2", 1)));
    node.apply(newest(put("b", "3")), newest(expire([1, 0])));
    await clock.settle();
    expect(sink.events.map((event) => `${shown(event)} ${event.leaseId} ${event.expired}`)).toEqual([
      "2 created a=1 1 false",
      "3 created b=2 1 false",
      "4 put b=3 0 false",
      "5 deleted a= 1 true",
    ]);
    expect(sink.events.map(({ previous }) => previous && Buffer.from(previous.value).toString())).toEqual([
      undefined,
      undefined,
      "2",
      "1",
    ]);
  });

  test("leaves out earlier records that would make the answer for one index too large", async () => {
    const { node, clock, watch } = world();
    const large = "x".repeat(limits.valueBytes);
    for (const key of ["a", "b", "c"]) node.apply(newest(put(key, large)));
    const sink = new FakeSink();
    watch(sink, { filter: { ...ALL.filter, previous: true } });
    const removeAll: StepInit = { case: "deleteRange", value: { keys: {} } };
    node.apply(newest(put("d", "v")), newest(txn([], [removeAll])));
    await clock.settle();
    expect(sink.events.map(({ index, previousKnown }) => `${index} ${previousKnown}`)).toEqual([
      "4 true",
      ...["5 false", "5 false", "5 false", "5 false"],
    ]);
  });
});

describe("watches of random clients on a random node", () => {
  const targets: WatchWish["target"][] = [
    { type: "prefix", prefix: "" },
    { type: "prefix", prefix: "a" },
    { type: "prefix", prefix: "aa" },
    { type: "key", key: "ab" },
    { type: "range", start: "aa", end: "b" },
    { type: "range", start: "b", end: undefined },
  ];
  const filters = [ALL.filter, { ...ALL.filter, noPuts: true }, { ...ALL.filter, noDeletes: true }];

  test.each(Array.from({ length: 60 }, (_, seed) => seed))(
    "are told of each change once and in order, or are ended with a reason (seed %i)",
    async (seed) => {
      const draw = new Random(seed + 1);
      const { node, clock, hub, watch } = world();
      const watchers: { sink: FakeSink; wish: WatchWish; watch: Watch }[] = [];
      const command = () => {
        const key = draw.pick(["a", "aa", "ab", "b", "ba"]);
        const drawn = draw.fraction();
        if (drawn < 0.03) return newest(load(["a", "loaded"]));
        if (drawn < 0.3) return newest(del(key));
        if (drawn < 0.4) return request("client", draw.whole(1, 5), put(key, `${draw.whole(0, 9)}`));
        const removeSome: StepInit = { case: "deleteRange", value: { keys: { prefix: bytes("a") } } };
        if (drawn < 0.5)
          return newest(txn([], [removeSome, { case: "put", value: { key: bytes("b"), value: bytes("t") } }]));
        return newest(put(key, `${draw.whole(0, 9)}`));
      };
      for (let step = 0; step < 150; step++) {
        const drawn = draw.fraction();
        if (drawn < 0.4) node.apply(...Array.from({ length: draw.whole(1, 6) }, command));
        else if (drawn < 0.6) {
          const start = draw.fraction() < 0.3 ? 0 : draw.whole(1, node.applied + 5);
          const wish = {
            ...ALL,
            target: draw.pick(targets),
            filter: draw.pick(filters),
            start,
            progressMs: draw.whole(100, 500),
          };
          try {
            const sink = new FakeSink(draw.whole(0, 3));
            wish.start = hub.firstIndex(start);
            watchers.push({ sink, wish, watch: watch(sink, wish) });
          } catch (error) {
            expect(error).toMatchObject({ code: "OUT_OF_RANGE" });
          }
        } else if (drawn < 0.8 && watchers.length > 0) draw.pick(watchers).sink.take(draw.whole(1, 3));
        else if (drawn < 0.82) node.trim(draw.whole(0, node.applied));
        else if (drawn < 0.83) await node.install(command(), command());
        else if (drawn < 0.86) node.inMemory = draw.whole(node.appliedLog.first, node.applied + 1);
        else if (drawn < 0.9) clock.advance(draw.whole(1, 400));
        if (draw.fraction() < 0.6) await clock.settle();
      }
      await clock.settle();
      for (const { sink } of watchers) sink.take(1_000);
      await clock.settle();
      const oldest = Math.max(node.appliedLog.first, node.machine.history.since);
      for (const { sink, wish } of watchers) {
        const group = new WatchGroup(wish.target, wish.filter);
        const wanted = node.changes.filter(
          (change) => change.index >= wish.start && group.wants(Buffer.from(change.key).toString("latin1"), change),
        );
        const through = sink.through.at(-1) ?? wish.start - 1;
        const expected = sink.error === undefined ? wanted : wanted.filter(({ index }) => index <= through);
        expect(sink.events.map(shown)).toEqual(expected.map(shownChange));
        expect(sink.through).toEqual([...sink.through].sort((a, b) => a - b));
        if (sink.error === undefined) continue;
        expect(["OUT_OF_RANGE", "SLOW_WATCHER"]).toContain(sink.error.code);
        expect(through + 1).toBeLessThan(oldest);
      }
    },
  );
});
