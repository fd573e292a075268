import { once } from "node:events";
import { connect } from "node:http2";
import * as grpc from "@grpc/grpc-js";
import { expect, onTestFinished, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { serverOptions } from "../../src/rpc/grpc_options.js";
import { widenWindows } from "../../src/rpc/server_windows.js";
import { until } from "../support/conditions.js";

test("the server gives a client a wide window on each stream and on the connection", async () => {
  const server = new grpc.Server(serverOptions);
  onTestFinished(() => server.forceShutdown());
  expect(widenWindows(server)).toBe(true);
  const port = await new Promise<number>((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const session = connect(`http://127.0.0.1:${port}`);
  onTestFinished(() => session.destroy());
  const [settings] = await once(session, "remoteSettings");
  expect(settings.initialWindowSize).toBe(limits.serverWindowBytes);
  expect(settings.maxConcurrentStreams).toBe(limits.streamsPerConnection);
  await until(() => session.state.remoteWindowSize === limits.serverWindowBytes, "the connection's window is wide");
});

test("a server with unfamiliar internals keeps its windows", () => {
  expect(widenWindows({} as grpc.Server)).toBe(false);
});
