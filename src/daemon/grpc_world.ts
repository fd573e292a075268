import { setTimeout as sleep } from "node:timers/promises";
import type { StateMachine } from "../machine/state_machine.js";
import { CairnNode } from "../node/node.js";
import type { NodeOptions } from "../node/options.js";
import type { MemberCredentials } from "../rpc/security/member_credentials.js";
import type { NodeTls } from "../rpc/security/node_tls.js";
import type { AccessControl } from "../server/access/access_control.js";
import type { MachineServices } from "../server/machine_services.js";
import { CairnServer, type ServerOptions } from "../server/server.js";
import { nodeFileSystem } from "../system/fs.js";
import { silentLogger } from "../system/logger.js";
import { Contacts } from "./contacts.js";
import { refusalLog } from "./peer_log.js";
import type { MemberNode, World } from "./world.js";

/** Options of a member's node; its identity comes from its directory. */
export type MemberNodeOptions<Result, Machine extends StateMachine<Result>> = Omit<
  NodeOptions<Result, Machine>,
  "clusterId" | "newClusterId" | "members" | "onLost" | "fs" | "clock"
>;

/** Options of a member's server. */
export interface MemberServerOptions extends Pick<ServerOptions, "limits"> {
  readonly security: NodeTls | undefined;
  readonly members: MemberCredentials | undefined;
  readonly accessControl: AccessControl | undefined;
  readonly insecure: boolean | undefined;
  readonly ingressSocket: string | undefined;
}

/** Creates the services of a node's state machine, which connect to leaders with `members`. */
export type ServicesOf<Node> = (node: Node, members: MemberCredentials | undefined) => MachineServices;

/** The world of a member that serves gRPC. */
export interface GrpcWorld<Node extends MemberNode> extends World<Node> {
  /** The server of the present node; undefined before the first one. */
  readonly server: CairnServer | undefined;
}

/** Returns the world of a member that serves gRPC. */
export function grpcWorld<Result, Machine extends StateMachine<Result>>(
  options: MemberNodeOptions<Result, Machine>,
  servicesOf: ServicesOf<CairnNode<Result, Machine>>,
  serverOptions: MemberServerOptions,
): GrpcWorld<CairnNode<Result, Machine>> {
  const { peerAddresses, logger = silentLogger } = options;
  const { members } = serverOptions;
  const contacts = new Contacts(members, refusalLog(logger));
  let server: CairnServer | undefined;
  return {
    fs: nodeFileSystem,
    startNode: (onLost) => CairnNode.start({ ...options, onLost }),
    get server() {
      return server;
    },
    async serve(node, listen, introducer) {
      server = await CairnServer.start(node, {
        ...serverOptions,
        ...{ listen, peerAddresses, logger, introducer },
        machineServices: servicesOf(node, members),
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
