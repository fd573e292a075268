// A stream of chunks over grpc-js to another process, which throws them away or writes them to a file, and nothing else.
import { fork } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { channelOptions, serverOptions } from "../../dist/src/rpc/grpc_options.js";
import { writeBare } from "./bare_write.mjs";

const CHUNK_BYTES = 256 * 1024;
const asIs = (bytes) => bytes;
const method = {
  path: "/bench.Bare/Send",
  requestStream: true,
  responseStream: false,
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
};

/** Returns how many seconds `bytes` bytes take. `path`: the file that they are written to, durably at the end. */
export async function bareStream(bytes, path) {
  const child = fork(fileURLToPath(import.meta.url), path === undefined ? ["receiver"] : ["receiver", path]);
  const [port] = await once(child, "message");
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), channelOptions);
  const chunk = Buffer.alloc(CHUNK_BYTES, 7);
  try {
    const started = performance.now();
    await new Promise((resolve, reject) => {
      const call = client.makeClientStreamRequest(method.path, asIs, asIs, (error) =>
        error ? reject(error) : resolve(),
      );
      let left = bytes;
      const send = () => {
        while (left > 0) {
          left -= CHUNK_BYTES;
          if (!call.write(chunk)) return call.once("drain", send);
        }
        call.end();
      };
      send();
    });
    return (performance.now() - started) / 1_000;
  } finally {
    client.close();
    child.disconnect();
    // Its removal is not measured.
    if (path !== undefined) await rm(path, { force: true });
  }
}

if (process.argv[2] === "receiver" && process.send !== undefined) {
  const server = new grpc.Server(serverOptions);
  server.addService(
    { send: method },
    {
      send: (call, answer) => {
        receive(call, process.argv[3]).then(
          () => answer(null, Buffer.alloc(1)),
          (error) => answer(error),
        );
      },
    },
  );
  const credentials = grpc.ServerCredentials.createInsecure();
  server.bindAsync("127.0.0.1:0", credentials, (error, port) => {
    if (error) throw error;
    process.send(port);
  });
  process.on("disconnect", () => process.exit());
}

async function receive(call, path) {
  if (path === undefined) for await (const _ of call);
  else await writeBare(path, call);
}
