import { connect, type OutgoingHttpHeaders } from "node:http2";
import * as grpc from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { addService } from "../../src/rpc/server.js";
import { Health } from "../../src/server/discovery/health.js";
import { addReflection } from "../../src/server/discovery/reflection.js";
import { loopback } from "../support/nodes/loopback.js";

// What grpc-js itself refuses, before or behind a handler of Cairn.

const CHECK = "/grpc.health.v1.Health/Check";

async function server(): Promise<string> {
  const { address } = await loopback((server) => {
    addService(server, KeyValueService, { put: async () => ({}) });
    new Health([""]).addToServer(server);
  });
  return address;
}

/** Calls a method with these bytes in one frame; returns status and message. */
function call(address: string, path: string, message: Uint8Array, headers: OutgoingHttpHeaders = {}, flag = 0) {
  const session = connect(`http://${address}`);
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", ...headers });
  stream.resume();
  const frame = Buffer.alloc(5 + message.byteLength);
  frame[0] = flag;
  frame.writeUInt32BE(message.byteLength, 1);
  frame.set(message, 5);
  stream.end(frame);
  return new Promise<{ status: string | undefined; text: string; code: unknown }>((resolve) => {
    let all: Record<string, unknown> = {};
    const take = (received: object) => {
      all = { ...all, ...received };
    };
    stream.on("response", take).on("trailers", take);
    stream.once("close", () => {
      session.close();
      const text = decodeURIComponent(String(all["grpc-message"]));
      resolve({ status: grpc.status[Number(all["grpc-status"])], text, code: all["cairn-code"] });
    });
  });
}

test.each([
  ["a message that is none of its type", CHECK, Buffer.from([0x0f]), {}, 0],
  ["a deadline that is none", "/cairn.v1.KeyValueService/Put", Buffer.alloc(0), { "grpc-timeout": "soon" }, 0],
  ["compressed bytes that are none", "/cairn.v1.KeyValueService/Put", Buffer.from("x"), { "grpc-encoding": "gzip" }, 1],
])("%s is the caller's mistake, and no bug of the server", async (_what, path, message, headers, flag) => {
  const found = await call(await server(), path, message, headers, flag);
  expect(found).toMatchObject({ status: "INVALID_ARGUMENT", code: "INVALID_ARGUMENT" });
});

test("a stream with a malformed message ends, although its handler answers an earlier one right then", async () => {
  const { address } = await loopback((server) => addReflection(server, [KeyValueService]));
  const session = connect(`http://${address}`);
  const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc" });
  stream.resume();
  const ended = new Promise<Record<string, unknown>>((resolve) => stream.once("trailers", resolve));
  const listServices = Buffer.from([0, 0, 0, 0, 2, 0x3a, 0]);
  const malformed = Buffer.from([0, 0, 0, 0, 1, 0x0f]);
  stream.end(Buffer.concat([listServices, listServices, malformed, listServices]));
  expect(await ended).toMatchObject({ "cairn-code": "INVALID_ARGUMENT" });
  session.close();
});
