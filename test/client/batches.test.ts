import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { manyTurns, until } from "../support/conditions.js";
import { acknowledge, clientOf, FakeNode } from "./support.js";

describe("calls of one turn of the event loop", () => {
  test("share one message, writes and reads alike, and calls of a later turn go in another", async () => {
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address);
    await client.put("first", "");
    const before = node.messages.length;
    await Promise.all(Array.from({ length: 100 }, (_, at) => (at % 2 ? client.get(`${at}`) : client.put(`${at}`, ""))));
    expect(node.messages.length - before).toBe(1);
    expect(node.sequences).toEqual(Array.from({ length: 101 }, (_, at) => at + 1));
    await Promise.all([client.put("a", ""), client.put("b", "")]);
    expect(node.messages.length - before).toBe(2);
  });

  test("share messages when their callers each await them", async () => {
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address);
    const caller = async (name: string) => {
      for (let count = 0; count < 20; count++) await client.put(name, `${count}`);
    };
    await Promise.all(Array.from({ length: 50 }, (_, at) => caller(`caller-${at}`)));
    expect(node.calls).toHaveLength(1000);
    // One for each round, one for the greeting.
    expect(node.messages.length).toBeLessThan(30);
  });

  test("are spread over messages when they are large", async () => {
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address);
    const sizes = [100_000, 100_000, 100_000, limits.valueBytes, 10, limits.valueBytes, 200_000, 50_000];
    await Promise.all(sizes.map((size) => client.put("k", new Uint8Array(size))));
    const sent = node.messages.map(({ calls }) =>
      calls.map(({ call }) => (call.case === "put" ? call.value.value.length : 0)),
    );
    expect(sent.flat()).toEqual(sizes);
    for (const each of sent) {
      const total = each.reduce((sum, size) => sum + size, 0);
      expect(each.length <= 1 || total <= limits.sessionMessageBytes).toBe(true);
    }
  });
});

describe("the acknowledgement that a client sends with its writes", () => {
  test("covers its answers up to the first missing one", async () => {
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address);
    await Promise.all([client.put("a", ""), client.put("b", "")]);
    node.answer = (call) => (call.sequence === 3n ? undefined : acknowledge(call));
    const third = client.put("c", "");
    await client.get("a");
    await client.put("d", "");
    await client.put("e", "");
    expect(node.messages.at(-1)!.acknowledgedThrough).toBe(2n);
    node.answer = acknowledge;
    node.endStreams();
    await third;
    await client.put("f", "");
    expect(node.messages.at(-1)!.acknowledgedThrough).toBe(6n);
  });
});

describe("calls in flight", () => {
  test("are bounded in number and bytes for writes and in number for reads, each kind independently", async () => {
    const node = await FakeNode.start("n1");
    node.answer = () => undefined;
    const client = clientOf(node.address);
    const calls = [
      ...Array.from({ length: 1000 }, (_, at) => client.put(`${at}`, "")),
      ...Array.from({ length: 1000 }, (_, at) => client.get(`${at}`)),
    ];
    const settled = Promise.allSettled(calls);
    const most = limits.clientWritesAtFirst + limits.clientReadsInFlight;
    await until(() => node.calls.length === most, "what there is room for was sent");
    await manyTurns();
    expect(node.calls).toHaveLength(most);
    node.answer = acknowledge;
    node.endStreams();
    expect((await settled).every(({ status }) => status === "fulfilled")).toBe(true);
    expect(new Set(node.sequences).size).toBe(2000);
  });

  test("have a window of writes that grows while calls wait, up to what the cluster remembers", async () => {
    const node = await FakeNode.start("n1");
    node.rememberedWrites = limits.sessionAnswers;
    const client = clientOf(node.address);
    let last = 1_000;
    node.answer = (call) => (Number(call.sequence) > last ? undefined : acknowledge(call));
    const calls = Array.from({ length: 4_000 }, (_, at) => client.put(`${at}`, ""));
    await until(() => node.calls.length === last + limits.clientWritesInFlight, "a full window was sent");
    await manyTurns();
    expect(node.calls).toHaveLength(last + limits.clientWritesInFlight);
    last = 4_000;
    node.endStreams();
    await Promise.all(calls);
  });

  test("have a window of writes that begins at the oldest unanswered one", async () => {
    const node = await FakeNode.start("n1");
    node.answer = (call) => (call.sequence === 1n ? undefined : acknowledge(call));
    const client = clientOf(node.address);
    const calls = Array.from({ length: 2 * limits.clientWritesAtFirst }, (_, at) => client.put(`${at}`, ""));
    await Promise.all(calls.slice(1, limits.clientWritesAtFirst));
    await manyTurns();
    // More would make the cluster forget the answer to the first, which may have to be sent again.
    expect(node.calls).toHaveLength(limits.clientWritesAtFirst);
    node.answer = acknowledge;
    node.endStreams();
    await Promise.all(calls);
  });

  test("are bounded in bytes when writes are large", async () => {
    const node = await FakeNode.start("n1");
    node.answer = () => undefined;
    const client = clientOf(node.address);
    const value = new Uint8Array(limits.valueBytes);
    const calls = Array.from({ length: 20 }, (_, at) => client.put(`${at}`, value));
    const fit = Math.floor(limits.clientWriteBytesInFlight / (limits.valueBytes + 66));
    await until(() => node.calls.length === fit, "what there is room for was sent");
    await manyTurns();
    expect(node.calls).toHaveLength(fit);
    node.answer = acknowledge;
    node.endStreams();
    await Promise.all(calls);
  });
});
