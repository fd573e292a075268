import { MachineService } from "../../../gen/cairn/v1/machine_pb.js";
import { limits } from "../../base/limits.js";
import type { StateMachine } from "../../machine/state_machine.js";
import type { CairnNode } from "../../node/node.js";
import type { MemberCredentials } from "../../rpc/security/member_credentials.js";
import { addService, type ServiceImplementation } from "../../rpc/server.js";
import { Forwarding } from "../forwarding.js";
import type { MachineServices } from "../machine_services.js";
import { encodedResult, type ResultCodec } from "./own_machine.js";

/**
 * Returns the services of a node whose state machine is an application's own. With TLS between
 * members, give the node's {@link NodeTls}: a follower passes calls on to the leader.
 */
export function ownMachineServices<Result, Machine extends StateMachine<Result>>(
  node: CairnNode<Result, Machine>,
  codec: ResultCodec<Result>,
  members?: MemberCredentials | undefined,
): MachineServices {
  const forwarding = new Forwarding(node, MachineService, { members });
  return {
    services: [MachineService],
    addTo: (server, options) => addService(server, MachineService, machineService(node, codec, forwarding), options),
    async advance(leader, signal) {
      if (leader === undefined) await node.barrier(signal);
      else await leader.client(MachineService).barrier({}, { signal, timeoutMs: limits.verifyIdleMs });
    },
    stop: () => {},
    close: () => forwarding.close(),
  };
}

function machineService<Result, Machine extends StateMachine<Result>>(
  node: CairnNode<Result, Machine>,
  codec: ResultCodec<Result>,
  forwarding: Forwarding<typeof MachineService>,
): ServiceImplementation<typeof MachineService> {
  return {
    propose: (request, context) =>
      forwarding.once(
        context,
        async () => {
          const { index, result } = await node.propose(request.command, context.cancel);
          return { index: BigInt(index), result: encodedResult(codec, index, result) };
        },
        (leader, settings) => leader.propose(request, settings),
      ),

    readIndex: (request, context) =>
      forwarding.once(
        context,
        async () => ({ index: BigInt(await node.readIndex(context.cancel)) }),
        (leader, settings) => leader.readIndex(request, settings),
      ),

    barrier: (request, context) =>
      forwarding.once(
        context,
        async () => ({ index: BigInt(await node.barrier(context.signal)) }),
        (leader, settings) => leader.barrier(request, settings),
      ),
  };
}
