import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { until } from "../conditions.js";
import { TcpProxy } from "./tcp_proxy.js";

/** A server that sends back what it gets, a proxy before it, and clients of the proxy. */
async function echo() {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: false }, (socket) => {
    sockets.push(socket.on("error", () => {}));
    socket.pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy = await TcpProxy.start(() => `127.0.0.1:${(server.address() as AddressInfo).port}`);
  onTestFinished(async () => {
    await proxy.stop();
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { proxy, client: () => client(proxy) };
}

function client(proxy: TcpProxy) {
  const [host, port] = proxy.address.split(":");
  const socket = connect(Number(port), host);
  const state = { socket, received: 0, closed: false };
  socket.on("data", (bytes) => {
    state.received += bytes.byteLength;
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    state.closed = true;
  });
  onTestFinished(() => void socket.destroy());
  return state;
}

test("the proxy passes bytes both ways, and counts them", async () => {
  const { proxy, client } = await echo();
  const one = client();
  one.socket.write(Buffer.alloc(1_000_000, 1));
  await until(() => one.received === 1_000_000, "all has come back");
  expect([proxy.forwardedBytes, proxy.returnedBytes]).toEqual([1_000_000, 1_000_000]);
});

test("the proxy passes the end of one side to the other", async () => {
  const { proxy, client } = await echo();
  const one = client();
  await until(() => proxy.connections === 1, "it is connected");
  one.socket.end();
  await until(() => one.closed && proxy.connections === 0, "it has ended");
});

test("a cut proxy ends its connections, and passes nothing new until it is healed", async () => {
  const { proxy, client } = await echo();
  const one = client();
  await until(() => proxy.connections === 1, "it is connected");
  proxy.set({ cut: true });
  await until(() => one.closed, "it is cut");
  const two = client();
  await until(() => two.closed, "a new one is refused");
  proxy.set({});
  const three = client();
  three.socket.write("x");
  await until(() => three.received === 1, "it is healed");
});

test("a silent proxy passes nothing and ends nothing, and delivers the queued bytes when it is healed", async () => {
  const { proxy, client } = await echo();
  const one = client();
  one.socket.write("a");
  await until(() => one.received === 1, "it works");
  proxy.set({ silent: true });
  one.socket.write("b");
  const other = client();
  await until(() => proxy.connections === 2, "a new one connects, and hears nothing");
  other.socket.write("c");
  expect([one.received, one.closed, other.received]).toEqual([1, false, 0]);
  proxy.set({});
  await until(() => one.received === 2 && other.received === 1, "both are answered");
});

test("a delayed and throttled proxy passes no byte sooner, and makes a slow reader's sender wait", async () => {
  const { proxy, client } = await echo();
  proxy.set({ delayMs: 40 });
  const one = client();
  const begun = performance.now();
  one.socket.write("x");
  await until(() => one.received === 1, "it has come back");
  expect(performance.now() - begun).toBeGreaterThanOrEqual(80);
  proxy.set({ bytesPerSecond: 50_000_000 });
  const data = Buffer.alloc(8 * 1024 * 1024);
  one.socket.write(data);
  await until(() => proxy.forwardedBytes > 0 && one.socket.writableLength > 0, "the sender waits");
  await until(() => one.received === data.byteLength + 1, "all has come back");
});
