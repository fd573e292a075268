import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { openChannel } from "../../src/rpc/client.js";
import { awakeMs, failure, until } from "../support/conditions.js";
import { startProcess } from "../support/processes/processes.js";

const TIMEOUT_MS = 200;

/** A client with a time limit on connecting; asks until it is told why there is no connection. */
async function failureToConnect(address: string): Promise<string> {
  const channel = openChannel(address, { connectTimeoutMs: TIMEOUT_MS });
  const call = channel.client(AdminService).getStatus({});
  const error = failure(
    "UNREACHABLE",
    call.finally(() => channel.close()),
  );
  expect(await awakeMs(error)).toBeLessThan(TIMEOUT_MS + 2_000);
  const { text } = await error;
  return text;
}

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((kind) => /^(TCPSocketWrap|TCPConnectWrap)$/.test(kind)).length;
}

test("a connection attempt to a server that accepts and says nothing is given up", async () => {
  const taken: Socket[] = [];
  const server = createServer((socket) => void taken.push(socket.resume()));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of taken) socket.destroy();
    server.close();
  });
  const text = await failureToConnect(`127.0.0.1:${(server.address() as AddressInfo).port}`);
  expect(text).toContain(`connected, but no answer in ${TIMEOUT_MS} ms`);
  await until(() => taken.every((socket) => socket.readableEnded || socket.destroyed), "nothing is left of it");
});

test("a connection attempt to a server whose system accepts no more is given up, and leaves nothing behind", async () => {
  const before = openSockets();
  const listening = 'require("net").createServer().listen({port: 0, host: "127.0.0.1", backlog: 1}, function () {';
  const server = startProcess(process.execPath, ["-e", `${listening} console.log(this.address().port) })`]);
  const port = Number(await server.nextLine());
  process.kill(server.pid, "SIGSTOP");
  // What a stopped process does not take waits in its system, which drops what is too much.
  const waiting = Array.from({ length: 8 }, () => connect({ host: "127.0.0.1", port }));
  for (const socket of waiting) socket.on("error", () => {});
  onTestFinished(() => {
    for (const socket of waiting) socket.destroy();
  });
  await until(() => waiting.filter((socket) => !socket.connecting).length >= 2, "its queue is full");
  expect(await failureToConnect(`127.0.0.1:${port}`)).toContain(`no connection to 127.0.0.1:${port} in`);
  for (const socket of waiting) socket.destroy();
  await server.kill();
  await until(() => openSockets() <= before, "no socket is left");
});
