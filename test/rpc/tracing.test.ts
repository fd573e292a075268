import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { AlwaysOffSampler } from "@opentelemetry/sdk-trace-base";
import { describe, expect, onTestFinished, test } from "vitest";
import { CairnClient } from "../../src/client.js";
import { failure, until } from "../support/conditions.js";
import { bytes } from "../support/nodes/acting_leader.js";
import { follower } from "../support/nodes/forwarding.js";
import { serve } from "../support/nodes/served_node.js";
import { startProcess } from "../support/processes/processes.js";
import { RecordedSpans } from "../support/spans.js";

const PUT = "cairn.v1.KeyValueService/Put";

function clientOf(address: string): CairnClient {
  const client = new CairnClient({ endpoints: [address], timeoutMs: 10_000 });
  onTestFinished(() => client.close());
  return client;
}

describe("with OpenTelemetry in the application", () => {
  test("a write of CairnClient is a span, the server's is its child, with the steps of the write as events", async () => {
    const { server } = await serve({ lead: true });
    const client = clientOf(server.address);
    await client.put("warm", "up");
    const spans = RecordedSpans.start();
    const [version, traceId] = await spans.inSpan(async (span) => [
      await client.put("k3y", "v4lue"),
      span.spanContext().traceId,
    ]);
    expect(spans.treeOf(traceId)).toEqual([
      { name: "internal application", children: [{ name: `client ${PUT}`, children: [{ name: `server ${PUT}` }] }] },
    ]);
    const [served, sent] = spans.all;
    const call = { "rpc.system": "grpc", "rpc.service": "cairn.v1.KeyValueService", "rpc.method": "Put" };
    const common = { ...call, "db.system.name": "cairn", "db.operation.name": "Put", "rpc.grpc.status_code": 0 };
    const [host, port] = server.address.split(":");
    expect(sent!.attributes).toEqual({ ...common, "server.address": host, "server.port": Number(port) });
    expect(served!.attributes).toEqual(common);
    expect(served!.events.map(({ name }) => name).sort()).toEqual([
      "cairn.applied",
      "cairn.committed",
      "cairn.durable",
      "cairn.writing",
    ]);
    for (const { attributes } of served!.events) expect(attributes).toEqual({ "cairn.index": version });
    expect(JSON.stringify(spans.all.map(({ attributes, events, name }) => [attributes, events, name]))).not.toMatch(
      /k3y|v4lue/,
    );
  });

  test("each call of a batch is a span of its own, of the trace that it belongs to", async () => {
    const { server } = await serve({ lead: true });
    const client = clientOf(server.address);
    await client.put("k", "v");
    const spans = RecordedSpans.start();
    const calls = [() => client.put("k", "w"), () => client.get("k"), () => client.delete("k"), () => client.get("k")];
    const ids = await Promise.all(
      calls.map((call) => spans.inSpan(async (span) => call().then(() => span.spanContext().traceId))),
    );
    const methods = ["Put", "Get", "Delete", "Get"];
    for (const [at, id] of ids.entries()) {
      const name = `cairn.v1.KeyValueService/${methods[at]}`;
      const client = { name: `client ${name}`, children: [{ name: `server ${name}` }] };
      expect(spans.treeOf(id)).toEqual([{ name: "internal application", children: [client] }]);
    }
  });

  test("a unary call carries the trace in its metadata, and its error ends both spans", async () => {
    const { kv } = await serve({ lead: true });
    const spans = RecordedSpans.start();
    const traceId = await spans.inSpan(async (span) => {
      await failure("LIMIT_EXCEEDED", kv.put({ key: Buffer.alloc(2_000), value: bytes("v") }));
      return span.spanContext().traceId;
    });
    expect(spans.treeOf(traceId)).toEqual([
      { name: "internal application", children: [{ name: `client ${PUT}`, children: [{ name: `server ${PUT}` }] }] },
    ]);
    const [served, sent] = spans.all;
    for (const span of [served!, sent!]) {
      expect(span.attributes).toMatchObject({ "rpc.grpc.status_code": 3, "error.type": "LIMIT_EXCEEDED" });
    }
    // A fault of the client is none of the server.
    expect(sent!.status).toEqual({ code: SpanStatusCode.ERROR, message: "LIMIT_EXCEEDED" });
    expect(served!.status.code).toBe(SpanStatusCode.UNSET);
  });

  test("a call that a follower passes on continues its trace at the leader", async () => {
    const { server } = await serve({ lead: true });
    const { kv } = await follower(server.address);
    await kv.put({ key: bytes("k"), value: bytes("1") });
    const spans = RecordedSpans.start();
    const traceId = await spans.inSpan(async (span) => {
      await kv.put({ key: bytes("k"), value: bytes("2") });
      return span.spanContext().traceId;
    });
    await until(() => spans.all.length === 4, "all have ended");
    const passed = { name: `server ${PUT}`, children: [{ name: `server ${PUT}` }] };
    expect(spans.treeOf(traceId)).toEqual([
      { name: "internal application", children: [{ name: `client ${PUT}`, children: [passed] }] },
    ]);
  });

  test("a server begins a trace of its own for a caller without one, and none of what members tell each other", async () => {
    const { server } = await serve({ lead: true });
    const client = clientOf(server.address);
    await client.put("k", "v");
    const spans = RecordedSpans.start();
    await client.get("k");
    const kinds = spans.all.map(({ kind, name }) => [kind, name]);
    expect(kinds).toEqual([
      [SpanKind.SERVER, "cairn.v1.KeyValueService/Get"],
      [SpanKind.CLIENT, "cairn.v1.KeyValueService/Get"],
    ]);
  });

  test("a trace that is not sampled stays so at the server, and a write has no events", async () => {
    const { server, kv, node } = await serve({ lead: true });
    const client = clientOf(server.address);
    const spans = RecordedSpans.start(new AlwaysOffSampler());
    await spans.inSpan(async () => {
      await client.put("k", "v");
      await kv.get({ key: bytes("k") });
    });
    expect([spans.all, node.measures.stages.traced.size]).toEqual([[], 0]);
  });
});

test("without @opentelemetry/api, it is looked for once, nothing of it is loaded, and calls go their way", async () => {
  const { server } = await serve({ lead: true });
  const program = `
    import Module from "node:module";
    const asked = [];
    const load = Module._load;
    Module._load = function (request, ...others) {
      if (!request.startsWith("@opentelemetry/")) return load.call(this, request, ...others);
      asked.push(request);
      throw Object.assign(new Error("Cannot find module"), { code: "MODULE_NOT_FOUND" });
    };
    const { CairnClient } = await import("./dist/src/client.js");
    const client = new CairnClient({ endpoints: [${JSON.stringify(server.address)}] });
    await client.put("k", "v");
    const value = (await client.get("k")).text();
    await client.status();
    await client.close();
    console.log(JSON.stringify({ asked, value }));
  `;
  const child = startProcess(process.execPath, ["--input-type=module", "--eval", program]);
  await child.ended();
  expect(child.stderr).toBe("");
  expect(JSON.parse(child.stdout)).toEqual({ asked: ["@opentelemetry/api"], value: "v" });
});
