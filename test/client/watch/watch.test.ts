import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { failure, manyTurns, until } from "../../support/conditions.js";
import { settled } from "../../support/nodes/loopback.js";
import { CLUSTER } from "../../support/nodes/nodes.js";
import { clientOf, deadAddress } from "../support.js";
import { FakeHistory, FakeWatchNode } from "./fake_watch_node.js";
import { take, takeWords, wordsOf } from "./support.js";

/** A node with a short history, and a client of it. */
async function start() {
  const history = new FakeHistory();
  history.put("a", "1");
  history.put("b", "1");
  const node = await FakeWatchNode.start(history);
  return { history, node, client: clientOf(node.address) };
}

describe("a watch", () => {
  test("reports changes from now on, which is when it is ready", async () => {
    const { history, client } = await start();
    const watch = client.watch();
    expect(watch.token).toBeUndefined();
    expect(await watch.ready()).toBe(`${CLUSTER}:2`);
    history.put("a", "2");
    history.delete("b");
    expect(await takeWords(watch, 2)).toEqual(["put a=2 @3", "delete b @4"]);
    expect(watch.token).toBe(`${CLUSTER}:4`);
    expect(watch.problem).toBeUndefined();
    await watch.close();
  });

  test("has the fields of each change", async () => {
    const { history, client } = await start();
    history.put("a", "2");
    history.delete("a");
    history.put("new", "x");
    const [put, removed, created] = await take(client.watch(undefined, { from: 3, previous: true }), 3);
    expect(put).toMatchObject({ type: "put", key: "a", index: 3, token: `${CLUSTER}:3`, more: false, created: false });
    expect(put).toMatchObject({ previousKnown: true, previous: { version: 1 }, leaseId: undefined });
    const values = put?.type === "put" && [put.value.text(), put.value.version, put.previous?.text()];
    expect(values).toEqual(["2", 3, "1"]);
    expect(removed).toMatchObject({ type: "delete", key: "a", index: 4, expired: false, previous: { version: 3 } });
    expect(created).toMatchObject({ type: "put", created: true, previous: undefined, previousKnown: true });
    const [bare] = await take(client.watch(undefined, { from: 3 }), 1);
    expect(bare).toMatchObject({ previous: undefined, previousKnown: false });
  });

  test.each([
    ["a key", "b", {}, ["put b=1 @2", "delete b @6"]],
    ["a prefix", { prefix: "b" }, {}, ["put b=1 @2", "put b1=1 @3", "delete b @6"]],
    ["a span", { start: "b1", end: "d" }, {}, ["put b1=1 @3", "put c=1 @4"]],
    ["a span without an end", { start: "c" }, {}, ["put c=1 @4", "put d=1 @5"]],
    ["a prefix, only puts", { prefix: "b" }, { only: "puts" }, ["put b=1 @2", "put b1=1 @3"]],
    ["all keys, only deletes", undefined, { only: "deletes" }, ["delete b @6"]],
  ] as const)("is about %s", async (_, target, options, expected) => {
    const { history, client } = await start();
    for (const key of ["b1", "c", "d"]) history.put(key, "1");
    history.delete("b");
    expect(await takeWords(client.watch(target, { from: 1, ...options }), expected.length)).toEqual(expected);
  });

  test("gives the events of one index tokens that never skip a part of the index", async () => {
    const { history, client, node } = await start();
    node.indexesPerAnswer = 10;
    history.append({ key: "x", value: "1" }, { key: "y", value: "1" }, { key: "z", value: undefined });
    history.put("x", "2");
    const events = await take(client.watch(undefined, { from: 3 }), 4);
    const tokens = events.map((event) => "token" in event && event.token.replace(CLUSTER, ""));
    expect(tokens).toEqual([":2", ":2", ":3", ":4"]);
    expect(events.map((event) => "more" in event && event.more)).toEqual([true, true, false, false]);
    for (const event of events) {
      if (event.type !== "put" && event.type !== "delete") throw new Error(wordsOf(event));
      const resumed = await take(client.watch(undefined, { from: event.token }), 1);
      expect(resumed[0]).toMatchObject(event.more ? { index: 3, key: "x" } : { index: event.index === 3 ? 4 : 5 });
      if (event === events[2]) history.put("x", "3");
    }
  });

  test("waits for an index that does not exist yet", async () => {
    const { history, client, node } = await start();
    const watch = client.watch("a", { from: 5 });
    expect(await watch.ready()).toBe(`${CLUSTER}:4`);
    history.put("a", "3");
    history.put("a", "4");
    history.put("a", "5");
    expect(await takeWords(watch, 1)).toEqual(["put a=5 @5"]);
    expect(node.requests[0]!.startIndex).toBe(5n);
  });

  test("yields progress only when asked, and moves its token on by it in any case", async () => {
    const { history, client, node } = await start();
    const silent = client.watch("a");
    const telling = client.watch("a", { progressMs: 200 });
    await silent.ready();
    expect(await takeWords(telling, 1)).toEqual(["progress @2"]);
    expect(node.requests.map(({ progressMs }) => progressMs).toSorted()).toEqual([200, 60_000].toSorted());
    history.put("b", "2");
    history.put("b", "3");
    const next = silent.next();
    await until(() => node.open === 2, "both are served");
    await manyTurns();
    node.mark();
    expect(await take(telling, 1)).toEqual([{ type: "progress", index: 4, token: `${CLUSTER}:4` }]);
    await until(() => silent.token === `${CLUSTER}:4`, "the silent one has it, too");
    history.put("a", "2");
    expect(wordsOf((await next).value!)).toBe("put a=2 @5");
  });

  test("refuses invalid arguments at once", async () => {
    const { client } = await start();
    await failure("INVALID_ARGUMENT", () => client.watch(""), "the key is empty");
    await failure("LIMIT_EXCEEDED", () => client.watch({ prefix: "k".repeat(limits.keyBytes + 1) }), "prefix");
    await failure("INVALID_ARGUMENT", () => client.watch({} as { prefix: string }), "needs a prefix");
    await failure("INVALID_ARGUMENT", () => client.watch("a", { from: 0 }), "from must be a whole number from 1");
    await failure("INVALID_ARGUMENT", () => client.watch("a", { from: "c:x" }), "must be a token");
    await failure("INVALID_ARGUMENT", () => client.watch("a", { from: 2 ** 50 }), "from must be at most");
    await failure("INVALID_ARGUMENT", () => client.watch("a", { from: 1, initial: true }), "not both");
    await failure("INVALID_ARGUMENT", () => client.watch("a", { progressMs: 99 }), "progressMs");
    await failure("INVALID_ARGUMENT", () => client.watch("a", { only: "gets" as "puts" }), "only");
    await client.close();
    await failure("FAILED_PRECONDITION", () => client.watch("a"), "closed");
  });
});

describe("the end of a watch", () => {
  test("comes without error when its loop is left, and the node stops serving it", async () => {
    const { history, client, node } = await start();
    history.put("a", "2");
    for await (const event of client.watch("a", { from: 1 })) if (event.type === "put" && event.index === 3) break;
    await until(() => node.open === 0, "the stream has ended");
  });

  test("comes at once when it is closed while somebody waits for its next event", async () => {
    const { client, node } = await start();
    const watch = client.watch("a");
    await watch.ready();
    const next = watch.next();
    await watch.close();
    expect(await next).toEqual({ done: true, value: undefined });
    expect(await watch.next()).toEqual({ done: true, value: undefined });
    await until(() => node.open === 0, "the stream has ended");
    await watch.close();
  });

  test("before its begin asks no node, and tells a caller of ready", async () => {
    const { client, node } = await start();
    const watch = client.watch("a");
    await watch.close();
    await failure("CANCELLED", watch.ready(), "the watch was closed");
    expect(await watch.next()).toEqual({ done: true, value: undefined });
    expect(node.requests).toEqual([]);
  });

  test("comes with CANCELLED by its signal, and when the client is closed", async () => {
    const { client, node } = await start();
    const controller = new AbortController();
    const watch = client.watch("a", { signal: controller.signal });
    await watch.ready();
    const next = watch.next();
    controller.abort(new Error("enough"));
    expect((await failure("CANCELLED", next)).cause).toEqual(new Error("enough"));
    expect(await watch.next()).toEqual({ done: true, value: undefined });
    await failure("CANCELLED", client.watch("a", { signal: controller.signal }).next());
    const other = client.watch("a");
    await other.ready();
    const last = other.next();
    await client.close();
    await failure("CANCELLED", last, "the client was closed");
    await until(() => node.open === 0, "the streams have ended");
  });

  test("comes with TIMEOUT when no node serves it in time, and its cause says why", async () => {
    const client = clientOf(await deadAddress(), { timeoutMs: 300 });
    const watch = client.watch("a");
    const error = await failure("TIMEOUT", watch.ready());
    expect(error.cause).toMatchObject({ code: "UNREACHABLE" });
    await failure("TIMEOUT", watch.next());
  });
});

describe("a consumer that does not read", () => {
  test("stops its stream, which queues nothing here, and holds up no other call", async () => {
    const { history, client, node } = await start();
    const value = "x".repeat(100_000);
    const watch = client.watch("big", { from: 1 });
    await watch.ready();
    const count = 500;
    for (let at = 0; at < count; at++) history.put("big", value);
    const sent = await settled(() => node.sent);
    // 1 MiB of flow control, 256 KiB of buffers at each end, and what the sockets hold.
    expect(sent).toBeLessThan(count / 2);
    const other = client.watch("small", { from: 1 });
    history.put("small", "1");
    expect(await takeWords(other, 1)).toEqual([`put small=1 @${history.applied}`]);
    // The other watch's first answer, and its event.
    expect(node.sent).toBe(sent + 2);
    let last = 2;
    for (const event of await take(watch, count)) {
      expect(event).toMatchObject({ type: "put", index: ++last });
    }
  });
});
