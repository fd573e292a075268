import * as grpc from "@grpc/grpc-js";
import { onTestFinished } from "vitest";
import { openChannel, type SharedChannel } from "../../../src/rpc/client.js";
import { serverOptions } from "../../../src/rpc/grpc_options.js";
import { widenWindows } from "../../../src/rpc/server_windows.js";

export { deferred } from "../conditions.js";

/** A server on a free port of the loopback interface, and a channel to it. */
export interface Loopback {
  readonly server: grpc.Server;
  readonly address: string;
  readonly channel: SharedChannel;
}

/** Starts a server. When the test ends, the channel is closed and the server must come to its end by itself: no call may be left. */
export async function loopback(addServices: (server: grpc.Server) => void): Promise<Loopback> {
  const server = new grpc.Server(serverOptions);
  widenWindows(server);
  addServices(server);
  const address = await listen(server, "127.0.0.1:0");
  const channel = openChannel(address);
  onTestFinished(async () => {
    channel.close();
    await shutDown(server);
  });
  return { server, address, channel };
}

export async function listen(server: grpc.Server, address: string): Promise<string> {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return `127.0.0.1:${port}`;
}

/** Ends when all calls and connections have ended. */
export function shutDown(server: grpc.Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.tryShutdown((error) => (error === undefined ? resolve() : reject(error)));
  });
}

/** All that an iterable yields. */
export async function collect<Value>(values: AsyncIterable<Value>): Promise<Value[]> {
  const all: Value[] = [];
  for await (const value of values) all.push(value);
  return all;
}

/** Resolves when `count()` has not changed over many turns of the event loop, each of which lets sockets be read and written. */
export async function settled(count: () => number, turns = 200): Promise<number> {
  let last = count();
  for (let same = 0; same < turns; same++) {
    await new Promise((resolve) => setImmediate(resolve));
    if (count() === last) continue;
    last = count();
    same = 0;
  }
  return last;
}

export function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}
