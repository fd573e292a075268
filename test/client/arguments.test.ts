import { describe, expect, onTestFinished, test } from "vitest";
import { CairnClient } from "../../src/client/client.js";
import { failure } from "../support/conditions.js";
import { clientOf, FakeNode } from "./support.js";

/** Whatever a caller from JavaScript may pass. */
// biome-ignore lint/suspicious/noExplicitAny: what no type allows is what this file is about
type Anything = any;

const circular: { self?: unknown } = {};
circular.self = circular;

describe("a bad argument of the constructor is refused by its name", () => {
  test.each<[string, Anything, RegExp]>([
    ["no options", undefined, /^\[INVALID_ARGUMENT\] options must be an object, not undefined$/],
    ["null", null, /options must be an object, not null/],
    ["a text", "127.0.0.1:7101", /options must be an object, not "127.0.0.1:7101"/],
    ["a list", ["127.0.0.1:7101"], /options must be an object, not an array/],
    ["no endpoints", {}, /endpoints must be a list of host:port, not undefined/],
    ["endpoints as text", { endpoints: "a:1" }, /endpoints must be a list of host:port, not "a:1"/],
    ["empty endpoints", { endpoints: [] }, /endpoints is empty: name a node as host:port/],
    ["a number as endpoint", { endpoints: [7101] }, /endpoint must be host:port, not 7101/],
    ["an endpoint without port", { endpoints: ["here"] }, /endpoint must be host:port, not "here"/],
    ["a port that is none", { endpoints: ["here:65536"] }, /endpoint must be host:port, not "here:65536"/],
    ["a time as text", { endpoints: ["a:1"], timeoutMs: "500" }, /timeoutMs must be above 0 and up to \d+, not "500"/],
    ["no time", { endpoints: ["a:1"], timeoutMs: 0 }, /timeoutMs must be above 0/],
    ["a time too long", { endpoints: ["a:1"], timeoutMs: 2 ** 31 }, /timeoutMs must be above 0/],
    ["a clock that has no timers", { endpoints: ["a:1"], clock: { now: () => 0 } }, /clock\.after must be a function/],
    ["a number for random", { endpoints: ["a:1"], random: 4 }, /random must be a function, not 4/],
  ])("for %s", async (_, options, text) => {
    const error = await failure("INVALID_ARGUMENT", () => new CairnClient(options), text);
    expect(error.retryable).toBe(false);
  });
});

describe("a bad argument of a call is refused by its name, and nothing is sent", () => {
  test.each<[string, (client: Anything) => Promise<unknown>, RegExp]>([
    ["no key", (client) => client.get(), /key must be a string or a Uint8Array, not undefined/],
    ["null as key", (client) => client.get(null, { stale: true }), /key must be a string or a Uint8Array, not null/],
    ["a number as key", (client) => client.delete(7), /key must be .*, not 7/],
    ["a list as key", (client) => client.put(["a"], ""), /key must be .*, not an array/],
    ["half a character in a key", (client) => client.put("a\ud800", ""), /key has a lone surrogate/],
    ["half a character in a value", (client) => client.put("a", "\udc00"), /value has a lone surrogate/],
    ["no value", (client) => client.put("a"), /value must be a string, a Uint8Array or { json }, not undefined/],
    ["null as value", (client) => client.put("a", null), /value must be .*, not null/],
    ["a number as value", (client) => client.put("a", 1), /value must be .*, not 1/],
    ["an object as value", (client) => client.put("a", { name: "Ada" }), /value must be .*, not an object/],
    [
      "JSON of a function",
      (client) => client.put("a", { json: () => 1 }),
      /value\.json cannot be written as JSON: it is undefined/,
    ],
    [
      "JSON that has no end",
      (client) => client.put("a", { json: circular }),
      /value\.json cannot be written as JSON: .*circular/,
    ],
    ["JSON of a bigint", (client) => client.put("a", { json: 1n }), /value\.json cannot be written as JSON: .*BigInt/],
    ["a time as options", (client) => client.put("a", "", 500), /options must be an object, not 500/],
    ["null as options of put", (client) => client.put("a", "", null), /options must be an object, not null/],
    ["null as options of get", (client) => client.get("a", null), /options must be an object, not null/],
    ["null as options of delete", (client) => client.delete("a", null), /options must be an object, not null/],
    ["null as options of range", (client) => client.range(null).next(), /options must be an object, not null/],
    ["null as options of status", (client) => client.status(null), /options must be an object, not null/],
    [
      "null as options of compareAndSet",
      (client) => client.compareAndSet("a", { absent: true }, "", null),
      /options must be an object, not null/,
    ],
    ["a controller as signal", (client) => client.get("a", { signal: new AbortController() }), /signal must be an Abo/],
    ["null as signal", (client) => client.put("a", "", { signal: null }), /signal must be an AbortSignal, not null/],
    ["a signal of a range", (client) => client.range({ signal: 1 }).next(), /signal must be an AbortSignal, not 1/],
    ["a time as text", (client) => client.get("a", { timeoutMs: "9" }), /timeoutMs must be above 0 .*, not "9"/],
    ["stale as text", (client) => client.get("a", { stale: "no" }), /stale must be true or false, not "no"/],
    [
      "an index as text",
      (client) => client.get("a", { stale: true, minAppliedIndex: "4" }),
      /minAppliedIndex must be a whole number from 0, not "4"/,
    ],
    ["a prefix that is no key", (client) => client.range({ prefix: 4 }).next(), /prefix must be a string or a Uint8A/],
    ["after that is no key", (client) => client.range({ after: {} }).next(), /after must be a string or a Uint8Array/],
    [
      "a limit as bigint",
      (client) => client.range({ limit: 3n }).next(),
      /limit must be a whole number from 1, not 3n/,
    ],
    ["a page size as text", (client) => client.range({ pageSize: "3" }).next(), /pageSize must be a whole number/],
    ["nothing expected", (client) => client.compareAndSet("a", undefined, ""), /expected must be an object/],
    ["a text expected", (client) => client.compareAndSet("a", "1", ""), /expected must be an object, not "1"/],
    [
      "an empty object expected",
      (client) => client.compareAndSet("a", {}, ""),
      /expected must have one of value, version and absent/,
    ],
    [
      "two things expected",
      (client) => client.compareAndSet("a", { value: "1", version: 1 }, ""),
      /expected must have one of value, version and absent/,
    ],
    [
      "absent: false",
      (client) => client.compareAndSet("a", { absent: false }, ""),
      /expected\.absent must be true, not false/,
    ],
    ["a number as value", (client) => client.compareAndSet("a", { value: 1 }, ""), /expected\.value must be a string/],
    ["a version as text", (client) => client.compareAndSet("a", { version: "1" }, ""), /expected\.version must be a/],
    ["no new value", (client) => client.compareAndSet("a", { version: 1 }), /the new value must be a string/],
    [
      "createIfMissing as number",
      (client) => client.compareAndSet("a", { value: "" }, "", { createIfMissing: 1 }),
      /createIfMissing must be true or false, not 1/,
    ],
    ["an endpoint as number", (client) => client.status({ endpoint: 7101 }), /endpoint must be host:port, not 7101/],
  ])("for %s", async (_, call, text) => {
    const client = new CairnClient({ endpoints: ["127.0.0.1:1"] });
    onTestFinished(() => client.close());
    await failure("INVALID_ARGUMENT", () => call(client), text);
  });

  test("with a long value shown in part", async () => {
    const client = clientOf("127.0.0.1:1") as Anything;
    const error = await failure("INVALID_ARGUMENT", client.get("a", { stale: "x".repeat(10_000) }));
    expect(error.text.length).toBeLessThan(200);
  });
});

test("two clients never share a name, whatever they are given, so that every write takes effect", async () => {
  const node = await FakeNode.start("n1");
  const given = { clientId: "the same" } as object;
  const clients = [clientOf(node.address, given), clientOf(node.address, given)];
  for (const client of clients) await client.put("a", client.clientId);
  const names = node.messages.map(({ clientId }) => clientId).filter((name) => name !== "");
  expect(names).toEqual(clients.map(({ clientId }) => clientId));
  expect(new Set(names).size).toBe(2);
});
