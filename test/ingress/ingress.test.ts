import { connect } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { limitRefusals } from "../../src/base/telemetry/refusals.js";
import { Ingress } from "../../src/ingress/ingress.js";
import { openChannel } from "../../src/rpc/client.js";
import { failure, isSettled, until } from "../support/conditions.js";
import { bytes, text } from "../support/nodes/acting_leader.js";
import { serve } from "../support/nodes/served_node.js";

async function openIngress() {
  const ingress = await Ingress.open({ processes: 2, listen: "127.0.0.1:0" });
  onTestFinished(() => ingress.stop());
  return ingress;
}

describe("the ingress of a node", () => {
  test("lets connections wait until its processes serve", async () => {
    const { server, kv: direct } = await serve({ lead: true });
    const ingress = await openIngress();
    const channel = openChannel(ingress.address);
    onTestFinished(() => channel.close());
    const kv = channel.client(KeyValueService);
    const early = kv.put({ key: bytes("k"), value: bytes("1") });
    expect(await isSettled(early)).toBe(false);
    await ingress.serve(server.address);
    expect(await early).toMatchObject({ header: { nodeId: "n1" } });
    expect(text((await direct.get({ key: bytes("k") })).kv?.value)).toBe("1");
  });

  test("counts its connections, and what limits refuse in its processes", async () => {
    const { server } = await serve({ lead: true });
    const ingress = await Ingress.open({ processes: 1, listen: "127.0.0.1:0", limits: { connectionsPerAddress: 1 } });
    onTestFinished(() => ingress.stop());
    await ingress.serve(server.address);
    const before = limitRefusals.get("connectionsPerAddress");
    const [first, second] = [openChannel(ingress.address), openChannel(ingress.address)];
    onTestFinished(() => [first, second].forEach((channel) => void channel.close()));
    await first.client(KeyValueService).put({ key: bytes("k"), value: bytes("1") });
    expect(ingress.connections).toBe(1);
    await failure("BUSY", second.client(KeyValueService).get({ key: bytes("k") }), "connectionsPerAddress is 1");
    await until(() => limitRefusals.get("connectionsPerAddress") > before, "the process tells of it");
  });

  test("accepts nothing after it has stopped, and closes what waits", async () => {
    const ingress = await openIngress();
    const [host, port] = ingress.address.split(":");
    const waiting = connect({ host: host!, port: Number(port) });
    const closed = new Promise((resolve) => waiting.once("close", resolve));
    await new Promise((resolve) => waiting.once("connect", resolve));
    await ingress.stop();
    await closed;
    const late = connect({ host: host!, port: Number(port) });
    const error = await new Promise<NodeJS.ErrnoException>((resolve) => late.once("error", resolve));
    expect(error.code).toBe("ECONNREFUSED");
  });

  test.each(["nowhere", "127.0.0.1", "127.0.0.1:99999", ":1"])("is refused at %j", async (listen) => {
    await failure("INVALID_ARGUMENT", Ingress.open({ processes: 1, listen }), "must be host:port");
  });

  test("is refused at an address that is taken", async () => {
    const { address } = await openIngress();
    await failure("INVALID_ARGUMENT", Ingress.open({ processes: 1, listen: address }), "the address is in use");
  });
});
