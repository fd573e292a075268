import { getEventListeners } from "node:events";
import * as grpc from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { limits } from "../../src/base/limits.js";
import { version } from "../../src/base/version.js";
import { CairnClient } from "../../src/client/client.js";
import * as entry from "../../src/client.js";
import { CairnServer } from "../../src/server/server.js";
import { deferred, failure, isSettled, ManualClock, until } from "../support/conditions.js";
import { ActingLeader, bytes, putEntries } from "../support/nodes/acting_leader.js";
import { CLUSTER, memoryHome, type NodeSettings } from "../support/nodes/nodes.js";
import { serve } from "../support/nodes/served_node.js";
import { clientOf, deadAddress, FakeNode } from "./support.js";

/** A node that leads alone, and a client of it. */
async function start(settings: NodeSettings = {}) {
  const { node, server, home } = await serve({ lead: true, segmentBytes: limits.segmentBytes, ...settings });
  return { home, node, server, client: clientOf(server.address) };
}

test("the client that the tests use is the one that the package exports", () => {
  expect(entry.CairnClient).toBe(CairnClient);
});

describe("a key and its value", () => {
  test("are put, got and deleted as strings, bytes and JSON", async () => {
    const { client } = await start();
    expect(await client.get("a")).toBeUndefined();
    const first = await client.put("a", "text: ü");
    const found = await client.get("a");
    expect(found?.text()).toBe("text: ü");
    expect([found?.key, found?.version, found?.createVersion]).toEqual(["a", first, first]);

    const raw = Uint8Array.of(0xff, 0, 0xfe);
    const second = await client.put(bytes("a"), raw);
    expect(second).toBeGreaterThan(first);
    const overwritten = await client.get(Buffer.from("a"));
    expect([...overwritten!.bytes]).toEqual([...raw]);
    expect([overwritten!.version, overwritten!.createVersion]).toEqual([second, first]);
    await client.put(raw, "of a key that is no text");
    expect([...(await client.get(raw))!.keyBytes]).toEqual([...raw]);

    await client.put("user", { json: { name: "Ada", born: 1815 } });
    const user = (await client.get("user"))!.json<{ name: string }>();
    expect(user).toEqual({ name: "Ada", born: 1815 });
    expect(() => overwritten!.json()).toThrow(SyntaxError);

    expect(await client.delete("user")).toBe(true);
    expect(await client.delete("user")).toBe(false);
    expect(await client.get("user")).toBeUndefined();
    await client.put("empty", "");
    expect((await client.get("empty"))!.bytes).toHaveLength(0);
  });

  test("are swapped by value, by version or when absent, and created if missing", async () => {
    const { client } = await start();
    expect(await client.compareAndSet("a", { value: "0" }, "1")).toEqual({ swapped: false, current: undefined });
    const created = await client.compareAndSet("a", { absent: true }, "1");
    expect(created).toEqual({ swapped: true, version: expect.any(Number) });
    const again = await client.compareAndSet("a", { absent: true }, "2");
    expect(again.swapped === false && again.current?.text()).toBe("1");
    const version = created.swapped ? created.version : 0;
    expect(await client.compareAndSet("a", { version: version + 100 }, "2")).toMatchObject({ swapped: false });
    const swapped = await client.compareAndSet("a", { version }, { json: [2] });
    expect(swapped).toEqual({ swapped: true, version: expect.any(Number) });
    const mismatch = await client.compareAndSet("a", { value: "1" }, "3");
    expect(mismatch.swapped === false && [mismatch.current?.json(), mismatch.current?.version]).toEqual([
      [2],
      swapped.swapped && swapped.version,
    ]);
    expect(await client.compareAndSet("a", { value: { json: [2] } }, "3")).toMatchObject({ swapped: true });
    expect(await client.compareAndSet("b", { value: "?" }, "1", { createIfMissing: true })).toMatchObject({
      swapped: true,
    });
    expect((await client.get("b"))?.text()).toBe("1");
  });

  test("are copied when given, and belong to the caller when returned", async () => {
    const { client } = await start();
    const [key, value] = [bytes("key"), bytes("value")];
    const written = client.put(key, value);
    key.fill(0);
    value.fill(0);
    await written;
    const found = (await client.get("key"))!;
    expect(found.text()).toBe("value");
    // A view of all that came in one message would keep all of it in memory.
    expect(found.bytes.buffer.byteLength).toBeLessThanOrEqual(Buffer.poolSize);
    found.bytes.fill(0);
    expect((await client.get("key"))!.text()).toBe("value");
  });

  test("may have the largest size, alone and in the largest compare-and-set that fits an entry", async () => {
    const { client } = await start();
    const value = new Uint8Array(limits.valueBytes).fill(1);
    await client.put("k".repeat(limits.keyBytes), value);
    expect((await client.get("k".repeat(limits.keyBytes)))!.bytes).toHaveLength(limits.valueBytes);
    // Both values fit a message, but not an entry: the node says so.
    await failure("LIMIT_EXCEEDED", client.compareAndSet("a", { value }, value), "entryBytes");
    await client.put("still", "alive");
  });

  test("are refused before they are sent when they are not valid", async () => {
    const { client } = await start();
    const tooLong = "k".repeat(limits.keyBytes + 1);
    const tooLarge = new Uint8Array(limits.valueBytes + 1);
    await failure("INVALID_ARGUMENT", client.put("", "a"), "the key is empty");
    await failure("LIMIT_EXCEEDED", client.get(tooLong), "keyBytes");
    await failure("LIMIT_EXCEEDED", client.get(tooLong, { stale: true }), "keyBytes");
    await failure("LIMIT_EXCEEDED", client.delete(tooLong), "keyBytes");
    await failure("LIMIT_EXCEEDED", client.put("a", tooLarge), "valueBytes");
    await failure("LIMIT_EXCEEDED", client.compareAndSet("a", { value: tooLarge }, ""), "valueBytes");
    await failure("LIMIT_EXCEEDED", client.compareAndSet("a", { absent: true }, tooLarge), "valueBytes");
    await failure("INVALID_ARGUMENT", client.compareAndSet("a", { version: -1 }, ""), "version must be a whole number");
    await failure("INVALID_ARGUMENT", client.put("a", { json: undefined }), "cannot be written as JSON");
    await failure("INVALID_ARGUMENT", client.put("a", "", { timeoutMs: 0 }), "timeoutMs must be above 0");
    await failure("INVALID_ARGUMENT", client.get("a", { stale: true, minAppliedIndex: 0.5 }), "minAppliedIndex");
    await failure("LIMIT_EXCEEDED", client.range({ prefix: tooLong }).next(), "prefix has 1025 bytes");
    await failure("LIMIT_EXCEEDED", client.range({ after: tooLong }).next(), "after has 1025 bytes");
    for (const limit of [0, -1, 1.5, Number.NaN]) {
      await failure("INVALID_ARGUMENT", client.range({ limit }).next(), "limit must be a whole number from 1");
      await failure("INVALID_ARGUMENT", client.range({ pageSize: limit }).next(), "pageSize must be");
    }
    expect(() => new CairnClient({ endpoints: ["a:1"], timeoutMs: 2 ** 31 })).toThrow(/timeoutMs/);
  });
});

describe("a range", () => {
  const names = async (range: AsyncIterable<{ key: string }>) => {
    const all = [];
    for await (const { key } of range) all.push(key);
    return all;
  };

  test("honours prefix, after and limit, in one view or in pages", async () => {
    const { client } = await start();
    await Promise.all(["b2", "a", "b1", "c", "b3", "b4"].map((key) => client.put(key, `value of ${key}`)));
    for (const pageSize of [undefined, 1, 2, 100]) {
      expect(await names(client.range({ pageSize }))).toEqual(["a", "b1", "b2", "b3", "b4", "c"]);
      expect(await names(client.range({ prefix: "b", pageSize }))).toEqual(["b1", "b2", "b3", "b4"]);
      expect(await names(client.range({ prefix: "b", after: "b1", limit: 2, pageSize }))).toEqual(["b2", "b3"]);
      expect(await names(client.range({ limit: 4, pageSize }))).toEqual(["a", "b1", "b2", "b3"]);
      expect(await names(client.range({ prefix: "x", pageSize }))).toEqual([]);
    }
    for await (const entry of client.range({ limit: 1 })) {
      expect([entry.key, entry.text(), entry.version, entry.createVersion]).toEqual([
        "a",
        "value of a",
        entry.createVersion,
        entry.version,
      ]);
    }
  });

  test("is one state of the store however long it takes, or one state for each page with a page size", async () => {
    const { client } = await start();
    const value = new Uint8Array(100_000);
    for (let at = 10; at < 30; at++) await client.put(`k${at}`, value);
    const [view, pages] = [client.range(), client.range({ pageSize: 5 })];
    const [first, firstOfPages] = [await view.next(), await pages.next()];
    await client.put("k99", value);
    await client.delete("k20");
    expect(first.value?.key).toBe("k10");
    expect(firstOfPages.value?.key).toBe("k10");
    const before = Array.from({ length: 19 }, (_, at) => `k${at + 11}`);
    expect(await names(view)).toEqual(before);
    expect(await names(pages)).toEqual([...before.filter((key) => key !== "k20"), "k99"]);
  });

  test("releases the state when the loop over it is left early", async () => {
    const { client, node } = await start();
    for (let at = 0; at < 30; at++) await client.put(`k${at}`, new Uint8Array(200_000));
    const closed = deferred();
    const range = node.machine.range.bind(node.machine);
    Object.assign(node.machine, {
      range: (options: object) => {
        const entries = range(options);
        const close = entries.close.bind(entries);
        entries.close = () => {
          close();
          closed.resolve();
        };
        return entries;
      },
    });
    for await (const _ of client.range()) break;
    await closed.promise;
  });
});

describe("a stale read", () => {
  test("is answered by any node, without a leader, and can wait for an index that was written", async () => {
    const { node, server } = await serve();
    const leader = new ActingLeader(node, 3, "n7");
    await leader.replicate(putEntries(1, 2, 3));
    const client = clientOf([await deadAddress(), server.address], { timeoutMs: 2000 });
    expect((await client.get("k2", { stale: true }))?.text()).toBe("3.2");
    const keys = [];
    for await (const { key } of client.range({ stale: true })) keys.push(key);
    expect(keys).toEqual(["k1", "k2"]);
    const later = client.get("k3", { stale: true, minAppliedIndex: 3 });
    expect(await isSettled(later)).toBe(false);
    await leader.replicate(putEntries(3, 3, 3));
    expect((await later)?.text()).toBe("3.3");
    const error = await failure("TIMEOUT", client.get("k4", { stale: true, minAppliedIndex: 99, timeoutMs: 80 }));
    expect(error.text).toMatch(/^there was no answer in 80 ms; the last problem was: \[/);
  });
});

test("a range ends with its signal, with its client, or when a part is late, and leaves nothing behind", async () => {
  const clock = new ManualClock();
  const node = await FakeNode.start("n1");
  const client = clientOf(node.address, { clock, timeoutMs: 300 });
  const begin = async (options = {}) => {
    const range = client.range(options);
    expect((await range.next()).value?.key).toBe("k1");
    return range;
  };
  const controller = new AbortController();
  const reason = new Error("enough");
  const aborted = await begin({ signal: controller.signal });
  controller.abort(reason);
  expect((await failure("CANCELLED", aborted.next())).cause).toBe(reason);
  expect(getEventListeners(controller.signal, "abort")).toHaveLength(0);

  const late = await begin();
  const next = failure("TIMEOUT", late.next(), "no further part in 300 ms");
  clock.advance(300);
  await next;

  const left = await begin();
  await left.return();
  const closed = await begin();
  const cancelled = failure("CANCELLED", closed.next(), "the client was closed");
  await client.close();
  await cancelled;
  await until(() => node.openRanges === 0, "the node has let go of all");
  expect(clock.pending).toBe(0);
});

describe("status", () => {
  test("is that of the first node that answers, or of the node that is asked for", async () => {
    const members = [
      { id: "n1", address: "127.0.0.1:1", role: "voter" as const },
      { id: "n2", address: "127.0.0.1:2", role: "learner" as const },
    ];
    const { server, node } = await serve({ members });
    const dead = await deadAddress();
    const client = clientOf([dead, server.address]);
    await new ActingLeader(node, 3, "n7").replicate(putEntries(1, 2, 3));
    const status = await client.status();
    expect(status).toEqual({
      clusterId: CLUSTER,
      nodeId: "n1",
      version,
      role: "follower",
      term: 3,
      leaderId: "n7",
      commitIndex: 2,
      appliedIndex: 2,
      lastLogIndex: 2,
      snapshotIndex: 0,
      members,
      elections: "manual",
      isDiskFull: false,
    });
    expect(await client.status({ endpoint: server.address })).toEqual(status);
    await failure("UNREACHABLE", client.status({ endpoint: dead }));
    await failure("INVALID_ARGUMENT", client.status({ endpoint: "nowhere" }), "must be host:port");
  });
});

describe("a client that is closed", () => {
  test("ends the calls in flight, refuses further ones, and leaves no connection", async () => {
    const home = memoryHome();
    const node = await home.startLeader();
    const server = await CairnServer.start(node, { listen: "127.0.0.1:0", discoverable: false });
    onTestFinished(() => server.stop());
    const client = clientOf(server.address);
    await client.put("a", "1");
    await client.get("a", { stale: true });
    await client.close();
    await client.close();
    for (const call of [
      client.put("a", ""),
      client.get("a"),
      client.get("a", { stale: true }),
      client.delete("a"),
      client.range().next(),
      client.status(),
    ]) {
      await failure("FAILED_PRECONDITION", call, "the client is closed");
    }
    // A connection that were left would be cut by the server in the end.
    const cutOff = vi.spyOn(grpc.Server.prototype, "forceShutdown");
    await server.stop();
    expect(cutOff).not.toHaveBeenCalled();
    cutOff.mockRestore();
  });

  test("reports a sent write as of unknown outcome, and an unsent write or a read as not done", async () => {
    const node = await FakeNode.start("n1");
    node.answer = () => undefined;
    const client = clientOf(node.address);
    const writes = Array.from({ length: limits.clientWritesAtFirst + 1 }, (_, at) => client.put(`k${at}`, ""));
    const outcomes = Promise.allSettled([...writes, client.get("a")]);
    await until(() => node.calls.length === limits.clientWritesAtFirst + 1, "what there is room for was sent");
    await client.close();
    const codes = (await outcomes).map((outcome) => outcome.status === "rejected" && outcome.reason.code);
    expect(new Set(codes.slice(0, limits.clientWritesAtFirst))).toEqual(new Set(["OUTCOME_UNKNOWN"]));
    expect(codes.slice(limits.clientWritesAtFirst)).toEqual(["CANCELLED", "CANCELLED"]);
    await until(() => node.open === 0, "the stream is closed");
  });

  test("closes at the end of an await using block", async () => {
    const node = await FakeNode.start("n1");
    {
      await using client = new CairnClient({ endpoints: [node.address] });
      await client.put("a", "1");
      expect(node.open).toBe(1);
    }
    await until(() => node.open === 0, "the stream is closed");
  });
});
