import { setTimeout as sleep } from "node:timers/promises";
import type { StateMachine } from "../machine/state_machine.js";
import { CairnNode } from "../node/node.js";
import type { NodeOptions } from "../node/options.js";
import type { MachineServices } from "../server/machine_services.js";
import { CairnServer, type ServerOptions } from "../server/server.js";
import { nodeFileSystem } from "../system/fs.js";
import { Contacts } from "./contacts.js";
import type { MemberNode, World } from "./world.js";

/** Options of a member's node; its identity comes from its directory. */
export type MemberNodeOptions<Result, Machine extends StateMachine<Result>> = Omit<
  NodeOptions<Result, Machine>,
  "clusterId" | "newClusterId" | "members" | "onLost" | "fs" | "clock"
>;

/** The world of a member that serves gRPC. */
export interface GrpcWorld<Node extends MemberNode> extends World<Node> {
  /** The server of the present node; undefined before the first one. */
  readonly server: CairnServer | undefined;
}

/**
 * Returns the world of a member that serves gRPC. `servicesOf` creates the services of a node's
 * state machine.
 */
export function grpcWorld<Result, Machine extends StateMachine<Result>>(
  options: MemberNodeOptions<Result, Machine>,
  servicesOf: (node: CairnNode<Result, Machine>) => MachineServices,
  limits?: ServerOptions["limits"],
): GrpcWorld<CairnNode<Result, Machine>> {
  const contacts = new Contacts();
  const { peerAddresses, logger } = options;
  let server: CairnServer | undefined;
  return {
    fs: nodeFileSystem,
    startNode: (onLost) => CairnNode.start({ ...options, onLost }),
    get server() {
      return server;
    },
    async serve(node, listen, introducer) {
      server = await CairnServer.start(node, {
        ...{ listen, peerAddresses, logger, introducer, limits },
        machineServices: servicesOf(node),
      });
      return server;
    },
    ask: (contact, asked) => contacts.ask(contact, asked),
    join: (leader, joiner) => contacts.join(leader, joiner),
    pause: async (ms, signal) => {
      await sleep(ms, undefined, { signal }).catch(() => {});
    },
    now: () => performance.now(),
    close: () => contacts.close(),
  };
}
