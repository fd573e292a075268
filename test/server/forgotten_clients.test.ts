import { describe, expect, test } from "vitest";
import type { CairnError } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { MemoryMachine } from "../../src/machine/kv/memory_machine.js";
import { DEFAULT_SESSION_LIMITS } from "../../src/machine/kv/session_limits.js";
import { failure } from "../support/conditions.js";
import { ActingLeader, bytes, readValue } from "../support/nodes/acting_leader.js";
import { serve } from "../support/nodes/served_node.js";
import { putCall, RawSession } from "./session_support.js";

/** Remembers one client. */
const openMachine = async () => new MemoryMachine({ ...DEFAULT_SESSION_LIMITS, sessions: 1 });

const key = bytes("key");
const of = (clientId: string, sequence: number, since = 0) => ({
  requestId: { clientId, sequence: BigInt(sequence), since: BigInt(since) },
});

describe("the late retry of a client that the cluster has forgotten (T6)", () => {
  test("is not carried out a second time, and the error names an index for a new client id", async () => {
    const { kv, node } = await serve({ lead: true, openMachine });
    const { version } = await kv.put({ key, value: bytes("a"), ...of("a", 1) });
    await kv.put({ key, value: bytes("b"), ...of("b", 1, Number(version)) });
    const retry = () => kv.put({ key, value: bytes("a"), ...of("a", 1) });
    await failure("SESSION_EXPIRED", retry(), "may have taken effect");
    const { since } = (await retry().catch((error) => error)) as CairnError;
    expect(since).toBe(node.raft.log.last.index);
    expect(readValue(node, "key")).toBe("b");
    await failure("SESSION_EXPIRED", kv.delete({ key, ...of("a", 2) }));
    await failure(
      "SESSION_EXPIRED",
      kv.compareAndSet({ key, expected: { case: "value", value: bytes("b") }, newValue: key, ...of("a", 3) }),
    );
    expect(readValue(node, "key")).toBe("b");
    await kv.put({ key, value: bytes("c"), ...of("a, once more", 1, since) });
    expect(readValue(node, "key")).toBe("c");
  });

  test("gets the same error from a member that forwards it", async () => {
    const leader = await serve({ id: "n7", lead: true, openMachine });
    const members = [
      { id: "n1", address: "127.0.0.1:1", role: "voter" as const },
      { id: "n7", address: leader.server.address, role: "voter" as const },
    ];
    const { kv, node } = await serve({ members });
    await new ActingLeader(node, 3, "n7").append([]);
    const { version } = await kv.put({ key, value: bytes("a"), ...of("a", 1) });
    await kv.put({ key, value: bytes("b"), ...of("b", 1, Number(version)) });
    const error = await kv.put({ key, value: bytes("a"), ...of("a", 1) }).catch((error) => error as CairnError);
    expect(error).toMatchObject({ code: "SESSION_EXPIRED", since: Number(version) + 2, retryable: false });
    expect(readValue(leader.node, "key")).toBe("b");
  });

  test("gets the same error in a session, whose messages carry `since`", async () => {
    const { kv, node } = await serve({ lead: true, openMachine });
    const { version } = await kv.put({ key, value: bytes("a"), ...of("a", 1) });
    await kv.put({ key, value: bytes("b"), ...of("b", 1, Number(version)) });
    const late = new RawSession(kv, "a");
    await late.send([putCall(1, "key", "a")]);
    const { index } = node.raft.log.last;
    const since = BigInt(index) + 1n;
    expect(await late.errorOf(1)).toMatchObject({ code: "SESSION_EXPIRED", retryable: false, since });
    await late.end();
    const fresh = new RawSession(kv, "c");
    await fresh.send([putCall(1, "key", "c")], { since });
    expect(await fresh.answerTo(1)).toMatchObject({ case: "put" });
    await fresh.end();
    expect(readValue(node, "key")).toBe("c");
  });

  test("is refused when its index is out of range", async () => {
    const { kv } = await serve({ lead: true });
    const requestId = { clientId: "a", sequence: 1n, since: 2n ** 60n };
    await failure("INVALID_ARGUMENT", kv.put({ key, requestId }), "request_id.since");
  });
});

test("a retried compare-and-set gets the version, and hears that a value over sessionValueBytes is forgotten (T6)", async () => {
  const { kv, node } = await serve({ lead: true });
  const { version } = await kv.put({ key, value: Buffer.alloc(limits.sessionValueBytes + 1, "v") });
  const request = { key, expected: { case: "value", value: bytes("x") }, newValue: bytes("y"), ...of("a", 1) } as const;
  const first = await kv.compareAndSet(request);
  expect(first).toMatchObject({ swapped: false, currentForgotten: false, current: { version } });
  expect(first.current!.value).toHaveLength(limits.sessionValueBytes + 1);
  await kv.put({ key, value: bytes("x") });
  const retry = await kv.compareAndSet(request);
  expect(retry).toMatchObject({
    swapped: false,
    currentForgotten: true,
    current: { version, value: new Uint8Array(0) },
  });
  expect(readValue(node, "key")).toBe("x");
});
