import { getEventListeners } from "node:events";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { failure, isSettled, ManualClock, manyTurns, until } from "../support/conditions.js";
import { acknowledge, clientOf, deadAddress, FakeNode } from "./support.js";

/** A node that takes calls and does not answer them. */
async function silent() {
  const node = await FakeNode.start("n1");
  node.answer = () => undefined;
  return node;
}

describe("a caller that aborts its call", () => {
  test("before the call gets CANCELLED, and nothing is sent", async () => {
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address);
    const reason = new Error("not wanted any more");
    const signal = AbortSignal.abort(reason);
    for (const call of [
      client.put("a", "", { signal }),
      client.get("a", { signal }),
      client.get("a", { signal, stale: true }),
      client.range({ signal }).next(),
      client.status({ signal }),
    ]) {
      const error = await failure("CANCELLED", call, "the caller gave up");
      expect(error.cause).toBe(reason);
    }
    expect(node.opened).toBe(0);
  });

  test("in the same turn as the call gets CANCELLED, and nothing is sent", async () => {
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address);
    await client.get("warm");
    const controller = new AbortController();
    const put = failure("CANCELLED", client.put("a", "", { signal: controller.signal }));
    controller.abort();
    await put;
    expect(await client.put("b", "")).toBe(3);
    expect(node.sequences).toEqual([1, 3]);
  });

  test("while the call waits for its turn or for a leader gets CANCELLED, and the call is never sent", async () => {
    const node = await silent();
    const client = clientOf(node.address);
    const controller = new AbortController();
    const { signal } = controller;
    const first = Array.from({ length: limits.clientWritesAtFirst }, (_, at) =>
      failure("CANCELLED", client.put(`${at}`, "", { signal })).catch((error) => error),
    );
    const waiting = new AbortController();
    const last = failure("CANCELLED", client.put("last", "", { signal: waiting.signal }));
    await until(() => node.calls.length === limits.clientWritesAtFirst, "what there is room for was sent");
    waiting.abort();
    await last;
    controller.abort();
    await Promise.all(first);
    await manyTurns();
    expect(node.calls).toHaveLength(limits.clientWritesAtFirst);

    const lost = new AbortController();
    const never = failure("CANCELLED", clientOf(await deadAddress()).put("a", "", { signal: lost.signal }));
    await manyTurns();
    lost.abort();
    expect((await never).text).toMatch(/^the caller gave up; the last problem was: \[UNREACHABLE\]/);
  });

  test("after it was sent gets OUTCOME_UNKNOWN for a write and CANCELLED for a read", async () => {
    const node = await silent();
    const client = clientOf(node.address);
    const controller = new AbortController();
    const { signal } = controller;
    const reason = new Error("not wanted any more");
    const put = failure("OUTCOME_UNKNOWN", client.put("a", "", { signal }));
    const get = failure("CANCELLED", client.get("a", { signal }));
    await until(() => node.calls.length === 2, "both have arrived");
    controller.abort(reason);
    const error = await put;
    expect(error.text).toBe("the write was sent, and may or may not take effect: the caller gave up");
    expect(error.retryable).toBe(false);
    expect(error.cause).toMatchObject({ code: "CANCELLED", cause: reason });
    await get;
  });

  test("after every node has refused the write gets CANCELLED, because nothing happened", async () => {
    const node = await FakeNode.start("n1");
    node.answer = () => {
      node.leader = undefined;
      return { case: "error", value: { code: "NOT_LEADER", message: "not me", retryable: true } };
    };
    const controller = new AbortController();
    const put = failure("CANCELLED", clientOf(node.address).put("a", "", { signal: controller.signal }));
    await until(() => node.calls.length === 1 && node.opened > 1, "it was refused");
    controller.abort();
    await put;
  });

  test("may use one signal for any number of calls, and the client releases it when they end", async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => warnings.push(warning);
    process.on("warning", onWarning);
    onTestFinished(() => void process.off("warning", onWarning));
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address);
    const controller = new AbortController();
    const { signal } = controller;
    const calls = (count: number) =>
      Array.from({ length: count }, (_, at) =>
        at % 2 ? client.put("a", "", { signal }) : client.get("a", { signal }),
      );
    await Promise.all(calls(100));
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
    node.answer = () => undefined;
    const left = Promise.allSettled(calls(50));
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    controller.abort();
    expect((await left).every(({ status }) => status === "rejected")).toBe(true);
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
    expect(warnings).toEqual([]);
  });
});

describe("a call whose time is up", () => {
  test("ends with OUTCOME_UNKNOWN when it is a write that was sent, else with TIMEOUT", async () => {
    const clock = new ManualClock();
    const node = await silent();
    const client = clientOf(node.address, { clock, timeoutMs: 700 });
    const sent = failure("OUTCOME_UNKNOWN", client.put("a", ""));
    const read = failure("TIMEOUT", client.get("a"));
    await until(() => node.calls.length === 2, "both have arrived");
    const unsent = failure("TIMEOUT", clientOf(await deadAddress(), { clock, timeoutMs: 700 }).put("a", ""));
    await manyTurns();
    clock.advance(699);
    expect(await isSettled(Promise.race([sent, read, unsent]))).toBe(false);
    clock.advance(1);
    expect((await sent).cause).toMatchObject({ code: "TIMEOUT", text: "there was no answer in 700 ms" });
    expect((await read).text).toBe("there was no answer in 700 ms");
    await unsent;
  });

  test("has its own limit, counted from the end of the turn in which it is made", async () => {
    const clock = new ManualClock();
    const node = await silent();
    const client = clientOf(node.address, { clock });
    const short = failure("TIMEOUT", client.get("a", { timeoutMs: 100 }));
    const long = failure("TIMEOUT", client.get("b", { timeoutMs: 200 }));
    // A program that is busy for longer than that has not given the cluster any time.
    clock.advance(5_000);
    await nextTurn();
    clock.advance(99);
    expect(await isSettled(Promise.race([short, long]))).toBe(false);
    clock.advance(1);
    await short;
    expect(await isSettled(long)).toBe(false);
    clock.advance(100);
    await long;
  });

  test("leaves no timer behind", async () => {
    const clock = new ManualClock();
    const node = await FakeNode.start("n1");
    const client = clientOf(node.address, { clock });
    await Promise.all([client.put("a", ""), client.get("b")]);
    // The watch over the stream sees that nothing is owed.
    clock.advance(1000);
    expect(clock.pending).toBe(0);
    const pending = Promise.allSettled([client.put("a", ""), client.get("b")]);
    await client.close();
    await pending;
    expect(clock.pending).toBe(0);
  });
});

describe("a write that its caller gave up", () => {
  test("is acknowledged, so that it takes no room and cannot take effect once the cluster knows", async () => {
    const node = await silent();
    const client = clientOf(node.address);
    const controller = new AbortController();
    const { signal } = controller;
    const lost = Array.from({ length: limits.clientWritesAtFirst }, (_, at) => client.put(`${at}`, "", { signal }));
    const next = client.put("next", "");
    await until(() => node.calls.length === lost.length, "what there is room for was sent");
    node.answer = acknowledge;
    controller.abort();
    await Promise.allSettled(lost);
    expect(await next).toBe(lost.length + 1);
    expect(node.messages.at(-1)!.acknowledgedThrough).toBe(BigInt(lost.length));
  });

  test("has its late answer ignored", async () => {
    const node = await FakeNode.start("n1");
    node.answer = () => undefined;
    const client = clientOf(node.address);
    const controller = new AbortController();
    const lost = failure("OUTCOME_UNKNOWN", client.put("a", "", { signal: controller.signal }));
    await until(() => node.calls.length === 1, "the call has arrived");
    controller.abort();
    await lost;
    node.answer = acknowledge;
    node.extraAnswers = [{ sequence: 1n, answer: { case: "put", value: { version: 77n } } }];
    expect(await client.put("b", "")).toBe(2);
    await nextTurn();
    expect(await client.put("c", "")).toBe(3);
  });
});
