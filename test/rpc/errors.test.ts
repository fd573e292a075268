import { create } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService, PutRequestSchema } from "../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import { CairnError, type CairnErrorCode, errorCodes } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { createClient, openChannel } from "../../src/rpc/client.js";
import { serverOptions } from "../../src/rpc/grpc_options.js";
import { addService } from "../../src/rpc/server.js";
import { errorFromStatus } from "../../src/rpc/status.js";
import { collect, deferred, listen, loopback, shutDown } from "../support/nodes/loopback.js";

async function failure(promise: Promise<unknown>): Promise<CairnError> {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(CairnError);
  return error as CairnError;
}

/** A call with grpc-js's own client, as a program of another make would see the server. */
function foreignCall(address: string, path: string, request: Uint8Array): Promise<grpc.ServiceError | undefined> {
  const client = new grpc.Client(address, grpc.credentials.createInsecure(), { "grpc.max_send_message_length": -1 });
  const asItIs = (bytes: Uint8Array) => Buffer.from(bytes);
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, asItIs, asItIs, request, (error) => {
      client.close();
      resolve(error ?? undefined);
    });
  });
}

describe("an error of a handler", () => {
  test("arrives with its code, its text and the leader's address", async () => {
    let thrown: CairnError | undefined;
    const { channel, address } = await loopback((server) =>
      addService(server, KeyValueService, {
        async put() {
          throw thrown;
        },
      }),
    );
    const client = channel.client(KeyValueService);
    for (const code of Object.keys(errorCodes) as CairnErrorCode[]) {
      const help = { leaderHint: "node-2", leaderAddress: "[::1]:7102", retryAfterMs: 75 };
      thrown = new CairnError(code, "the reason, 100 % of it: höher #1", help);
      const error = await failure(client.put({}));
      expect(error.message).toBe(thrown.message);
      expect(error).toMatchObject({ code, text: thrown.text, retryable: thrown.retryable, ...help });

      const foreign = await foreignCall(address, "/cairn.v1.KeyValueService/Put", new Uint8Array());
      expect(foreign).toMatchObject({ code: grpc.status[errorCodes[code].grpc], details: thrown.message });
    }
    thrown = new CairnError("NOT_LEADER", "nobody leads");
    const bare = await failure(client.put({}));
    expect([bare.leaderHint, bare.leaderAddress, bare.retryAfterMs]).toEqual([undefined, undefined, undefined]);
    // A header holds ASCII only; a hint that it cannot hold is left out.
    thrown = new CairnError("NOT_LEADER", "somebody leads", { leaderHint: "ü", leaderAddress: "a\nb:1" });
    const cut = await failure(client.put({}));
    expect([cut.code, cut.leaderHint, cut.leaderAddress]).toEqual(["NOT_LEADER", undefined, undefined]);
  });

  test("may have a text of any length and content", async () => {
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async get() {
          throw new CairnError("CORRUPT", `\ud800 lone, \n line, ${"é".repeat(100_000)}`);
        },
      }),
    );
    const error = await failure(channel.client(KeyValueService).get({}));
    expect(error.code).toBe("CORRUPT");
    expect(error.text).toMatch(/^. lone, \n line, é+\.\.\.$/);
    expect(error.message.length).toBeLessThan(limits.errorTextCharacters + 10);
  });

  test("is INTERNAL, and logged, when it is no CairnError", async () => {
    const unexpected: [unknown, string][] = [];
    const bug = new TypeError("x is not a function");
    const { channel } = await loopback((server) => {
      const options = { onUnexpectedError: (error: unknown, method: string) => void unexpected.push([error, method]) };
      const implementation = {
        get() {
          throw bug;
        },
        // biome-ignore lint/correctness/useYield: it fails before it can
        async *range() {
          throw bug;
        },
      };
      addService(server, KeyValueService, implementation, options);
    });
    const client = channel.client(KeyValueService);
    expect(await failure(client.get({}))).toMatchObject({ code: "INTERNAL", text: "x is not a function" });
    expect(await failure(collect(client.range({})))).toMatchObject({ code: "INTERNAL", text: "x is not a function" });
    expect(unexpected).toEqual([
      [bug, "cairn.v1.KeyValueService/Get"],
      [bug, "cairn.v1.KeyValueService/Range"],
    ]);
  });

  test("says that a method does not exist, whatever its kind", async () => {
    const { channel } = await loopback((server) => {
      addService(server, KeyValueService, {});
      addService(server, RaftService, {});
    });
    const kv = channel.client(KeyValueService);
    const raft = channel.client(RaftService);
    const expected = (method: string) => ({ code: "UNIMPLEMENTED", text: `cairn.v1.${method} is not implemented yet` });
    expect(await failure(kv.txn({}))).toMatchObject(expected("KeyValueService/Txn"));
    expect(await failure(collect(kv.watch({})))).toMatchObject(expected("KeyValueService/Watch"));
    const call = raft.appendEntries();
    expect(await failure(collect(call.responses))).toMatchObject(expected("RaftService/AppendEntries"));
    expect(await failure(call.send({}))).toMatchObject(expected("RaftService/AppendEntries"));
    expect(await failure(channel.client(AdminService).getStatus({}))).toMatchObject({ code: "UNIMPLEMENTED" });
  });

  test("comes after the answers before it in a stream", async () => {
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async *range() {
          for (let count = 0; count < 40; count++) yield { kvs: [{ value: new Uint8Array(20_000) }] };
          throw new CairnError("OUT_OF_RANGE", "no further", { leaderHint: "a" });
        },
      }),
    );
    let received = 0;
    const read = async () => {
      for await (const _ of channel.client(KeyValueService).range({})) received++;
    };
    expect(await failure(read())).toMatchObject({ code: "OUT_OF_RANGE", text: "no further", leaderHint: "a" });
    expect(received).toBe(40);
  });

  test("is INVALID_ARGUMENT for a request that is no message of its type", async () => {
    const { address } = await loopback((server) => addService(server, KeyValueService, { put: async () => ({}) }));
    const error = await foreignCall(address, "/cairn.v1.KeyValueService/Put", new Uint8Array([0x0a, 0x7f]));
    expect(error).toMatchObject({ code: grpc.status.INVALID_ARGUMENT });
    expect(error!.details).toMatch(
      /^\[INVALID_ARGUMENT\] cairn\.v1\.KeyValueService\/Put: the request is not a valid cairn/,
    );
  });
});

describe("a message above the limit", () => {
  const tooLarge = create(PutRequestSchema, { value: new Uint8Array(limits.messageBytes + 1) });
  const names = /messageBytes \(4194304\)/;

  test("is refused before it is sent when it is a request", async () => {
    let called = false;
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        async put() {
          called = true;
          return {};
        },
      }),
    );
    const error = await failure(channel.client(KeyValueService).put(tooLarge));
    expect(error.code).toBe("LIMIT_EXCEEDED");
    expect(error.text).toMatch(names);
    expect(called).toBe(false);
  });

  test("is refused by the server with the same limit when another client sent it", async () => {
    const { address } = await loopback((server) => addService(server, KeyValueService, { put: async () => ({}) }));
    const request = Buffer.alloc(limits.messageBytes + 1);
    const error = await foreignCall(address, "/cairn.v1.KeyValueService/Put", request);
    expect(error).toMatchObject({ code: grpc.status.INVALID_ARGUMENT });
    expect(error!.details).toMatch(/^\[LIMIT_EXCEEDED\]/);
    expect(error!.details).toMatch(names);
  });

  test("is refused before it is sent when it is an answer, even in a stream", async () => {
    let finished = false;
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        get: async () => ({ kv: { value: tooLarge.value } }),
        async *range() {
          try {
            yield { kvs: [] };
            yield { kvs: [{ value: tooLarge.value }] };
          } finally {
            finished = true;
          }
        },
      }),
    );
    const client = channel.client(KeyValueService);
    for (const call of [client.get({}), collect(client.range({}))]) {
      const error = await failure(call);
      expect(error.code).toBe("LIMIT_EXCEEDED");
      expect(error.text).toMatch(names);
    }
    expect(finished).toBe(true);
  });

  test("is one byte longer than the largest, which passes in both directions", async () => {
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, { put: async () => ({}), get: async ({ key }) => ({ kv: { key } }) }),
    );
    const client = channel.client(KeyValueService);
    // Tag and length of the field take 5 bytes.
    await client.put({ value: new Uint8Array(limits.messageBytes - 5) });
    const answer = await client.get({ key: new Uint8Array(limits.messageBytes - 10) });
    expect(answer.kv!.key.length).toBe(limits.messageBytes - 10);
  });
});

describe("a failure between client and server", () => {
  test("is UNREACHABLE when nothing listens, and a later call finds the server", async () => {
    const placeholder = new grpc.Server(serverOptions);
    const address = await listen(placeholder, "127.0.0.1:0");
    await shutDown(placeholder);
    const client = createClient(KeyValueService, address);
    onTestFinished(() => client.close());

    const error = await failure(client.get({}));
    expect(error).toMatchObject({ code: "UNREACHABLE", retryable: true });
    expect(error.text).toMatch(new RegExp(`^${address} cannot be reached: .*ECONNREFUSED`));
    expect(await failure(collect(client.range({})))).toMatchObject({ code: "UNREACHABLE" });

    const server = new grpc.Server(serverOptions);
    addService(server, KeyValueService, { get: async () => ({ header: { nodeId: "late" } }) });
    await listen(server, address);
    onTestFinished(async () => {
      client.close();
      await shutDown(server);
    });
    let nodeId: string | undefined;
    while (nodeId === undefined) {
      nodeId = await client.get({}).then(
        (answer) => answer.header!.nodeId,
        (reason) => {
          expect(reason).toMatchObject({ code: "UNREACHABLE" });
          return new Promise<undefined>((resolve) => setImmediate(() => resolve(undefined)));
        },
      );
    }
    expect(nodeId).toBe("late");
  });

  test("is an unknown outcome, and never called a failure, when the connection breaks after the request has arrived", async () => {
    const arrived = deferred();
    const gone = deferred<unknown>();
    const { server, channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        put(_request, { signal }) {
          arrived.resolve();
          signal.addEventListener("abort", () => gone.resolve(signal.reason));
          return new Promise(() => {});
        },
      }),
    );
    const put = failure(channel.client(KeyValueService).put({}));
    await arrived.promise;
    server.forceShutdown();
    expect(await put).toMatchObject({ code: "OUTCOME_UNKNOWN", retryable: false });
    expect(await gone.promise).toMatchObject({ code: "CANCELLED" });
  });

  test("is TIMEOUT on both sides when no answer comes in time", async () => {
    const reason = deferred<unknown>();
    let isReached = false;
    const { channel } = await loopback((server) =>
      addService(server, KeyValueService, {
        get(_request, { signal }) {
          isReached = true;
          signal.addEventListener("abort", () => reason.resolve(signal.reason));
          return new Promise(() => {});
        },
      }),
    );
    // On a busy machine the time may be up before the call has got there.
    for (let timeoutMs = 30; !isReached; timeoutMs *= 2) {
      const error = await failure(channel.client(KeyValueService).get({}, { timeoutMs }));
      expect(error.code).toBe("TIMEOUT");
      expect(error.text).toMatch(/^cairn\.v1\.KeyValueService\/Get on 127\.0\.0\.1:\d+ was not answered in time/);
    }
    // The client's own timer cancels the call at about the same time as the server's.
    expect((await reason.promise) as CairnError).toMatchObject({
      code: expect.stringMatching(/^(TIMEOUT|CANCELLED)$/),
    });
  });

  test("is TIMEOUT for a stream at its deadline", async () => {
    const { channel } = await loopback((server) =>
      addService(server, RaftService, {
        async *appendEntries(requests) {
          for await (const { round } of requests) yield { round };
        },
      }),
    );
    const call = channel.client(RaftService).appendEntries({ timeoutMs: 30 });
    // It may come too late already.
    const sent = call.send({ round: 1n }).catch(() => {});
    expect(await failure(collect(call.responses))).toMatchObject({ code: "TIMEOUT" });
    await sent;
    expect(await failure(call.send({}))).toMatchObject({ code: "TIMEOUT" });
  });

  test("is an error for calls to a closed channel, which also ends its running calls", async () => {
    const { channel, address } = await loopback((server) =>
      addService(server, KeyValueService, { get: () => new Promise(() => {}) }),
    );
    const other = openChannel(address);
    const running = failure(other.client(KeyValueService).get({}));
    other.close();
    other.close();
    expect(await running).toMatchObject({ code: "CANCELLED" });
    expect(await failure(other.client(KeyValueService).get({}))).toMatchObject({ code: "FAILED_PRECONDITION" });
    const call = other.client(RaftService).appendEntries();
    expect(await failure(collect(call.responses))).toMatchObject({ code: "FAILED_PRECONDITION" });
    expect(await failure(call.send({}))).toMatchObject({ code: "FAILED_PRECONDITION" });
    channel.close();
  });

  test("is an error for a time limit that no timer can hold", async () => {
    const client = createClient(KeyValueService, "127.0.0.1:1");
    onTestFinished(() => client.close());
    for (const timeoutMs of [-1, Number.NaN, 2 ** 31]) {
      expect(await failure(client.get({}, { timeoutMs }))).toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  });

  test("is an error for metadata that cannot be sent, and for a bad address", async () => {
    const client = createClient(KeyValueService, "127.0.0.1:1");
    onTestFinished(() => client.close());
    const metadata = { key: "line\nbreak" };
    expect(await failure(client.get({}, { metadata }))).toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(() => openChannel("")).toThrow(/\[INVALID_ARGUMENT\] the address must be host:port, not ""/);
  });

  test.each([
    ["CANCELLED", "CANCELLED"],
    ["UNKNOWN", "INTERNAL"],
    ["INVALID_ARGUMENT", "INVALID_ARGUMENT"],
    ["DEADLINE_EXCEEDED", "TIMEOUT"],
    ["NOT_FOUND", "NOT_FOUND"],
    ["RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED"],
    ["FAILED_PRECONDITION", "FAILED_PRECONDITION"],
    ["ABORTED", "OUTCOME_UNKNOWN"],
    ["OUT_OF_RANGE", "OUT_OF_RANGE"],
    ["UNIMPLEMENTED", "UNIMPLEMENTED"],
    ["INTERNAL", "INTERNAL"],
    ["UNAVAILABLE", "OUTCOME_UNKNOWN"],
    ["DATA_LOSS", "CORRUPT"],
  ] as const)("that is a bare %s of another server becomes %s", (status, code) => {
    const bare = { code: grpc.status[status], details: "why", metadata: new grpc.Metadata() };
    const error = errorFromStatus(bare, KeyValueService.method.put, "host:1");
    expect(error.code).toBe(code);
    expect(error.text).toMatch(/why/);
  });

  test("is named by the gRPC status when this version does not know the code", () => {
    const metadata = new grpc.Metadata();
    metadata.set("cairn-code", "toString");
    const status = { code: grpc.status.NOT_FOUND, details: "[toString] why", metadata };
    expect(errorFromStatus(status, KeyValueService.method.put, "host:1").code).toBe("NOT_FOUND");
  });
});
