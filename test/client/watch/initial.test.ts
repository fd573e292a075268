import { describe, expect, test } from "vitest";
import { manyTurns, until } from "../../support/conditions.js";
import { CLUSTER } from "../../support/nodes/nodes.js";
import { clientOf } from "../support.js";
import { FakeHistory, FakeWatchNode, outOfRange } from "./fake_watch_node.js";
import { take, takeWords } from "./support.js";

/** A node with some keys, and a client of it. */
async function start() {
  const history = new FakeHistory();
  for (const key of ["a", "b", "b\0", "b1", "c"]) history.put(key, "1");
  const node = await FakeWatchNode.start(history);
  return { history, node, client: clientOf(node.address) };
}

const initial = { initial: true };

describe("a watch with initial", () => {
  test.each([
    ["a key", "b", ["b"]],
    ["a key that does not exist", "b0", []],
    ["a prefix", { prefix: "b" }, ["b", "b\0", "b1"]],
    ["a span", { start: "b", end: "b1" }, ["b", "b\0"]],
    ["a span from a key with a zero at its end", { start: "b\0" }, ["b\0", "b1", "c"]],
    ["a span without a start", { end: "b1" }, ["a", "b", "b\0"]],
    ["all keys", undefined, ["a", "b", "b\0", "b1", "c"]],
  ] as const)("lists %s, and then follows without a gap", async (_, target, keys) => {
    const { history, client } = await start();
    const watch = client.watch(target, initial);
    const listed = await takeWords(watch, keys.length + 1);
    expect(listed).toEqual([...keys.map((key) => `existing ${key}=1`), "listed @5"]);
    const key = keys[0] ?? "b0";
    history.put(key, "2");
    expect(await takeWords(watch, 1)).toEqual([`put ${key}=2 @6`]);
  });

  test("misses no change that is made while the keys are listed", async () => {
    const { history, client, node } = await start();
    const watch = client.watch({ prefix: "b" }, initial);
    await take(watch, 1);
    history.put("b", "2");
    history.delete("b1");
    expect(await takeWords(watch, 5)).toEqual([
      "existing b\0=1",
      "existing b1=1",
      "listed @5",
      "put b=2 @6",
      "delete b1 @7",
    ]);
    expect(node.requests[0]).toMatchObject({ startIndex: 6n, clusterId: CLUSTER });
  });

  test("gives existing keys their versions, and its list a token from which another watch resumes", async () => {
    const { history, client } = await start();
    history.put("a", "2");
    const watch = client.watch("a", initial);
    const [existing, listed] = await take(watch, 2);
    expect(existing).toMatchObject({ type: "existing", key: "a", value: { version: 6, createVersion: 1 } });
    expect(listed).toEqual({ type: "listed", index: 6, token: `${CLUSTER}:6` });
    history.put("a", "3");
    expect(await takeWords(client.watch("a", { from: `${CLUSTER}:6` }), 1)).toEqual(["put a=3 @7"]);
  });

  test("starts over when the history is gone, and says so", async () => {
    const { history, client, node } = await start();
    const watch = client.watch({ prefix: "b" }, initial);
    await take(watch, 4);
    history.put("b", "2");
    await take(watch, 1);
    const next = takeWords(watch, 4);
    await manyTurns();
    node.refusal = outOfRange(100);
    node.fail(outOfRange(100));
    history.delete("b1");
    await until(() => node.rangeRequests.length > 1, "it lists again");
    node.refusal = undefined;
    expect(await next).toEqual(["restarted OUT_OF_RANGE", "existing b=2", "existing b\0=1", "listed @7"]);
    history.put("b1", "2");
    expect(await takeWords(watch, 1)).toEqual(["put b1=2 @8"]);
    expect(watch.problem).toBeUndefined();
  });

  test("starts over when the list breaks off, and yields all keys of the later state", async () => {
    const { history, client, node } = await start();
    node.rangeBreaksAfter = 2;
    const watch = client.watch({ prefix: "b" }, initial);
    expect(await takeWords(watch, 3)).toEqual(["existing b=1", "existing b\0=1", "restarted STOPPED"]);
    expect(watch.token).toBeUndefined();
    history.delete("b");
    node.rangeBreaksAfter = 10;
    expect(await takeWords(watch, 3)).toEqual(["existing b\0=1", "existing b1=1", "listed @6"]);
  });
});
