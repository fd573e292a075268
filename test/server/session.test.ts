import * as grpc from "@grpc/grpc-js";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { CairnError } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { deferred, failure, isSettled, manyTurns, until } from "../support/conditions.js";
import { ActingLeader, bytes, readValue, text } from "../support/nodes/acting_leader.js";
import { settled } from "../support/nodes/loopback.js";
import { CLUSTER, memoryHome } from "../support/nodes/nodes.js";
import { serve, serveNode } from "../support/nodes/served_node.js";
import { deleteCall, getCall, putCall, RawSession } from "./session_support.js";

afterEach(() => {
  vi.restoreAllMocks();
});

async function serveSession(settings: Parameters<typeof serve>[0] = { lead: true }) {
  const served = await serve(settings);
  return { ...served, session: new RawSession(served.kv) };
}

/** Holds up what is written to the log until the promise resolves; says whether something waits for it. */
function holdLog(disk: Awaited<ReturnType<typeof serve>>["home"]["disk"], hold: Promise<void>) {
  const held = { isHeld: false };
  disk.onCall = ({ kind, path }) => {
    if (kind !== "datasync" || !path.includes("/wal/")) return;
    held.isHeld = true;
    return hold;
  };
  return held;
}

describe("the calls of a session", () => {
  test("are preceded by a header, which answers the first message at once", async () => {
    const { session, node } = await serveSession();
    await session.send([]);
    const greeting = await session.next();
    expect(greeting).toMatchObject({ header: { clusterId: CLUSTER, nodeId: "n1", leaderId: "n1" }, answers: [] });
    expect(greeting!.header!.appliedIndex).toBe(BigInt(node.machine.appliedIndex));
    await session.end();
    expect(session.messages).toBe(1);
  });

  test("include put, get, delete and compare-and-set", async () => {
    const { session, node } = await serveSession();
    await session.send([putCall(1, "a", "1"), putCall(2, "b", "2")]);
    expect(await session.answerTo(1)).toMatchObject({ case: "put", value: { version: 2n } });
    expect(await session.answerTo(2)).toMatchObject({ case: "put", value: { version: 3n } });
    const swap = (sequence: number, expected: string) => ({
      sequence: BigInt(sequence),
      call: {
        case: "compareAndSet" as const,
        value: { key: bytes("a"), expected: { case: "value" as const, value: bytes(expected) }, newValue: bytes("x") },
      },
    });
    await session.send([getCall(3, "a"), getCall(4, "none"), deleteCall(5, "b"), deleteCall(6, "none"), swap(7, "no")]);
    await session.answerTo(3);
    await session.send([swap(8, "1")]);
    const got = await session.answerTo(3);
    expect(got).toMatchObject({ case: "get", value: { kv: { version: 2n, createVersion: 2n } } });
    expect(got.case === "get" && text(got.value.kv?.value)).toBe("1");
    const none = await session.answerTo(4);
    expect(none.case === "get" && [none.value.kv, none.value.header]).toEqual([undefined, undefined]);
    expect(await session.answerTo(5)).toMatchObject({ case: "delete", value: { deleted: true } });
    expect(await session.answerTo(6)).toMatchObject({ case: "delete", value: { deleted: false } });
    expect(await session.answerTo(7)).toMatchObject({
      case: "compareAndSet",
      value: { swapped: false, current: { version: 2n, value: Buffer.from("1") } },
    });
    expect(await session.answerTo(8)).toMatchObject({ case: "compareAndSet", value: { swapped: true, version: 7n } });
    await session.end();
    expect(readValue(node, "a")).toBe("x");
    expect(node.machine.sessionCount).toBe(1);
  });

  test("take no place in the log or the table of sessions when they are reads", async () => {
    const { session, node } = await serveSession();
    await session.send([getCall(1, "a"), getCall(2, "b", { stale: true })]);
    await session.answerTo(1);
    await session.answerTo(2);
    expect([node.raft.log.last.index, node.machine.sessionCount]).toEqual([1, 0]);
    await session.end();
  });

  test("wait for their index when they are stale reads, in any number, and delay no other", async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error) => warnings.push(warning);
    process.on("warning", onWarning);
    onTestFinished(() => void process.off("warning", onWarning));
    const { session } = await serveSession();
    const waiting = Array.from({ length: 50 }, (_, at) => getCall(at + 1, "a", { stale: true, minAppliedIndex: 2n }));
    await session.send([...waiting, getCall(51, "a")]);
    await session.answerTo(51);
    expect(session.answers.size).toBe(1);
    await session.send([putCall(52, "a", "new")]);
    for (let sequence = 1; sequence <= 50; sequence++) {
      const answer = await session.answerTo(sequence);
      expect(answer.case === "get" && text(answer.value.kv?.value)).toBe("new");
    }
    await session.end();
    expect(warnings).toEqual([]);
  });
});

describe("a write that is sent again with its sequence", () => {
  test("over another stream gets the first answer until it is acknowledged", async () => {
    const { kv, session, node } = await serveSession();
    await session.send([putCall(1, "a", "1"), putCall(2, "a", "2")]);
    await session.answerTo(2);
    session.stream.cancel();

    const again = new RawSession(kv);
    await again.send([putCall(1, "a", "1")]);
    expect(await again.answerTo(1)).toMatchObject({ case: "put", value: { version: 2n } });
    expect(readValue(node, "a")).toBe("2");
    await again.send([putCall(3, "b")], { acknowledgedThrough: 2n });
    await again.answerTo(3);
    again.answers.clear();
    await again.send([putCall(1, "a", "1")]);
    expect(await again.errorOf(1)).toMatchObject({ code: "OUTCOME_UNKNOWN", retryable: false });
    expect(readValue(node, "a")).toBe("2");
    await again.end();
  });

  test("has one effect, as in unary calls", async () => {
    const { kv, session } = await serveSession();
    const requestId = { clientId: "c1", sequence: 1n };
    const { version } = await kv.put({ key: bytes("a"), value: bytes("1"), requestId });
    await session.send([putCall(1, "a", "1")]);
    expect(await session.answerTo(1)).toMatchObject({ case: "put", value: { version } });
    await session.end();
  });

  test("is accepted when its outcome is unknown", async () => {
    const { session, node } = await serveSession();
    Object.assign(node, {
      propose: async () => {
        throw new CairnError("OUTCOME_UNKNOWN", "who knows");
      },
    });
    await session.send([putCall(1, "a")]);
    expect(await session.errorOf(1)).toMatchObject({ code: "OUTCOME_UNKNOWN", message: "who knows", retryable: true });
    await session.end();
  });
});

describe("an error of one call", () => {
  test("leaves the others to be answered", async () => {
    const { session, node } = await serveSession();
    const half = new Uint8Array(limits.valueBytes);
    await session.send([
      putCall(1, ""),
      getCall(2, ""),
      { sequence: 3n },
      { sequence: 4n, call: { case: "txn", value: {} } },
      { sequence: 5n, call: { case: "put", value: { key: bytes("a"), requestId: { clientId: "x", sequence: 5n } } } },
      putCall(0, "a"),
      putCall(6, "a"),
    ]);
    const expected = { case: "value" as const, value: half };
    const large = { key: bytes("a"), expected, newValue: half };
    await session.send([{ sequence: 7n, call: { case: "compareAndSet", value: large } }, getCall(8, "a")]);
    await session.send([putCall(9, "b")], { acknowledgedThrough: 9n });
    await session.answerTo(8);
    const errors = [1, 2, 3, 4, 5, 0, 7, 9].map((sequence) => session.errorOf(sequence));
    expect((await Promise.all(errors)).map(({ code, message }) => `${code}: ${message}`)).toEqual([
      expect.stringMatching(/^INVALID_ARGUMENT: the key is empty/),
      expect.stringMatching(/^INVALID_ARGUMENT: the key is empty/),
      expect.stringMatching(/^INVALID_ARGUMENT: the call is missing/),
      expect.stringMatching(/^INVALID_ARGUMENT: the transaction is empty/),
      expect.stringMatching(/^INVALID_ARGUMENT: request_id must be absent/),
      expect.stringMatching(/^INVALID_ARGUMENT: request_id\.sequence is 0/),
      expect.stringMatching(/^LIMIT_EXCEEDED: .*entryBytes/),
      expect.stringMatching(/^INVALID_ARGUMENT: request_id\.acknowledged_through 9/),
    ]);
    expect(await session.answerTo(6)).toMatchObject({ case: "put" });
    await session.end();
    expect(node.raft.log.last.index).toBe(2);
  });

  test("names the leader, as the greeting does, when a follower answers", async () => {
    const members = [
      { id: "n1", address: "127.0.0.1:1", role: "voter" as const },
      { id: "n7", address: "10.0.0.7:7101", role: "voter" as const },
    ];
    const { session, node } = await serveSession({ members });
    await new ActingLeader(node, 3, "n7").append([]);
    await session.send([putCall(1, "a"), getCall(2, "a"), getCall(3, "a", { stale: true })]);
    expect((await session.next())!.header).toMatchObject({
      nodeId: "n1",
      leaderId: "n7",
      leaderAddress: "10.0.0.7:7101",
    });
    const where = { code: "NOT_LEADER", retryable: true, leaderId: "n7", leaderAddress: "10.0.0.7:7101" };
    expect(await session.errorOf(1)).toMatchObject(where);
    expect(await session.errorOf(2)).toMatchObject(where);
    expect((await session.answerTo(3)).case).toBe("get");
    await session.end();
  });

  test("is BUSY with the time of the next try when too many wait, even for a unary call", async () => {
    const { kv, session, node } = await serveSession();
    Object.assign(node, {
      propose: async () => {
        throw new CairnError("BUSY", "too much");
      },
    });
    await session.send([putCall(1, "a")]);
    expect(await session.errorOf(1)).toMatchObject({ code: "BUSY", retryable: true, retryAfterMs: 50 });
    const error = await failure("BUSY", kv.put({ key: bytes("a") }));
    expect(error.retryAfterMs).toBe(50);
    await session.end();
  });

  test("says that the node has stopped", async () => {
    const { session, home, node } = await serveSession();
    await session.send([]);
    await session.next();
    await home.stop(node);
    await session.send([putCall(1, "a"), getCall(2, "a")]);
    expect(await session.errorOf(1)).toMatchObject({ code: "STOPPED", retryable: true });
    expect(await session.errorOf(2)).toMatchObject({ code: "STOPPED", retryable: true });
    await session.end();
  });
});

describe("a client that breaks the rules is refused", () => {
  test("without a client id, or with one that is too long", async () => {
    const { kv } = await serve({ lead: true });
    for (const clientId of ["", "x".repeat(limits.clientIdBytes + 1)]) {
      const session = new RawSession(kv, clientId);
      await session.send([putCall(1, "a")]);
      await failure("INVALID_ARGUMENT", session.next(), /client_id has \d+ bytes.*clientIdBytes/);
    }
  });

  test("when it changes its client id, after the answers to its earlier calls", async () => {
    const { session, node } = await serveSession();
    await session.send([putCall(1, "a")]);
    await session.stream.send({ calls: [putCall(2, "b")] });
    await session.stream.send({ clientId: "other", calls: [putCall(3, "c")] });
    await session.answerTo(2);
    await session.answerTo(1);
    await failure("INVALID_ARGUMENT", session.next(), 'client_id is "other", but the stream belongs to "c1"');
    expect(readValue(node, "c")).toBeUndefined();
  });

  test("when it names another cluster", async () => {
    const { kv, node } = await serve({ lead: true });
    const session = new RawSession(kv);
    await session.send([putCall(1, "a")], { clusterId: "other" });
    await failure("WRONG_CLUSTER", session.next(), 'cluster_id is "other"');
    expect(node.raft.log.last.index).toBe(1);
    const same = new RawSession(kv);
    await same.send([putCall(1, "a")], { clusterId: CLUSTER });
    await same.answerTo(1);
    await same.end();
  });
});

describe("the messages of a session", () => {
  test("are few for 1,000 writes that become durable together", async () => {
    const { session, home } = await serveSession();
    await session.send([]);
    await session.next();
    const hold = deferred();
    const held = holdLog(home.disk, hold.promise);
    const calls = Array.from({ length: 1000 }, (_, at) => putCall(at + 1, `k${at}`));
    await session.send(calls);
    await until(() => held.isHeld, "the log is written");
    hold.resolve();
    while (session.answers.size < calls.length) await session.next();
    // The greeting, the entries that one write took, and the rest: the event loop has its turn between two batches that are applied.
    expect(session.messages).toBeLessThanOrEqual(2 + Math.ceil(calls.length / limits.applyEntries));
    await session.end();
  });

  test("have all their reads confirmed together", async () => {
    const { session, node } = await serveSession();
    let confirmations = 0;
    const confirm = node.linearizableRead.bind(node);
    Object.assign(node, {
      linearizableRead: (signal: AbortSignal) => {
        confirmations++;
        return confirm(signal);
      },
    });
    await session.send(Array.from({ length: 500 }, (_, at) => getCall(at + 1, `k${at}`)));
    while (session.answers.size < 500) await session.next();
    expect(confirmations).toBe(1);
    expect(session.messages).toBeLessThanOrEqual(2);
    await session.end();
  });

  test("may hold any number of calls, and are bounded in size", async () => {
    const { session } = await serveSession();
    const count = 3 * limits.sessionCallsInFlight + 7;
    await session.send(Array.from({ length: count }, (_, at) => getCall(at + 1, `k${at}`)));
    let most = 0;
    while (session.answers.size < count) most = Math.max(most, (await session.next())!.answers.length);
    expect(most).toBeLessThanOrEqual(limits.sessionMessageCalls);
    await session.end();
  });

  test("share large answers between them", async () => {
    const { session } = await serveSession({ lead: true, segmentBytes: limits.segmentBytes });
    const value = new Uint8Array(limits.valueBytes);
    await session.send([putCall(1, "a", value)]);
    await session.send([putCall(2, "b", new Uint8Array(100_000))]);
    await session.answerTo(1);
    await session.answerTo(2);
    await session.send(Array.from({ length: 12 }, (_, at) => getCall(at + 3, at % 2 === 0 ? "a" : "b")));
    const sizes: number[][] = [];
    while (session.answers.size < 14) {
      const message = await session.next();
      sizes.push(message!.answers.map(({ answer }) => (answer.case === "get" ? answer.value.kv!.value.length : 0)));
    }
    for (const each of sizes) {
      const total = each.reduce((sum, size) => sum + size, 0);
      expect(each.length === 1 || total <= limits.sessionMessageBytes).toBe(true);
    }
    await session.end();
  });
});

describe("a client that does not read its answers", () => {
  test("is read no further, and its calls wait without loading their answers", async () => {
    const { session, node } = await serveSession();
    const value = new Uint8Array(20_000);
    await session.send([putCall(1, "a", value)]);
    await session.answerTo(1);
    let reads = 0;
    let gets = 0;
    const confirm = node.linearizableRead.bind(node);
    const get = node.machine.get.bind(node.machine);
    Object.assign(node, {
      linearizableRead: (signal: AbortSignal) => {
        reads++;
        return confirm(signal);
      },
    });
    Object.assign(node.machine, {
      get: (key: Uint8Array) => {
        gets++;
        return get(key);
      },
    });
    const count = 4 * limits.sessionCallsInFlight;
    const sending = (async () => {
      for (let sequence = 2; sequence < count + 2; sequence++) await session.send([getCall(sequence, "a")]);
    })();
    await settled(() => reads + gets);
    expect(reads).toBeGreaterThan(100);
    // All that were answered into the buffers on the way, and those in the works.
    expect(reads).toBeLessThanOrEqual(gets + limits.sessionCallsInFlight);
    expect(gets * value.byteLength).toBeLessThan(8 * 1024 * 1024);
    while (session.answers.size < count + 1) await session.next();
    await sending;
    await session.end();
  });
});

describe("the end of a session", () => {
  test("by the client's half comes after the answers to its calls", async () => {
    const { session, home } = await serveSession();
    const hold = deferred();
    const held = holdLog(home.disk, hold.promise);
    await session.send([putCall(1, "a"), putCall(2, "b")]);
    await until(() => held.isHeld, "the log is written");
    const ended = session.end();
    expect(await isSettled(ended)).toBe(false);
    hold.resolve();
    await ended;
    expect([...session.answers.keys()].sort()).toEqual([1, 2]);
  });

  test("by the server comes without an error after the answers to the calls that it has read", async () => {
    const { session, home, server } = await serveSession();
    const hold = deferred();
    const held = holdLog(home.disk, hold.promise);
    await session.send([putCall(1, "a")]);
    await until(() => held.isHeld, "the log is written");
    const cutOff = vi.spyOn(grpc.Server.prototype, "forceShutdown");
    const stopped = server.stop();
    await manyTurns();
    hold.resolve();
    expect((await session.answerTo(1)).case).toBe("put");
    while ((await session.next()) !== undefined);
    await stopped;
    expect(cutOff).not.toHaveBeenCalled();
  });

  test("by a lost client lets its writes take effect, and leaves nothing of it", async () => {
    const home = memoryHome();
    const node = await home.startLeader();
    const { kv, server } = await serveNode(node);
    const session = new RawSession(kv);
    const hold = deferred();
    const held = holdLog(home.disk, hold.promise);
    await session.send([putCall(1, "a", "1"), getCall(2, "a", { stale: true, minAppliedIndex: 99n })]);
    await until(() => held.isHeld, "the log is written");
    session.stream.cancel();
    await failure("CANCELLED", async () => {
      while ((await session.next()) !== undefined);
    });
    hold.resolve();
    await until(() => readValue(node, "a") === "1", "the write is applied");
    const cutOff = vi.spyOn(grpc.Server.prototype, "forceShutdown");
    await server.stop();
    expect(cutOff).not.toHaveBeenCalled();
  });
});
