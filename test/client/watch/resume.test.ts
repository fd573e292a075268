import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { failure, manyTurns, until } from "../../support/conditions.js";
import { CLUSTER } from "../../support/nodes/nodes.js";
import { Random } from "../../support/random.js";
import { clientOf, deadAddress, Relay } from "../support.js";
import { FakeHistory, FakeWatchNode, outOfRange } from "./fake_watch_node.js";
import { hurried, take, takeWords, wordsOf } from "./support.js";

/** Nodes of one cluster, and a client of all of them. */
async function start(count: number) {
  const history = new FakeHistory();
  history.put("a", "1");
  const ids = Array.from({ length: count }, (_, at) => `n${at + 1}`);
  const nodes = await Promise.all(ids.map((id) => FakeWatchNode.start(history, id)));
  const client = clientOf(nodes.map(({ address }) => address));
  const requests = () => nodes.flatMap((node) => node.requests);
  return { history, nodes, client, requests, only: nodes[0]! };
}

describe("a watch resumes behind the last index that it has reported", () => {
  test.each(["SLOW_WATCHER", "STOPPED", "BUSY", "UNREACHABLE", "CANCELLED", "NOT_LEADER"] as const)(
    "when its node ends it with %s",
    async (code) => {
      const { history, client, only, requests } = await start(1);
      const watch = client.watch("a");
      await watch.ready();
      history.put("a", "2");
      expect(await takeWords(watch, 1)).toEqual(["put a=2 @2"]);
      const next = watch.next();
      await manyTurns();
      only.fail(new CairnError(code, "as the test wants it"));
      await until(() => requests().length === 2, "it is opened again");
      history.put("a", "3");
      expect(wordsOf((await next).value!)).toBe("put a=3 @3");
      expect(requests().map(({ startIndex, clusterId }) => [startIndex, clusterId])).toEqual([
        [0n, ""],
        [3n, CLUSTER],
      ]);
    },
  );

  test("when the node ends the stream without an error", async () => {
    const { history, client, only, requests } = await start(1);
    const watch = client.watch("a", { from: 1 });
    await take(watch, 1);
    const next = watch.next();
    await manyTurns();
    only.end();
    await until(() => requests().length === 2, "it is opened again");
    history.put("a", "2");
    expect(wordsOf((await next).value!)).toBe("put a=2 @2");
  });

  test("at another node when its own dies, and at the same one when that is back", async () => {
    const { history, client, nodes } = await start(2);
    const watch = client.watch("a", { from: 1 });
    await take(watch, 1);
    const [mine, other] = nodes[0]!.open === 1 ? [nodes[0]!, nodes[1]!] : [nodes[1]!, nodes[0]!];
    mine.kill();
    let next = watch.next();
    await until(() => other.open === 1, "the other node serves it");
    history.put("a", "2");
    expect(wordsOf((await next).value!)).toBe("put a=2 @2");
    next = watch.next();
    other.kill();
    await until(() => watch.problem !== undefined, "no node serves it");
    expect(watch.problem?.code).toMatch(/UNREACHABLE|STOPPED/);
    history.put("a", "3");
    history.put("a", "4");
    await mine.restart();
    expect(wordsOf((await next).value!)).toBe("put a=3 @3");
    expect(await takeWords(watch, 1)).toEqual(["put a=4 @4"]);
    expect(watch.problem).toBeUndefined();
  });

  test("for longer than the client's time limit once it was served, but not beyond its own", async () => {
    const { history, only } = await start(1);
    const client = clientOf(only.address, { timeoutMs: 2_000 });
    const patient = client.watch("a", { from: 1 });
    const bounded = client.watch("a", { from: 1, timeoutMs: 2_000 });
    await take(patient, 1);
    await take(bounded, 1);
    only.kill();
    const next = patient.next();
    await failure("TIMEOUT", bounded.next());
    await only.restart();
    history.put("a", "2");
    expect(wordsOf((await next).value!)).toBe("put a=2 @2");
  });

  test("from now on, when the first node dies before it has said anything", async () => {
    const { history, client, nodes, requests } = await start(2);
    for (const node of nodes) node.greets = false;
    const watch = client.watch("a");
    const ready = watch.ready();
    await until(() => requests().length === 1, "one node is asked");
    for (const node of nodes) node.greets = true;
    nodes.find(({ open }) => open === 1)!.kill();
    expect(await ready).toBe(`${CLUSTER}:1`);
    history.put("a", "2");
    expect(await takeWords(watch, 1)).toEqual(["put a=2 @2"]);
    expect(requests().map(({ startIndex }) => startIndex)).toEqual([0n, 0n]);
  });

  test("when a node falls silent, which is no answer within the agreed time", async () => {
    const { history, only } = await start(1);
    const relay = await Relay.to(only.address);
    const client = clientOf([relay.address, only.address], { random: () => 0, clock: hurried(20) });
    const watch = client.watch("a", { progressMs: 100, timeoutMs: 60_000 });
    await watch.ready();
    await take(watch, 1);
    relay.holdAnswers();
    history.put("a", "2");
    const events = (async () => {
      for await (const event of watch) if (event.type === "put") return wordsOf(event);
      return undefined;
    })();
    expect(await events).toBe("put a=2 @2");
    expect(only.requests.length).toBeGreaterThan(1);
  });

  test("without a gap or a repeat, however often nodes fail under it", async () => {
    const { history, client, nodes, requests } = await start(3);
    const random = new Random(11);
    const count = 300;
    let ends = 0;
    const watch = client.watch({ prefix: "k" }, { from: 1 });
    const seen: string[] = [];
    const reading = (async () => {
      for await (const event of watch) {
        seen.push(wordsOf(event));
        if (event.type === "put" && event.key === "k-last") return;
      }
    })();
    const expected: string[] = [];
    for (let at = 0; at < count; at++) {
      const key = `k${random.whole(0, 9)}`;
      const index = history.append({ key, value: `${at}` }, { key: `${key}x`, value: `${at}` });
      expected.push(`put ${key}=${at} @${index}`, `put ${key}x=${at} @${index}`);
      history.put("other", `${at}`);
      for (const node of nodes) node.indexesPerAnswer = random.whole(1, 5);
      await manyTurns(random.whole(0, 3));
      const dice = random.whole(0, 9);
      if (dice > 2) continue;
      await until(() => nodes.some(({ open }) => open > 0), "a node serves it");
      const node = nodes.find(({ open }) => open > 0)!;
      const opened = requests().length;
      if (dice === 0) node.fail(new CairnError("SLOW_WATCHER", "as the test wants it"));
      if (dice === 1) node.end();
      if (dice === 2) {
        node.kill();
        await manyTurns(random.whole(0, 20));
        await node.restart();
      }
      await until(() => requests().length > opened, "it is opened again");
      ends++;
    }
    expected.push(`put k-last=1 @${history.put("k-last", "1")}`);
    await reading;
    expect(seen).toEqual(expected);
    expect(ends).toBeGreaterThan(50);
  });
});

describe("a lost history", () => {
  test("ends a watch with OUT_OF_RANGE and the oldest index that any node has", async () => {
    const { client, nodes, requests } = await start(3);
    for (const [at, node] of nodes.entries()) node.oldestIndex = 10 + at;
    const error = await failure("OUT_OF_RANGE", client.watch("a", { from: 1 }).next(), "the oldest index is 10");
    expect(error.oldestIndex).toBe(10);
    expect(requests()).toHaveLength(3);
  });

  test("at some nodes leads the watch to one that has it", async () => {
    const { client, nodes } = await start(3);
    nodes[0]!.oldestIndex = nodes[1]!.oldestIndex = 10;
    expect(await takeWords(client.watch("a", { from: 1 }), 1)).toEqual(["put a=1 @1"]);
  });

  test("under a live watch leads it to another node, too", async () => {
    const { history, client, nodes } = await start(2);
    const watch = client.watch("a", { from: 1 });
    await take(watch, 1);
    const mine = nodes.find(({ open }) => open === 1)!;
    mine.refusal = outOfRange(10);
    const next = watch.next();
    await manyTurns();
    mine.fail(outOfRange(10));
    await until(() => nodes.some((node) => node !== mine && node.open === 1), "the other node serves it");
    history.put("a", "2");
    expect(wordsOf((await next).value!)).toBe("put a=2 @2");
  });

  test("is final when the node that might have it cannot be reached for a while", async () => {
    const { only } = await start(1);
    only.oldestIndex = 10;
    const client = clientOf([only.address, await deadAddress()], { clock: hurried(20) });
    expect((await failure("OUT_OF_RANGE", client.watch("a", { from: 1 }).next())).oldestIndex).toBe(10);
  });

  test("is found behind the first answer just as in its place", async () => {
    const { client, nodes } = await start(2);
    for (const node of nodes) node.lateRefusal = outOfRange(10);
    expect((await failure("OUT_OF_RANGE", client.watch("a", { from: 1 }).next())).oldestIndex).toBe(10);
    nodes[0]!.lateRefusal = undefined;
    expect(await takeWords(client.watch("a", { from: 1 }), 1)).toEqual(["put a=1 @1"]);
  });
});

describe("a watch that nodes refuse", () => {
  test("goes to a node of this version while others are of an earlier one, and fails when all are", async () => {
    const { client, nodes } = await start(2);
    nodes[0]!.refusal = new CairnError("UNIMPLEMENTED", "as the test wants it");
    expect(await takeWords(client.watch("a", { from: 1 }), 1)).toEqual(["put a=1 @1"]);
    nodes[1]!.refusal = nodes[0]!.refusal;
    await failure("UNIMPLEMENTED", client.watch("a", { from: 1 }).next());
  });

  test("ends with WRONG_CLUSTER when a node belongs to another cluster than its token", async () => {
    const { client, only } = await start(1);
    await failure("WRONG_CLUSTER", client.watch("a", { from: "another:1" }).next());
    // A node that does not check it.
    const watch = client.watch("a", { from: 1 });
    await take(watch, 1);
    only.clusterId = "another";
    const next = watch.next();
    await manyTurns();
    only.end();
    await failure("WRONG_CLUSTER", next);
  });

  test("ends with the error of an invalid request", async () => {
    const { client, only } = await start(1);
    only.refusal = new CairnError("INVALID_ARGUMENT", "as the test wants it");
    await failure("INVALID_ARGUMENT", client.watch("a").next());
  });

  test.each([
    ["a change without its key", { events: [{ index: 2n }], through: 2n }],
    ["an index again", { events: [{ index: 1n, kv: { key: Buffer.from("a") } }], through: 2n }],
    [
      "a later index first",
      { events: [5n, 4n].map((index) => ({ index, kv: { key: Buffer.from("a") } })), through: 9n },
    ],
    ["an index beyond the answer's", { events: [{ index: 9n, kv: { key: Buffer.from("a") } }], through: 8n }],
  ])("because they report %s, takes nothing from that answer, and resumes elsewhere", async (_, answer) => {
    const { history, client, only } = await start(1);
    history.put("a", "2");
    only.nextAnswer = answer;
    const watch = client.watch("a", { from: 2 });
    await failure("INTERNAL", watch.next(), "the node sent a");
    const good = await FakeWatchNode.start(history, "n2");
    only.nextAnswer = answer;
    const both = clientOf([only.address, good.address], { random: () => 0 });
    expect(await takeWords(both.watch("a", { from: 2 }), 1)).toEqual(["put a=2 @2"]);
    expect(good.requests).toHaveLength(1);
  });
});
