import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { onTestFinished } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { IngressServer } from "../../src/ingress/ingress_server.js";
import { openChannel } from "../../src/rpc/client.js";

/** The server of an ingress process, in this process, and clients of it. */
export async function ingressTo(node: string) {
  const server = new IngressServer(node);
  const listener = createServer((connection) => server.take(connection));
  await once(listener.listen(0, "127.0.0.1"), "listening");
  const address = `127.0.0.1:${(listener.address() as AddressInfo).port}`;
  const channel = openChannel(address);
  onTestFinished(async () => {
    channel.close();
    listener.close();
    await server.stop();
  });
  return { server, address, channel, kv: channel.client(KeyValueService), admin: channel.client(AdminService) };
}
