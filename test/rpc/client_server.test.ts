import { create, createFileRegistry } from "@bufbuild/protobuf";
import type { GenService } from "@bufbuild/protobuf/codegenv2";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import {
  file_cairn_v1_kv,
  GetResponseSchema,
  KeyValueService,
  type PutRequestSchema,
  PutResponseSchema,
} from "../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import type { CallContext } from "../../src/rpc/call_context.js";
import { decodeMessage, encodeMessage } from "../../src/rpc/codec.js";
import { orderedAnswers } from "../../src/rpc/ordered.js";
import { addService } from "../../src/rpc/server.js";
import { collect, loopback, text } from "../support/nodes/loopback.js";

/** cairn.v1 has no client-streaming method, so this declares a service with one. */
const GatherService = gatherService() as unknown as GenService<{
  gather: { methodKind: "client_streaming"; input: typeof PutRequestSchema; output: typeof PutResponseSchema };
}>;

function gatherService() {
  const file = create(FileDescriptorProtoSchema, {
    name: "gather.proto",
    package: "cairn.test",
    syntax: "proto3",
    dependency: ["cairn/v1/kv.proto"],
    service: [
      {
        name: "GatherService",
        method: [
          {
            name: "Gather",
            inputType: ".cairn.v1.PutRequest",
            outputType: ".cairn.v1.PutResponse",
            clientStreaming: true,
          },
        ],
      },
    ],
  });
  return createFileRegistry(file, () => file_cairn_v1_kv).getService("cairn.test.GatherService");
}

describe("a call over gRPC", () => {
  test("can be unary", async () => {
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        get: async (request) => ({ kv: { key: request.key, value: text("value"), version: 7n } }),
      }),
    );
    const answer = await channel.client(KeyValueService).get({ key: text("key") });
    expect(answer.$typeName).toBe("cairn.v1.GetResponse");
    expect(Buffer.from(answer.kv!.key).toString()).toBe("key");
    expect(Buffer.from(answer.kv!.value).toString()).toBe("value");
    expect(answer.kv!.version).toBe(7n);
  });

  test("can stream its answers", async () => {
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async *range({ limit }) {
          for (let index = 0n; index < limit; index++) yield { kvs: [{ version: index }] };
        },
      }),
    );
    const answers = await collect(channel.client(KeyValueService).range({ limit: 100n }));
    expect(answers.map((answer) => answer.kvs[0]!.version)).toEqual(Array.from({ length: 100 }, (_, i) => BigInt(i)));
  });

  test("can stream its requests", async () => {
    const { channel } = await loopback((server) =>
      addService(server, GatherService, {
        async gather(requests) {
          let bytes = 0n;
          for await (const { value } of requests) bytes += BigInt(value.length);
          return { version: bytes };
        },
      }),
    );
    const call = channel.client(GatherService).gather();
    for (let index = 0; index < 50; index++) await call.send({ value: new Uint8Array(1000) });
    call.end();
    expect((await call.response).version).toBe(50_000n);
  });

  test("can stream its requests and be answered early", async () => {
    const { channel } = await loopback((server) =>
      addService(server, GatherService, {
        async gather(requests) {
          for await (const _ of requests) return { version: 1n };
          return { version: 0n };
        },
      }),
    );
    const call = channel.client(GatherService).gather();
    const sendUntilRefused = async () => {
      for (let count = 0; count < 2000; count++) await call.send({ value: new Uint8Array(100_000) });
    };
    await expect(sendUntilRefused()).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    expect((await call.response).version).toBe(1n);
  });

  test("can be bidirectional and pipelined, with answers in order", async () => {
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        appendEntries: (requests) =>
          orderedAnswers(requests, async ({ round }) => ({ round, success: round % 2n === 0n }), 16),
      }),
    );
    const call = channel.client(RaftService).appendEntries();
    const answers = collect(call.responses);
    for (let round = 0n; round < 500n; round++) await call.send({ round });
    call.end();
    expect((await answers).map(({ round, success }) => [round, success])).toEqual(
      Array.from({ length: 500 }, (_, i) => [BigInt(i), i % 2 === 0]),
    );
  });

  test("can be bidirectional, one question at a time", async () => {
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        async *appendEntries(requests) {
          for await (const { round } of requests) yield { round };
        },
      }),
    );
    const call = channel.client(RaftService).appendEntries();
    const answers = call.responses[Symbol.asyncIterator]();
    for (let round = 1n; round <= 20n; round++) {
      await call.send({ round });
      const answer = await answers.next();
      expect(answer.done).toBe(false);
      expect(answer.value.round).toBe(round);
    }
    call.end();
    expect((await answers.next()).done).toBe(true);
    await expect(call.send({ round: 0n })).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  });

  test("can have messages without any field", async () => {
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        timeoutNow: async () => ({}),
        async *appendEntries(requests) {
          for await (const _ of requests) yield {};
        },
      }),
    );
    const client = channel.client(RaftService);
    expect((await client.timeoutNow({})).term).toBe(0n);
    const call = client.appendEntries();
    for (let count = 0; count < 3; count++) await call.send({});
    call.end();
    expect(await collect(call.responses)).toHaveLength(3);
  });
});

describe("the environment of a call:", () => {
  test("a handler is called as a method of its object, and sees metadata, deadline and peer", async () => {
    class KeyValue {
      seen: { tenant: string | undefined; none: string | undefined; peer: string; context: CallContext } | undefined;
      async get(_request: unknown, context: CallContext) {
        const { metadata, peer } = context;
        this.seen = { tenant: metadata.get("tenant"), none: metadata.get("none"), peer, context };
        return {};
      }
    }
    const implementation = new KeyValue();
    const { channel } = await loopback((server) => addService(server, KeyValueService, implementation));
    const client = channel.client(KeyValueService);

    const before = Date.now();
    await client.get({}, { timeoutMs: 60_000, metadata: { tenant: "blue" } });
    expect(implementation.seen).toMatchObject({ tenant: "blue", none: undefined });
    expect(implementation.seen!.peer).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(implementation.seen!.context.deadlineMs).toBeGreaterThan(before + 60_000 - 5);
    expect(implementation.seen!.context.deadlineMs).toBeLessThan(Date.now() + 60_000 + 5);
    // Answered calls are not cancelled calls.
    expect(implementation.seen!.context.signal.aborted).toBe(false);

    await client.get({});
    expect(implementation.seen!.context.deadlineMs).toBeUndefined();
  });

  test("several services share a channel", async () => {
    const { channel } = await loopback((server) => {
      addService(server, KeyValueService, { get: async () => ({}) });
      addService(server, RaftService, { timeoutNow: async () => ({ term: 3n }) });
    });
    await channel.client(KeyValueService).get({});
    expect((await channel.client(RaftService).timeoutNow({})).term).toBe(3n);
  });

  test("one connection carries 64 unary calls at once", async () => {
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, { put: async ({ key }) => ({ version: BigInt(key.length) }) }),
    );
    const client = channel.client(KeyValueService);
    const sizes = Array.from({ length: 64 }, (_, index) => index);
    const answers = await Promise.all(sizes.map((size) => client.put({ key: new Uint8Array(size) })));
    expect(answers.map(({ version }) => Number(version))).toEqual(sizes);
  });
});

describe("bytes are not copied:", () => {
  test("bytes fields of a decoded message are views of the received buffer", () => {
    const received = encodeMessage(GetResponseSchema, { kv: { key: text("k"), value: text("v".repeat(50)) } });
    const message = decodeMessage(GetResponseSchema, received);
    expect(message.kv!.value.buffer).toBe(received.buffer);
    received[received.length - 1] = "w".charCodeAt(0);
    expect(message.kv!.value.at(-1)).toBe("w".charCodeAt(0));
  });

  test("the encoded message is the encoder's own memory", () => {
    const encoded = encodeMessage(PutResponseSchema, { version: 1n });
    // A copy into a Buffer this small would come from Node's shared pool.
    expect(encoded.buffer.byteLength).toBe(encoded.byteLength);
    expect(encoded.byteOffset).toBe(0);
  });

  test("a handler's bytes are views of one buffer for each request", async () => {
    const buffers: ArrayBufferLike[] = [];
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async put({ key, value }) {
          buffers.push(key.buffer, value.buffer);
          return {};
        },
      }),
    );
    await channel.client(KeyValueService).put({ key: text("k"), value: new Uint8Array(100_000) });
    expect(buffers[0]).toBe(buffers[1]);
  });
});
