import * as grpc from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { limits } from "../../src/base/limits.js";
import { CallProxy } from "../../src/ingress/call_proxy.js";
import { openChannel } from "../../src/rpc/client.js";
import { methodPath } from "../../src/rpc/codec.js";
import { channelOptions, serverOptions } from "../../src/rpc/grpc_options.js";
import { addService } from "../../src/rpc/server.js";
import { deferred, during, until } from "../support/conditions.js";
import { listen, settled } from "../support/nodes/loopback.js";

const PATH = "/test.Any/Call";
const asItIs = (bytes: Buffer) => bytes;
type Call = grpc.ServerDuplexStream<Buffer, Buffer>;

/** A server with a proxy of one method in front of it. */
async function proxyTo(node: grpc.Server, path: string) {
  const proxy = new CallProxy(await listen(node, "127.0.0.1:0"));
  const server = new grpc.Server(serverOptions);
  proxy.addTo(server, path);
  onTestFinished(() => {
    server.forceShutdown();
    proxy.close();
    node.forceShutdown();
  });
  return { front: await listen(server, "127.0.0.1:0") };
}

/** A server whose one method does this, and a client of it through a proxy. */
async function proxied(handle: (call: Call) => void) {
  const node = new grpc.Server(serverOptions);
  node.register(PATH, handle, asItIs, asItIs, "bidi");
  const { front } = await proxyTo(node, PATH);
  const client = new grpc.Client(front, grpc.credentials.createInsecure(), channelOptions as grpc.ClientOptions);
  onTestFinished(() => client.close());
  const stream = (metadata = new grpc.Metadata(), options: grpc.CallOptions = {}) =>
    client.makeBidiStreamRequest(PATH, asItIs, asItIs, metadata, options);
  return { node, client, stream };
}

/** The end of a call, with the messages before it. */
async function ended(call: grpc.ClientDuplexStream<Buffer, Buffer>) {
  const messages: string[] = [];
  const header = deferred<grpc.Metadata>();
  call.on("metadata", header.resolve);
  call.on("data", (bytes: Buffer) => messages.push(`${bytes}`));
  call.on("error", () => {});
  const status = await new Promise<grpc.StatusObject>((resolve) => call.on("status", resolve));
  header.resolve(new grpc.Metadata());
  return { messages, status, header: await header.promise };
}

describe("a call that is passed through", () => {
  test("keeps its metadata, messages, status and trailers in both directions", async () => {
    const seen = deferred<grpc.Metadata>();
    const { stream } = await proxied((call) => {
      seen.resolve(call.metadata);
      const header = new grpc.Metadata();
      header.set("from-node", "header");
      call.sendMetadata(header);
      call.on("data", (bytes: Buffer) => call.write(Buffer.from(`echo ${bytes}`)));
      call.on("end", () => {
        const trailer = new grpc.Metadata();
        trailer.set("data-bin", Buffer.from([0, 255]));
        call.end(trailer);
      });
    });
    const metadata = new grpc.Metadata();
    metadata.set("from-client", "1");
    metadata.add("from-client", "2");
    const call = stream(metadata);
    for (const word of ["a", "", "c"]) call.write(Buffer.from(word));
    call.end();
    const { messages, status, header } = await ended(call);
    expect(messages).toEqual(["echo a", "echo ", "echo c"]);
    expect((await seen.promise).get("from-client").join(", ")).toBe("1, 2");
    expect(header.get("from-node")).toEqual(["header"]);
    expect(status.code).toBe(grpc.status.OK);
    expect(status.metadata.get("data-bin")).toEqual([Buffer.from([0, 255])]);
  });

  test("fails with the node's status, its text and its trailers", async () => {
    const { stream } = await proxied((call) => {
      const metadata = new grpc.Metadata();
      metadata.set("cairn-code", "BUSY");
      call.write(Buffer.from("before"), () => {
        call.emit("error", { code: grpc.status.RESOURCE_EXHAUSTED, details: "später, 100 %", metadata });
      });
    });
    const { messages, status } = await ended(stream());
    expect(messages).toEqual(["before"]);
    expect({ code: status.code, details: status.details }).toEqual({
      code: grpc.status.RESOURCE_EXHAUSTED,
      details: "später, 100 %",
    });
    expect(status.metadata.get("cairn-code")).toEqual(["BUSY"]);
  });

  test("may be unary at the client", async () => {
    const { client } = await proxied((call) => {
      call.on("data", (bytes: Buffer) => call.write(Buffer.from(`echo ${bytes}`)));
      call.on("end", () => call.end());
    });
    const answer = await new Promise<Buffer>((resolve, reject) => {
      client.makeUnaryRequest(PATH, asItIs, asItIs, Buffer.from("one"), (error, bytes) =>
        error === null ? resolve(bytes!) : reject(error),
      );
    });
    expect(`${answer}`).toBe("echo one");
  });

  test("is cancelled at the node when its client cancels it, and has its deadline there", async () => {
    const cancelled = deferred();
    const arrived = deferred<number>();
    const { stream } = await proxied((call) => {
      call.on("cancelled", () => cancelled.resolve());
      arrived.resolve(Number(call.getDeadline()));
    });
    const deadline = Date.now() + 50_000;
    const call = stream(undefined, { deadline });
    const end = ended(call);
    expect(Math.abs((await arrived.promise) - deadline)).toBeLessThan(5_000);
    call.cancel();
    await cancelled.promise;
    expect((await end).status.code).toBe(grpc.status.CANCELLED);
  });

  test("ends with UNAVAILABLE when the node cannot be reached, or goes away", async () => {
    const arrived = deferred();
    const { node, stream } = await proxied(() => arrived.resolve());
    const broken = ended(stream());
    await arrived.promise;
    node.forceShutdown();
    expect([grpc.status.UNAVAILABLE, grpc.status.CANCELLED]).toContain((await broken).status.code);
    expect((await ended(stream())).status.code).toBe(grpc.status.UNAVAILABLE);
  });

  test("holds the node back while its client does not read", async () => {
    const value = new Uint8Array(64 * 1024);
    let written = 0;
    const node = new grpc.Server(serverOptions);
    addService(node, KeyValueService, {
      async *range() {
        for (;;) {
          written += value.byteLength;
          yield { kvs: [{ value }] };
        }
      },
    });
    const { front } = await proxyTo(node, methodPath(KeyValueService.method.range));
    const channel = openChannel(front);
    onTestFinished(() => channel.close());
    const answers = channel.client(KeyValueService).range({})[Symbol.asyncIterator]();
    await answers.next();
    const first = await settled(() => written);
    // The windows of two connections, and the buffers at their four ends.
    expect(first).toBeLessThan(2 * limits.serverWindowBytes + 16 * limits.streamBufferBytes);
    await during(
      until(() => written > first, "the node writes on"),
      () => answers.next(),
    );
    await answers.return?.();
  });

  test("holds the client back while the node does not read", async () => {
    const { stream } = await proxied((call) => call.pause());
    const part = Buffer.alloc(64 * 1024);
    const call = stream();
    call.on("error", () => {});
    let sent = 0;
    const writeNext = () => {
      call.write(part, (error?: Error | null) => {
        if (error !== undefined && error !== null) return;
        sent += part.byteLength;
        writeNext();
      });
    };
    writeNext();
    expect(await settled(() => sent)).toBeLessThan(8 * 1024 * 1024 + 4 * limits.streamBufferBytes);
    call.cancel();
  });
});
