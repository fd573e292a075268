import type { LimitName } from "../base/telemetry/refusals.js";
import type { FloodLimits } from "../rpc/floods/flood_limits.js";
import type { NodeTlsFiles } from "../rpc/security/tls_material.js";

// Messages between a node's process and its ingress processes.

/** To an ingress process. */
export type ToIngress =
  /**
   * Serve the node at this address, and clients with these certificates, within these limits; tell
   * the node who makes each call, if it asks. Sent once, first.
   */
  | {
      readonly kind: "serve";
      readonly node: string;
      readonly limits: Partial<FloodLimits>;
      readonly tls: NodeTlsFiles | undefined;
      readonly tellsClients: boolean;
    }
  /** Take the connection that comes with this message. */
  | { readonly kind: "connection" }
  /** Let the calls under way end, then end. */
  | { readonly kind: "stop" };

/** From an ingress process. */
export type FromIngress =
  /** It serves, and may be given connections. */
  | { readonly kind: "ready" }
  /** It has the last connection that it was given. */
  | { readonly kind: "taken" }
  /** One of its connections is closed. */
  | { readonly kind: "closed" }
  /** Connections were refused, by their certificates or for the lack of one. */
  | { readonly kind: "refused"; readonly address: string; readonly reason: string; readonly times: number }
  /** Limits have refused calls and connections since the last such message. */
  | { readonly kind: "limited"; readonly refusals: readonly (readonly [limit: LimitName, times: number])[] }
  /** It could not answer a call, by a fault of its own, or could not begin to serve. */
  | { readonly kind: "failed"; readonly method?: string | undefined; readonly error: ShownFailure };

/** An error, for the log. */
export interface ShownFailure {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
}

/** Interval at which an ingress process tells of refusals, in milliseconds. */
export const TELL_MS = 1_000;

/** Time that the calls under way have to end when an ingress process stops, in milliseconds. */
export const DRAIN_MS = 2_000;
