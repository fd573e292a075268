// What the limits against floods cost a call: CPU time of a unary call with a request and an answer of 256 bytes, client and server in this
// process, 128 callers, with the guard and without it in turns.
//
//   npm run build && node bench/guard.mjs [CALLS] [ROUNDS]
import * as grpc from "@grpc/grpc-js";
import { KeyValueService } from "../dist/gen/cairn/v1/kv_pb.js";
import { openChannel } from "../dist/src/rpc/client.js";
import { FloodGuard } from "../dist/src/rpc/floods/flood_guard.js";
import { guardServer } from "../dist/src/rpc/floods/guard_server.js";
import { serverOptions } from "../dist/src/rpc/grpc_options.js";
import { addService } from "../dist/src/rpc/server.js";
import { widenWindows } from "../dist/src/rpc/server_windows.js";

const CALLERS = 128;
const value = Buffer.alloc(256, "v");
const key = Buffer.from("key");

const calls = Number(process.argv[2] ?? 10_000);
const rounds = Number(process.argv[3] ?? 5);

async function start(isGuarded) {
  const server = new grpc.Server(serverOptions);
  widenWindows(server);
  if (isGuarded && !guardServer(server, new FloodGuard())) throw new Error("grpc-js is built differently");
  addService(server, KeyValueService, { put: async () => ({ version: 1n }) });
  const port = await new Promise((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const channel = openChannel(`127.0.0.1:${port}`);
  return { server, channel, kv: channel.client(KeyValueService), micros: [] };
}

async function run({ kv }) {
  let left = calls;
  const caller = async () => {
    while (left-- > 0) await kv.put({ key, value });
  };
  const cpu = process.cpuUsage();
  await Promise.all(Array.from({ length: CALLERS }, caller));
  const { user, system } = process.cpuUsage(cpu);
  return (user + system) / calls;
}

const [bare, guarded] = [await start(false), await start(true)];
for (const each of [bare, guarded]) await run(each);
for (let round = 0; round < rounds; round++) {
  for (const each of round % 2 === 0 ? [bare, guarded] : [guarded, bare]) each.micros.push(await run(each));
}
const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
for (const [name, { micros }] of Object.entries({ bare, guarded })) {
  console.log(
    `${name}: ${median(micros).toFixed(1)} us of CPU time a call (${micros.map((each) => each.toFixed(0)).join(", ")})`,
  );
}
for (const { server, channel } of [bare, guarded]) {
  channel.close();
  server.forceShutdown();
}
process.exit();
