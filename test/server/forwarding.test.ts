import { expect, onTestFinished, test } from "vitest";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../src/base/errors.js";
import type { CallContext } from "../../src/rpc/call_context.js";
import { openChannel } from "../../src/rpc/client.js";
import { CairnServer } from "../../src/server/server.js";
import { deferred, failure, until } from "../support/conditions.js";
import { bytes, readValue, text } from "../support/nodes/acting_leader.js";
import { fakeLeader, follower } from "../support/nodes/forwarding.js";
import { memoryHome } from "../support/nodes/nodes.js";
import { collect, serve } from "../support/nodes/served_node.js";

const key = bytes("key");

/** A node n7 that leads, alone in its own view, on a server of its own. */
async function realLeader(settings: { clusterId?: string } = {}) {
  const home = memoryHome();
  const node = await home.startLeader({ id: "n7", ...settings });
  const server = await CairnServer.start(node, { listen: "127.0.0.1:0", discoverable: false });
  onTestFinished(() => server.stop());
  return { node, server };
}

test("a follower forwards put, get, delete, compare-and-set and range to the leader, and returns its answers unchanged", async () => {
  const leader = await realLeader();
  const { kv, node } = await follower(leader.server.address);
  const written = await kv.put({ key, value: bytes("1") });
  expect(written).toMatchObject({ version: 2n, header: { nodeId: "n7", leaderId: "n7" } });
  expect(readValue(leader.node, "key")).toBe("1");
  expect(text((await kv.get({ key })).kv?.value)).toBe("1");
  const swap = { key, expected: { case: "value", value: bytes("1") }, newValue: bytes("2") } as const;
  expect(await kv.compareAndSet(swap)).toMatchObject({ swapped: true, version: 3n });
  expect(await kv.compareAndSet(swap)).toMatchObject({ swapped: false, current: { version: 3n } });
  const value = new Uint8Array(100_000);
  for (let at = 0; at < 12; at++) await kv.put({ key: bytes(`k${at}`), value });
  const parts = await collect(kv.range({}));
  expect(parts.length).toBeGreaterThan(2);
  expect(parts.flatMap(({ kvs }) => kvs)).toHaveLength(13);
  expect(parts[0]!.header!.nodeId).toBe("n7");
  expect(await kv.delete({ key })).toMatchObject({ deleted: true });
  expect(node.raft.log.last.index).toBe(0);
  expect(await collect(kv.range({ stale: true }))).toMatchObject([{ kvs: [], header: { nodeId: "n1" } }]);
});

test("a follower returns the leader's refusal unchanged", async () => {
  const refusal = new CairnError("BUSY", "too much is waiting", { retryAfterMs: 70 });
  const { address } = await fakeLeader({
    put: async () => {
      throw refusal;
    },
  });
  const { kv } = await follower(address);
  const error = await failure("BUSY", kv.put({ key }), "too much is waiting");
  expect(error.retryAfterMs).toBe(70);
});

test("a call is forwarded once: a node that does not lead answers a forwarded call with NOT_LEADER", async () => {
  let calls = 0;
  const { address } = await fakeLeader({
    put: async () => {
      calls++;
      return {};
    },
    async *range() {
      calls++;
      yield {};
    },
  });
  const last = await follower(address);
  const first = await follower(last.server.address);
  const error = await failure("NOT_LEADER", first.kv.put({ key }));
  expect([error.leaderHint, error.leaderAddress, error.retryable]).toEqual(["n7", address, true]);
  await failure("NOT_LEADER", collect(first.kv.range({})));
  expect(calls).toBe(0);
  await last.kv.put({ key });
  await collect(last.kv.range({}));
  expect(calls).toBe(2);
});

test("a leader of another cluster refuses a forwarded call", async () => {
  const leader = await realLeader({ clusterId: "other" });
  const { kv } = await follower(leader.server.address);
  await failure(
    "WRONG_CLUSTER",
    kv.put({ key }),
    'passed on within cluster "cluster-1", but this node belongs to other',
  );
  await failure("WRONG_CLUSTER", collect(kv.range({})));
  expect(leader.node.raft.log.last.index).toBe(1);
});

test("a call to a leader that cannot be reached has not happened", async () => {
  const { server, address } = await fakeLeader({});
  server.forceShutdown();
  const { kv } = await follower(address);
  for (const call of [kv.put({ key }), kv.get({ key }), collect(kv.range({}))]) {
    const error = await failure("UNREACHABLE", call, "node n1 is not the leader, and the leader n7 did not answer");
    expect([error.retryable, error.leaderHint, error.leaderAddress]).toEqual([true, "n7", address]);
  }
});

test("a connection to the leader that breaks during a call leaves a write unknown and a read not done", async () => {
  let arrived = 0;
  const never = () => {
    arrived++;
    return new Promise<never>(() => {});
  };
  const { server, address } = await fakeLeader({ put: never, get: never });
  const { kv } = await follower(address);
  const put = failure("OUTCOME_UNKNOWN", kv.put({ key }), "broke during");
  const get = failure("UNREACHABLE", kv.get({ key }));
  await until(() => arrived === 2, "both calls have arrived");
  server.forceShutdown();
  await Promise.all([put, get]);
});

/** Deadlines travel in whole milliseconds. */
const ROUNDING_MS = 5;

test("the deadline and the cancellation of the caller reach the leader", async () => {
  const contexts: CallContext[] = [];
  const cancelled = deferred<unknown>();
  const never = (_request: unknown, context: CallContext) => {
    contexts.push(context);
    context.signal.addEventListener("abort", () => cancelled.resolve(context.signal.reason));
    return new Promise<never>(() => {});
  };
  const { address } = await fakeLeader({ put: never });
  const { kv } = await follower(address);
  const controller = new AbortController();
  const madeAt = Date.now();
  const put = failure("CANCELLED", kv.put({ key }, { timeoutMs: 60_000, signal: controller.signal }));
  await until(() => contexts.length === 1, "the call has arrived");
  // Each hop sends on what is left. How long a hop takes is this machine's affair.
  const deadlineMs = contexts[0]!.deadlineMs!;
  expect(deadlineMs).toBeGreaterThan(madeAt + 60_000 - ROUNDING_MS);
  expect(deadlineMs).toBeLessThan(Date.now() + 60_000 + ROUNDING_MS);
  expect(contexts[0]!.metadata.get("cairn-forwarded-by")).toBe("n1");
  controller.abort();
  await put;
  expect(await cancelled.promise).toMatchObject({ code: "CANCELLED" });
  // On a busy machine the time may be up before the call has got there.
  for (let timeoutMs = 40; contexts.length < 2; timeoutMs *= 2)
    await failure("TIMEOUT", kv.put({ key }, { timeoutMs }));
  const unlimited = new AbortController();
  const last = failure("CANCELLED", kv.put({ key }, { signal: unlimited.signal }));
  // Calls whose time was up may still arrive.
  await until(() => contexts.some(({ deadlineMs }) => deadlineMs === undefined), "the last call has arrived");
  unlimited.abort();
  await last;
});

test("a reader that leaves a range early releases it at the leader", async () => {
  const left = deferred();
  const { address } = await fakeLeader({
    async *range() {
      try {
        for (;;) yield { kvs: [{ key, value: new Uint8Array(100_000) }] };
      } finally {
        left.resolve();
      }
    },
  });
  const { kv } = await follower(address);
  for await (const _ of kv.range({})) break;
  await left.promise;
});

test("a server that stops closes its connections to leaders", async () => {
  const { server: leader, address } = await fakeLeader({ put: async () => ({}) });
  const home = memoryHome();
  const { node } = await follower(address, home);
  const server = await CairnServer.start(node, { listen: "127.0.0.1:0", discoverable: false });
  const channel = openChannel(server.address);
  await channel.client(KeyValueService).put({ key });
  channel.close();
  await server.stop();
  // Ends only when no connection is left.
  await new Promise<void>((resolve, reject) =>
    leader.tryShutdown((error) => (error === undefined ? resolve() : reject(error))),
  );
});

test("a follower says that it knows no leader, or none with an address", async () => {
  const { kv } = await serve();
  const nobody = await failure("NOT_LEADER", kv.put({ key }), "no leader is known");
  expect([nobody.leaderHint, nobody.leaderAddress]).toEqual([undefined, undefined]);
  const { kv: other } = await follower("");
  const nameless = await failure("NOT_LEADER", other.put({ key }));
  expect([nameless.leaderHint, nameless.leaderAddress]).toEqual(["n7", undefined]);
});
