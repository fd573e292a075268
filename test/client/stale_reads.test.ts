import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { manyTurns, until, untilAsync } from "../support/conditions.js";
import { clientOf, FakeNode, outcomes } from "./support.js";

const stale = { stale: true };

describe("stale reads of a client", () => {
  test("go over a stream, those of one turn of the event loop in one message to one node", async () => {
    const nodes = [await FakeNode.start("n1"), await FakeNode.start("n2"), await FakeNode.start("n3")];
    const client = clientOf(nodes.map(({ address }) => address));
    await client.get("a", stale);
    await until(() => nodes.every(({ opened }) => opened === 1), "each node has a stream");
    await Promise.all(Array.from({ length: 30 }, () => client.get("a", stale)));
    expect(nodes.map(({ gets }) => gets)).toEqual([0, 0, 0]);
    const sizes = nodes.flatMap(({ messages }) => messages.map(({ calls }) => calls.length));
    expect(sizes.filter((size) => size > 0).toSorted((a, b) => a - b)).toEqual([1, 30]);
  });

  test("are spread over the nodes, turn by turn", async () => {
    const nodes = [await FakeNode.start("n1"), await FakeNode.start("n2"), await FakeNode.start("n3")];
    const client = clientOf(nodes.map(({ address }) => address));
    await untilAsync(async () => {
      await client.get("a", stale);
      return nodes.every(({ calls }) => calls.length > 3);
    }, "each node has answered some");
  });

  test("do not need a node that leads", async () => {
    const node = await FakeNode.start("n1");
    node.leader = { id: "n2", address: "127.0.0.1:1" };
    expect(await clientOf(node.address).get("a", stale)).toBeUndefined();
    expect(node.calls).toHaveLength(1);
  });

  test("are asked of another node when theirs goes while it owes the answer", async () => {
    const [silent, good] = [await FakeNode.start("n1"), await FakeNode.start("n2")];
    silent.answer = () => undefined;
    good.answer = () => undefined;
    const client = clientOf([silent.address, good.address]);
    const read = client.get("a", stale);
    await until(() => silent.calls.length + good.calls.length === 1, "one of them has the read");
    const [asked, other] = silent.calls.length === 1 ? [silent, good] : [good, silent];
    asked.kill();
    expect(await read).toBeUndefined();
    expect(other.gets).toBe(1);
  });

  test("are answered by a call of their own when a node does not know sessions", async () => {
    const node = await FakeNode.start("n1");
    node.refuseStreams = "UNREACHABLE";
    expect(await clientOf(node.address).get("a", stale)).toBeUndefined();
    expect(node.gets).toBe(1);
  });

  test("count together with those that need a call of their own", async () => {
    const node = await FakeNode.start("n1");
    node.answer = () => undefined;
    node.getsWaitFor = new Promise(() => {});
    const client = clientOf(node.address, { timeoutMs: 600_000 });
    const most = limits.clientReadsInFlight;
    const all = outcomes([
      ...Array.from({ length: most - 1 }, () => client.get("a", stale)),
      ...Array.from({ length: 2 }, () => client.get("a", { stale: true, minAppliedIndex: 1 })),
    ]);
    await until(() => node.calls.length === most - 1 && node.gets === 1, "as many as may have arrived");
    await manyTurns();
    expect(node.gets).toBe(1);
    await client.close();
    expect(await all).toEqual({ CANCELLED: most + 1 });
  });
});
