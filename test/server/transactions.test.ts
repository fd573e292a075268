import { describe, expect, test } from "vitest";
import { ComparisonOperator } from "../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../src/base/limits.js";
import { failure } from "../support/conditions.js";
import { bytes, contentsOf, readValue, text } from "../support/nodes/acting_leader.js";
import { follower } from "../support/nodes/forwarding.js";
import { serve } from "../support/nodes/served_node.js";
import { type CallInit, RawSession } from "./session_support.js";

const key = bytes("key");
const put = (name: string, value: string) =>
  ({ operation: { case: "put", value: { key: bytes(name), value: bytes(value) } } }) as const;
const get = (name: string) => ({ operation: { case: "get", value: { key: bytes(name) } } }) as const;
const missing = (name: string) => ({ key: bytes(name), expected: { case: "exists", value: false } }) as const;

describe("a transaction over a unary call", () => {
  test("is answered with its version and the results of one list", async () => {
    const { kv, node } = await serve({ lead: true });
    const request = { compare: [missing("a")], then: [put("a", "1"), put("b", "2")], otherwise: [get("a")] };
    const done = await kv.txn(request);
    expect(done).toMatchObject({ succeeded: true, version: 2n, header: { nodeId: "n1" } });
    const refused = await kv.txn(request);
    expect(refused).toMatchObject({ succeeded: false, version: 3n });
    expect(refused.results[0]).toMatchObject({ version: 2n, createVersion: 2n });
    expect(text(refused.results[0]!.value)).toBe("1");
    expect(contentsOf(node)).toHaveLength(2);
  });

  test("goes from a follower to the leader, and a retry has no second effect", async () => {
    const leader = await serve({ lead: true });
    const { kv } = await follower(leader.server.address);
    const requestId = { clientId: "c", sequence: 1n, since: 1n };
    const request = {
      compare: [missing("a")],
      then: [put("a", "1"), get("a")],
      requestId,
    };
    const [once, again] = [await kv.txn(request), await kv.txn(request)];
    expect(once.succeeded).toBe(true);
    expect(again.results).toEqual(once.results);
    expect(again.version).toBe(once.version);
    expect(readValue(leader.node, "a")).toBe("1");
  });

  test("fails with the name of the limit, at ingress or when it is carried out", async () => {
    const { kv, node } = await serve({ lead: true });
    const many = (count: number) =>
      Array.from({ length: count }, (_, at) => put(`k${String(at).padStart(4, "0")}`, ""));
    await failure("LIMIT_EXCEEDED", kv.txn({ then: many(limits.txnOperations + 1) }), "txnOperations is 128");
    await failure(
      "LIMIT_EXCEEDED",
      kv.txn({ compare: Array.from({ length: limits.txnComparisons + 1 }, () => missing("a")) }),
      "txnComparisons is 128",
    );
    const { index } = node.raft.log.last;
    expect(index).toBe(1);
    for (let from = 0; from <= limits.txnKeys; from += 128) await kv.txn({ then: many(from + 128).slice(from) });
    const removal = { operation: { case: "deleteRange", value: { keys: { prefix: bytes("k") } } } } as const;
    const refused = kv.txn({ then: [put("new", ""), removal] });
    await failure("LIMIT_EXCEEDED", refused, "nothing was changed; the limit txnKeys is 1000");
    expect(node.machine.get(bytes("new"))).toBeUndefined();
    expect(node.machine.get(bytes("k0000"))).toBeDefined();
  });

  test.each([
    ["the transaction is empty", {}],
    ["compare[0] of the transaction: the key is empty", { compare: [{ expected: { case: "version", value: 1n } }] }],
    ["expected is missing", { compare: [{ key }] }],
    ["it has a key and also keys", { compare: [{ ...missing("a"), keys: {} }] }],
    [
      "value cannot be compared with LESS",
      { compare: [{ key, operator: ComparisonOperator.LESS, expected: { case: "value", value: key } }] },
    ],
    ["operator 9 is none", { compare: [{ ...missing("a"), operator: 9 as ComparisonOperator }] }],
    ["then[1] of the transaction: it is none of the operations", { then: [get("a"), {}] }],
    ["keys is missing", { then: [{ operation: { case: "range", value: {} } }] }],
    [
      "keys has a prefix and also start",
      { then: [{ operation: { case: "deleteRange", value: { keys: { prefix: key, end: key } } } }] },
    ],
    [
      "keys.end is not above keys.start",
      { then: [{ operation: { case: "deleteRange", value: { keys: { start: key, end: key } } } }] },
    ],
    ["delete has if_version", { then: [{ operation: { case: "delete", value: { key, ifVersion: 1n } } }] }],
    [
      "otherwise[0] and otherwise[2] of the transaction change the same key",
      { otherwise: [put("a", ""), get("a"), put("a", "")] },
    ],
    [
      "then[0] and then[1] of the transaction change the same key",
      { then: [{ operation: { case: "deleteRange", value: { keys: { prefix: bytes("k") } } } }, put("key", "")] },
    ],
  ] as const)("is refused with a text that says: %s", async (words, request) => {
    const { kv, node } = await serve({ lead: true });
    await failure("INVALID_ARGUMENT", kv.txn(request as Parameters<typeof kv.txn>[0]), words);
    expect(node.raft.log.last.index).toBe(1);
  });
});

test("a transaction over a session is answered, and its retry gets the same answer", async () => {
  const { kv, node } = await serve({ lead: true });
  const session = new RawSession(kv);
  const call: CallInit = {
    sequence: 1n,
    call: { case: "txn", value: { compare: [missing("a")], then: [put("a", "1")], otherwise: [get("a")] } },
  };
  await session.send([call]);
  const first = await session.answerTo(1);
  expect(first).toMatchObject({ case: "txn", value: { succeeded: true, version: 2n } });
  await session.end();
  const other = new RawSession(kv);
  await other.send([call]);
  expect(await other.answerTo(1)).toEqual(first);
  await other.end();
  expect(readValue(node, "a")).toBe("1");
});

test("a put or a delete with if_version changes a key only if that is its version", async () => {
  const { kv, node } = await serve({ lead: true });
  expect(await kv.put({ key, value: bytes("1"), ifVersion: 0n })).toMatchObject({
    version: 2n,
    conditionFailed: false,
  });
  const taken = await kv.put({ key, value: bytes("2"), ifVersion: 0n });
  expect(taken).toMatchObject({
    version: 0n,
    conditionFailed: true,
    current: { version: 2n, value: Buffer.from("1") },
  });
  const none = await kv.put({ key: bytes("none"), ifVersion: 7n });
  expect([none.conditionFailed, none.current]).toEqual([true, undefined]);
  expect(await kv.put({ key, value: bytes("3"), ifVersion: 2n })).toMatchObject({
    version: 5n,
    conditionFailed: false,
  });

  const kept = await kv.delete({ key, ifVersion: 2n });
  expect(kept).toMatchObject({ deleted: false, conditionFailed: true, current: { version: 5n } });
  expect(await kv.delete({ key, ifVersion: 0n })).toMatchObject({ deleted: false, conditionFailed: true });
  expect(await kv.delete({ key: bytes("none"), ifVersion: 0n })).toMatchObject({
    deleted: false,
    conditionFailed: false,
  });
  expect(await kv.delete({ key: bytes("none"), ifVersion: 1n })).toMatchObject({
    deleted: false,
    conditionFailed: true,
  });
  expect(readValue(node, "key")).toBe("3");
  expect(await kv.delete({ key, ifVersion: 5n })).toMatchObject({ deleted: true, conditionFailed: false });
});
