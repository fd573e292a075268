import type { DescService } from "@bufbuild/protobuf";
import type * as grpc from "@grpc/grpc-js";
import type { SharedChannel } from "../rpc/client.js";
import type { AddServiceOptions } from "../rpc/server.js";

/**
 * The services of a node's state machine, beside those that every node has. Made by
 * {@link ownMachineServices}.
 */
export interface MachineServices {
  /** All of the services, for health and reflection. */
  readonly services: readonly DescService[];
  /** @internal */
  addTo(server: Pick<grpc.Server, "addService">, options: AddServiceOptions): void;
  /**
   * Has the cluster commit an entry that leaves the state unchanged. Proposes the entry here, or
   * through `leader`, a channel to the member that leads.
   * @internal
   */
  advance(leader: SharedChannel | undefined, signal: AbortSignal): Promise<void>;
  /** Returns the number of things that the services hold for their callers, by name. @internal */
  holdings(): Readonly<Record<string, number>>;
  /** Stops reading calls of open streams; those that were read are answered. @internal */
  stop(): void;
  /** Ends the calls under way at the leader. @internal */
  close(): void;
}
