import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { CallQueue, QueueRoom } from "../../src/client/call_queue.js";
import { deferred, failure, isSettled, ManualClock, manyTurns, until } from "../support/conditions.js";
import { acknowledge, clientOf, FakeNode, outcomes } from "./support.js";

describe("calls that are queued behind others of the same client", () => {
  test("do not time out while the calls before them are answered", async () => {
    const clock = new ManualClock();
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address, { clock, timeoutMs: 1000 });
    // All of them take ten times as long as one may; those under way at a time take less.
    node.answer = (call) => {
      clock.advance(1000 / (limits.clientWritesAtFirst + 64));
      return acknowledge(call);
    };
    expect(await outcomes(Array.from({ length: 2_000 }, (_, at) => client.put(`${at}`, "")))).toEqual({ ok: 2_000 });
    expect(clock.now()).toBeGreaterThan(10_000);
  });

  test("time out all at once when none of those before them is answered", async () => {
    const clock = new ManualClock();
    const node = await FakeNode.start("n1");
    node.answer = () => undefined;
    const client = clientOf(node.address, { clock, timeoutMs: 1000 });
    const calls = Array.from({ length: 1_000 }, (_, at) => client.put(`${at}`, ""));
    const all = outcomes(calls);
    await until(() => node.calls.length === limits.clientWritesAtFirst, "what there is room for was sent");
    clock.advance(999);
    expect(await isSettled(Promise.race(calls))).toBe(false);
    clock.advance(1);
    const sent = limits.clientWritesAtFirst;
    expect(await all).toEqual({ OUTCOME_UNKNOWN: sent, TIMEOUT: 1_000 - sent });
    await manyTurns();
    expect(node.calls).toHaveLength(sent);
  });

  test("are limited in number: the next call fails at once with the limit's name, and other kinds still run", async () => {
    const node = await FakeNode.start("n1");
    node.answer = (call) => (call.call.case === "get" ? acknowledge(call) : undefined);
    const client = clientOf(node.address, { timeoutMs: 600_000 });
    const most = limits.clientWritesAtFirst + limits.clientQueueCalls;
    const waiting = outcomes(Array.from({ length: most }, (_, at) => client.put(`${at}`, "")));
    const text = `${limits.clientQueueCalls} calls wait in this client; the limit clientQueueCalls is ${limits.clientQueueCalls}`;
    expect((await failure("QUEUE_FULL", client.put("one more", ""), text)).retryable).toBe(true);
    expect(await client.get("a")).toBeUndefined();
    await until(() => node.calls.length === limits.clientWritesAtFirst + 1, "what there is room for was sent");
    await client.close();
    expect(await waiting).toEqual({
      OUTCOME_UNKNOWN: limits.clientWritesAtFirst,
      CANCELLED: limits.clientQueueCalls,
    });
  });

  test("are limited in bytes", async () => {
    const node = await FakeNode.start("n1");
    node.answer = () => undefined;
    const client = clientOf(node.address, { timeoutMs: 600_000 });
    const value = new Uint8Array(limits.valueBytes);
    const bytes = limits.valueBytes + 65;
    const most = Math.floor(limits.clientWriteBytesInFlight / bytes) + Math.floor(limits.clientQueueBytes / bytes);
    const waiting = outcomes(Array.from({ length: most }, () => client.put("k", value)));
    await failure("QUEUE_FULL", client.put("k", value), `the limit clientQueueBytes is ${limits.clientQueueBytes}`);
    await client.close();
    expect(await waiting).toMatchObject({ CANCELLED: expect.any(Number) });
  });
});

describe("reads of any node", () => {
  test("wait for their turn beyond a number, and leave the queue when their caller gives up", async () => {
    const node = await FakeNode.start("n1");
    const answers = deferred();
    node.getsWaitFor = answers.promise;
    // Time is not what this is about, and so many calls take some.
    const client = clientOf(node.address, { timeoutMs: 600_000 });
    const most = limits.clientReadsInFlight;
    const caller = new AbortController();
    const options = { stale: true, minAppliedIndex: 1 };
    const calls = Array.from({ length: 2 * most }, () => client.get("a", options));
    const givenUp = failure("CANCELLED", client.get("a", { ...options, signal: caller.signal }));
    await until(() => node.gets === most, "as many as may have arrived");
    await manyTurns();
    expect(node.gets).toBe(most);
    caller.abort();
    await givenUp;
    answers.resolve();
    expect(await outcomes(calls)).toEqual({ ok: 2 * most });
    expect(node.gets).toBe(2 * most);
  });

  test("time out in the queue when none is answered", async () => {
    const clock = new ManualClock();
    const node = await FakeNode.start("n1");
    node.getsWaitFor = new Promise(() => {});
    const client = clientOf(node.address, { clock, timeoutMs: 1000 });
    const options = { stale: true, minAppliedIndex: 1 };
    const first = Array.from({ length: limits.clientReadsInFlight }, () => client.get("a", options));
    const running = outcomes(first);
    const waiting = failure("TIMEOUT", client.get("a", options), "this one was still queued");
    await until(() => node.gets === limits.clientReadsInFlight, "they have arrived");
    clock.advance(1000);
    await waiting;
    await client.close();
    expect(await running).toEqual({ CANCELLED: limits.clientReadsInFlight });
  });
});

describe("a queue of calls", () => {
  test("keeps its order whichever call leaves it, and frees the room of each call once", async () => {
    const room = new QueueRoom();
    const queue = new CallQueue<{ bytes: number; name: string }>(room);
    const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => queue.add({ bytes: limits.clientQueueBytes / 4, name }));
    await failure("QUEUE_FULL", () => queue.add({ bytes: 1, name: "e" }), "clientQueueBytes");
    queue.remove(b!);
    queue.remove(b!);
    queue.remove(d!);
    const e = queue.add({ bytes: limits.clientQueueBytes / 4, name: "e" });
    const names = [];
    for (let place = queue.first; place !== undefined; place = queue.first) {
      names.push(place.item.name);
      queue.remove(place);
    }
    expect(names).toEqual(["a", "c", "e"]);
    expect([a, b, c, d, e].some((place) => place!.isTaken)).toBe(false);
    expect(queue.add({ bytes: limits.clientQueueBytes, name: "all" }).isTaken).toBe(true);
  });
});
