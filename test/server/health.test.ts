import * as grpc from "@grpc/grpc-js";
import { expect, onTestFinished, test } from "vitest";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { openChannel } from "../../src/rpc/client.js";
import { Health, healthService } from "../../src/server/discovery/health.js";
import { CairnServer } from "../../src/server/server.js";
import { deferred, loopback } from "../support/nodes/loopback.js";
import { memoryHome } from "../support/nodes/nodes.js";

type Answer = { status: string };
const KV = "cairn.v1.KeyValueService";

async function healthClient(health: Health): Promise<grpc.Client & Record<string, CallableFunction>> {
  const { address } = await loopback((server) => health.addToServer(server));
  const Client = grpc.makeClientConstructor(healthService(), "Health");
  const client = new Client(address, grpc.credentials.createInsecure());
  onTestFinished(() => client.close());
  return client as unknown as grpc.Client & Record<string, CallableFunction>;
}

test("the health service's Check returns the state that was set, for the server and for each service", async () => {
  const health = new Health(["", KV]);
  const client = await healthClient(health);
  const check = (service: string) =>
    new Promise((resolve) => {
      client.check!({ service }, (error: grpc.ServiceError | null, answer: Answer) =>
        resolve(error === null ? answer.status : grpc.status[error.code]),
      );
    });
  expect(await check("")).toBe("NOT_SERVING");
  health.setServing("", true);
  expect(await check("")).toBe("SERVING");
  expect(await check(KV)).toBe("NOT_SERVING");
  health.setServing(KV, true);
  health.setServing("", false);
  expect(await check(KV)).toBe("SERVING");
  expect(await check("")).toBe("NOT_SERVING");
  expect(await check("cairn.v1.Unknown")).toBe("NOT_FOUND");
});

test("a node that was asked for its health and its services answers reads", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  const server = await CairnServer.start(node, { listen: "127.0.0.1:0" });
  const Client = grpc.makeClientConstructor(healthService(), "Health");
  const health = new Client(server.address, grpc.credentials.createInsecure()) as unknown as grpc.Client &
    Record<string, CallableFunction>;
  const channel = openChannel(server.address);
  onTestFinished(async () => {
    health.close();
    channel.close();
    await server.stop();
  });
  const kv = channel.client(KeyValueService);
  await new Promise((resolve) => health.check!({ service: "" }, resolve));
  await kv.put({ key: Buffer.from("k"), value: Buffer.from("v") });
  const { kv: found } = await kv.get({ key: Buffer.from("k") }, { timeoutMs: 20_000 });
  expect(Buffer.from(found!.value).toString()).toBe("v");
});

test("the health service's Watch reports a change", async () => {
  const health = new Health([KV]);
  const client = await healthClient(health);
  const watch = client.watch!({ service: KV }) as grpc.ClientReadableStream<Answer>;
  const seen: string[] = [];
  const first = deferred();
  const second = deferred();
  const ended = deferred();
  watch.on("data", ({ status }: Answer) => {
    seen.push(status);
    (seen.length === 1 ? first : second).resolve();
  });
  watch.on("error", () => ended.resolve());
  await first.promise;
  health.setServing(KV, true);
  await second.promise;
  expect(seen).toEqual(["NOT_SERVING", "SERVING"]);
  watch.cancel();
  await ended.promise;
});
