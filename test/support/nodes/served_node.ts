import { onTestFinished } from "vitest";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../../gen/cairn/v1/raft_pb.js";
import { openChannel } from "../../../src/rpc/client.js";
import type { KeyValueNode } from "../../../src/server/kv/key_value_node.js";
import { CairnServer } from "../../../src/server/server.js";
import { CLUSTER, type MemoryHome, memoryHome, type NodeSettings } from "./nodes.js";

/** A node that is served on the loopback interface, and clients of its services. */
export async function serve(settings: NodeSettings & { lead?: boolean } = {}, home: MemoryHome = memoryHome()) {
  const { lead = false, ...nodeSettings } = settings;
  const node = await (lead ? home.startLeader(nodeSettings) : home.start(nodeSettings));
  return { home, node, ...(await serveNode(node)) };
}

export async function serveNode(
  node: KeyValueNode,
  listen = "127.0.0.1:0",
  peerAddresses: Readonly<Record<string, string>> = {},
) {
  const server = await CairnServer.start(node, { listen, discoverable: false, peerAddresses });
  const channel = openChannel(server.address);
  onTestFinished(async () => {
    channel.close();
    await server.stop();
  });
  return {
    server,
    channel,
    raft: channel.client(RaftService),
    kv: channel.client(KeyValueService),
    admin: channel.client(AdminService),
  };
}

export function headerTo(node: KeyValueNode, change: object = {}) {
  return { protocolVersion: 2, clusterId: CLUSTER, senderId: "n9", receiverId: node.id, ...change };
}

/** All that an iterable yields. */
export async function collect<Value>(values: AsyncIterable<Value>): Promise<Value[]> {
  const all: Value[] = [];
  for await (const value of values) all.push(value);
  return all;
}
