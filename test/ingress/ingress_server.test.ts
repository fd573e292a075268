import { context } from "@opentelemetry/api";
import { suppressTracing } from "@opentelemetry/core";
import { describe, expect, test } from "vitest";
import type { GetResponse, SessionRequest } from "../../gen/cairn/v1/kv_pb.js";
import { limits } from "../../src/base/limits.js";
import { deferred, failure, until, untilAsync } from "../support/conditions.js";
import { bytes, text } from "../support/nodes/acting_leader.js";
import { fakeLeader } from "../support/nodes/forwarding.js";
import { collect } from "../support/nodes/loopback.js";
import { memoryHome } from "../support/nodes/nodes.js";
import { serve, serveNode } from "../support/nodes/served_node.js";
import { RecordedSpans } from "../support/spans.js";
import { ingressTo } from "./support.js";

const key = bytes("key");

test("a call through an ingress process continues its trace at the node", async () => {
  const { server } = await serve({ lead: true });
  const { kv } = await ingressTo(server.address);
  await kv.put({ key: bytes("k"), value: bytes("v") });
  const spans = RecordedSpans.start();
  const traceId = "0af7651916cd43dd8448eb211c80319c";
  // As a client in another language sends it: its own span is not one of these.
  const settings = { metadata: { traceparent: `00-${traceId}-b7ad6b7169203331-01` } };
  await context.with(suppressTracing(context.active()), () => kv.put({ key: bytes("k"), value: bytes("v") }, settings));
  expect(spans.treeOf(traceId, "b7ad6b7169203331")).toEqual([{ name: "server cairn.v1.KeyValueService/Put" }]);
});

describe("unary calls at an ingress process", () => {
  test("have the answers of the node itself", async () => {
    const served = await serve({ lead: true });
    const { kv } = await ingressTo(served.server.address);
    const { header, version } = await kv.put({ key, value: bytes("1") });
    expect(header).toMatchObject({ nodeId: "n1", leaderId: "n1", clusterId: served.node.clusterId });
    expect(await kv.get({ key })).toEqual(await served.kv.get({ key }));
    expect(await kv.get({ key, stale: true })).toEqual(await served.kv.get({ key, stale: true }));
    const expected = { case: "version", value: version } as const;
    expect(await kv.compareAndSet({ key, expected, newValue: bytes("2") })).toMatchObject({ swapped: true });
    const kept = await kv.compareAndSet({ key, expected });
    expect([kept.swapped, text(kept.current?.value)]).toEqual([false, "2"]);
    expect(await kv.delete({ key })).toMatchObject({ deleted: true });
  });

  test("have the errors of the node itself", async () => {
    const served = await serve();
    const { kv } = await ingressTo(served.server.address);
    for (const call of [
      () => ({ put: { key: bytes("") } }),
      () => ({ put: { key, value: new Uint8Array(limits.valueBytes + 1) } }),
      () => ({ put: { key } }),
      () => ({ get: { key } }),
    ]) {
      const { put, get } = call() as { put?: object; get?: object };
      const at = (client: typeof kv) => (put !== undefined ? client.put(put) : client.get(get ?? {}));
      const [here, there] = await Promise.all([at(kv), at(served.kv)].map((each) => each.catch((error) => error)));
      expect({ code: here.code, text: here.text }).toEqual({ code: there.code, text: there.text });
    }
  });

  test("go to the node in few messages", async () => {
    const messages: SessionRequest[] = [];
    const release = deferred();
    const { address } = await fakeLeader({
      async *session(requests) {
        for await (const request of requests) {
          messages.push(request);
          if (messages.length > 1) await release.promise;
          const answer = { case: "put" as const, value: { version: 5n } };
          yield { header: { nodeId: "n7" }, answers: request.calls.map(({ sequence }) => ({ sequence, answer })) };
        }
      },
    });
    const { kv } = await ingressTo(address);
    const first = kv.put({ key });
    await until(() => messages.length === 2, "the first call has arrived");
    const more = Array.from({ length: 50 }, () => kv.put({ key }));
    release.resolve();
    expect(await first).toMatchObject({ version: 5n, header: { nodeId: "n7" } });
    await Promise.all(more);
    expect(messages[0]).toMatchObject({ ingress: true, calls: [], clientId: "", forwardedBy: "" });
    expect(messages.slice(1).reduce((sum, { calls }) => sum + calls.length, 0)).toBe(51);
    expect(messages.length).toBeLessThan(20);
  });

  test("do not wait behind writes when they are stale reads", async () => {
    const { address } = await fakeLeader({
      async *session(requests) {
        for await (const { calls, ingress } of requests) {
          if (ingress) yield { header: {} };
          for (const { sequence, call } of calls) {
            if (call.case === "get") yield { answers: [{ sequence, answer: { case: "get", value: {} } }] };
          }
        }
      },
    });
    const { kv, channel } = await ingressTo(address);
    const stuck = Array.from({ length: limits.sessionCallsInFlight + 1 }, () => kv.put({ key }).catch(() => {}));
    expect(await kv.get({ key, stale: true })).not.toHaveProperty("kv");
    channel.close();
    await Promise.all(stuck);
  });

  test("say what is known when the node is gone, and work again when it is back", async () => {
    const home = memoryHome();
    const node = await home.startLeader();
    const first = await serveNode(node);
    const { kv } = await ingressTo(first.server.address);
    await kv.put({ key, value: bytes("1") });
    await first.server.stop();
    await failure("UNREACHABLE", kv.get({ key }));
    await failure("UNREACHABLE", kv.put({ key }));
    await serveNode(node, first.server.address);
    let answer: GetResponse | undefined;
    await untilAsync(async () => {
      answer = await kv.get({ key }).catch(() => undefined);
      return answer !== undefined;
    }, "the node answers again");
    expect(text(answer?.kv?.value)).toBe("1");
  });

  test("have an unknown outcome when the node goes away with a write", async () => {
    const arrived = deferred();
    const { address, server } = await fakeLeader({
      async *session(requests) {
        for await (const { calls } of requests) {
          yield { header: {} };
          if (calls.length > 0) arrived.resolve();
        }
      },
    });
    const { kv } = await ingressTo(address);
    const write = failure("OUTCOME_UNKNOWN", kv.put({ key }), "passed on to the node");
    await arrived.promise;
    server.forceShutdown();
    await write;
  });
});

describe("all other calls at an ingress process", () => {
  test("are passed through to the node", async () => {
    const { server, node } = await serve({ lead: true });
    const { kv, admin } = await ingressTo(server.address);
    await Promise.all(Array.from({ length: 30 }, (_, at) => kv.put({ key: bytes(`k${at}`), value: bytes("v") })));
    const parts = await collect(kv.range({ prefix: bytes("k"), limit: 10n }));
    expect(parts.flatMap(({ kvs }) => kvs)).toHaveLength(10);
    expect(parts.at(-1)!.more).toBe(true);
    expect(await admin.getStatus({})).toMatchObject({ nodeId: "n1", clusterId: node.clusterId });
    const watch = kv.watch({ prefix: bytes("k"), startIndex: 2n })[Symbol.asyncIterator]();
    expect((await watch.next()).value).toMatchObject({ through: 1n, events: [] });
    expect((await watch.next()).value!.events.length).toBeGreaterThan(0);
    await watch.return?.();
    const session = kv.session();
    await session.send({ clientId: "c", calls: [{ sequence: 1n, call: { case: "put", value: { key } } }] });
    session.end();
    const answers = (await collect(session.responses)).flatMap((message) => message.answers);
    expect(answers).toMatchObject([{ sequence: 1n, answer: { case: "put" } }]);
  });

  test("are refused when they are a peer's", async () => {
    const { server } = await serve({ lead: true });
    const { channel } = await ingressTo(server.address);
    const { RaftService } = await import("../../gen/cairn/v1/raft_pb.js");
    await failure("UNIMPLEMENTED", channel.client(RaftService).requestVote({}));
  });
});

describe("an ingress process that stops", () => {
  test("lets the calls under way end", async () => {
    const arrived = deferred();
    const release = deferred();
    const { address } = await fakeLeader({
      async *session(requests) {
        for await (const { calls } of requests) {
          yield { header: {} };
          if (calls.length === 0) continue;
          arrived.resolve();
          await release.promise;
          yield {
            answers: calls.map(({ sequence }) => ({ sequence, answer: { case: "put", value: { version: 3n } } })),
          };
        }
      },
    });
    const { kv, server } = await ingressTo(address);
    const write = kv.put({ key });
    await arrived.promise;
    const stopped = server.stop();
    release.resolve();
    expect(await write).toMatchObject({ version: 3n });
    await stopped;
  });
});
