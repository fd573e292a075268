import * as grpc from "@grpc/grpc-js";
import { onTestFinished } from "vitest";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { serverOptions } from "../../../src/rpc/grpc_options.js";
import { addService, type ServiceImplementation } from "../../../src/rpc/server.js";
import { ActingLeader } from "./acting_leader.js";
import { listen } from "./loopback.js";
import { memoryHome } from "./nodes.js";
import { serveNode } from "./served_node.js";

/** A node n1 that follows a leader n7 at this address. */
export async function follower(leaderAddress: string, home = memoryHome()) {
  const members = [
    { id: "n1", address: "127.0.0.1:1", role: "voter" as const },
    { id: "n7", address: leaderAddress, role: "voter" as const },
  ];
  const node = await home.start({ members });
  await new ActingLeader(node, 3, "n7").append([]);
  return { home, node, ...(await serveNode(node)) };
}

/** A server that plays the leader. */
export async function fakeLeader(implementation: ServiceImplementation<typeof KeyValueService>) {
  const server = new grpc.Server(serverOptions);
  addService(server, KeyValueService, implementation);
  const address = await listen(server, "127.0.0.1:0");
  onTestFinished(() => server.forceShutdown());
  return { server, address };
}
