import { setTimeout as sleep } from "node:timers/promises";
import type { CommandResult } from "../../gen/cairn/v1/storage_pb.js";
import type { KeyValueMachine } from "../machine/key_value_machine.js";
import { CairnNode } from "../node/node.js";
import type { NodeOptions } from "../node/options.js";
import type { KeyValueNode } from "../server/key_value_node.js";
import { CairnServer } from "../server/server.js";
import { nodeFileSystem } from "../storage/fs.js";
import { Contacts } from "./contacts.js";
import type { World } from "./world.js";

/** How to run the node of a member; whose it is comes from its directory. */
export type MemberNodeOptions = Omit<
  NodeOptions<CommandResult, KeyValueMachine>,
  "clusterId" | "newClusterId" | "members" | "onLost" | "fs" | "clock"
>;

/** The world of a member that serves gRPC. */
export function grpcWorld(options: MemberNodeOptions): World<KeyValueNode> {
  const contacts = new Contacts();
  const { peerAddresses, logger } = options;
  return {
    fs: nodeFileSystem,
    startNode: (onLost) => CairnNode.start({ ...options, onLost }),
    serve: (node, listen, introducer) => CairnServer.start(node, { listen, peerAddresses, logger, introducer }),
    ask: (contact, asked) => contacts.ask(contact, asked),
    join: (leader, joiner) => contacts.join(leader, joiner),
    pause: async (ms, signal) => {
      await sleep(ms, undefined, { signal }).catch(() => {});
    },
    now: () => performance.now(),
    close: () => contacts.close(),
  };
}
