import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { LeaseService } from "../../gen/cairn/v1/lease_pb.js";
import { limits } from "../base/limits.js";
import type { MemberCredentials } from "../rpc/security/member_credentials.js";
import { addService } from "../rpc/server.js";
import { type Clock, systemClock } from "../system/clock.js";
import { Forwarding } from "./forwarding.js";
import { execute, headerOf } from "./kv/key_value_calls.js";
import type { KeyValueNode } from "./kv/key_value_node.js";
import { keyValueService, singleCalls } from "./kv/kv_service.js";
import { Sessions } from "./kv/session_service.js";
import { StoreKeeper } from "./kv/store_keeper.js";
import { Leases } from "./leases/lease_service.js";
import type { MachineServices } from "./machine_services.js";
import { Watches } from "./watch/watch_service.js";

// Assembles the services of the key-value store.

/** Key and version of a comparison that cannot succeed, whatever the key holds. */
const ANY_KEY = Buffer.from("cairn");
const NO_VERSION = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * Returns the services of a node whose state machine is the key-value store. `members` makes the
 * credentials of connections to leaders; `clock` measures the time of leases.
 */
export function keyValueServices(
  node: KeyValueNode,
  members?: MemberCredentials | undefined,
  clock: Clock = systemClock,
): MachineServices {
  const forwarding = new Forwarding(node, KeyValueService, { members });
  const calls = singleCalls(node, forwarding);
  const sessions = new Sessions(node, calls);
  const watches = new Watches(node, () => headerOf(node));
  const leases = new Leases(node, clock, members);
  const store = new StoreKeeper(node, clock);
  return {
    services: [KeyValueService, LeaseService],
    addTo(server, options) {
      addService(server, KeyValueService, keyValueService(calls, sessions, watches), options);
      leases.addTo(server, options);
      store.start();
    },
    async advance(leader, signal) {
      const value = { key: ANY_KEY, expected: { case: "version", value: NO_VERSION }, newValue: ANY_KEY } as const;
      if (leader === undefined) {
        await execute(node, { operation: { case: "compareAndSet", value } }, signal);
      } else {
        const settings = { signal, timeoutMs: limits.verifyIdleMs };
        await leader.client(KeyValueService).compareAndSet(value, settings);
      }
    },
    holdings() {
      const { keyCount, sessionCount, leaseCount } = node.machine;
      const streams = { session_streams: sessions.count, watches: watches.count };
      return { ...streams, keys: keyCount, remembered_clients: sessionCount, leases: leaseCount };
    },
    stop() {
      sessions.stop();
      watches.stop();
      leases.stop();
      store.stop();
    },
    close() {
      forwarding.close();
      leases.close();
      store.stop();
    },
  };
}
