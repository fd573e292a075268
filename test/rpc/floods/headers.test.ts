import type * as grpc from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { FloodGuard } from "../../../src/rpc/floods/flood_guard.js";
import { guardServer } from "../../../src/rpc/floods/guard_server.js";
import { until } from "../../support/conditions.js";
import { call, GET, greeting, guarded, openSession, openSocket } from "./support.js";

test.each([
  ["headerBytes", Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`x-${at}`, "v".repeat(1_000)]))],
  ["headerPairs", Object.fromEntries(Array.from({ length: 70 }, (_, at) => [`x-${at}`, "v"]))],
])("a call with more than %s is reset, and its connection stays open", async (_name, headers) => {
  const { address } = await guarded({});
  const session = await openSession(address);
  expect(await call(session, GET, undefined, { headers }).end).toMatchObject({ status: undefined, reset: 11 });
  expect(await call(session, GET, undefined, { headers: { "x-1": "v".repeat(8_000) } }).end).toMatchObject({
    status: 0,
  });
});

test("a connection with a call whose headers are far too large is closed at once, with all that came behind it", async () => {
  const { address } = await guarded({ headerBytes: 1_000 });
  const session = await openSession(address);
  const headers = { "x-1": "v".repeat(9_000) };
  const calls = Array.from({ length: 5 }, () => call(session, GET, undefined, { headers }));
  await until(() => session.destroyed, "it is closed");
  for (const each of calls) expect(await each.end).toMatchObject({ status: undefined });
});

test("a client that does not acknowledge the limit cannot send as many headers as it likes", async () => {
  const { address } = await guarded({ headerBytes: 1_000 });
  // Each block: :method POST, :scheme http, :authority, :path, and 40 values of 100 bytes.
  const field = Buffer.concat([Buffer.from([0, 1]), Buffer.from("x"), Buffer.from([100]), Buffer.alloc(100, "v")]);
  const path = Buffer.concat([Buffer.from([1, 1]), Buffer.from("h"), Buffer.from([4, GET.length]), Buffer.from(GET)]);
  const block = Buffer.concat([Buffer.from([0x83, 0x86]), path, ...Array.from({ length: 40 }, () => field)]);
  const blocks = Array.from({ length: 8 }, (_, at) => {
    const head = Buffer.from([0, 0, 0, 1, 4, 0, 0, 0, 2 * at + 1]);
    head.writeUIntBE(block.byteLength, 0, 3);
    return Buffer.concat([head, block]);
  });
  const { isClosed } = openSocket(address, Buffer.concat([greeting, ...blocks]));
  await until(isClosed, "the connection is closed");
});

test("a server with unfamiliar internals is left as it is", () => {
  expect(guardServer({} as grpc.Server, new FloodGuard())).toBe(false);
});

test("a limit that does not exist, or is no number, is refused", () => {
  expect(() => new FloodGuard({ limits: { connection: 1 } as object })).toThrow(
    /limits must be an object with some of/,
  );
  expect(() => new FloodGuard({ limits: { connections: 0 } })).toThrow(/limits.connections must be/);
});
