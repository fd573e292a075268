import type * as grpc from "@grpc/grpc-js";
import { HealthImplementation, service } from "grpc-health-check";

/** Definition of grpc.health.v1.Health, with the file that declares it. */
export const healthService = service as unknown as grpc.ServiceDefinition;

/**
 * Serves health checks, for load balancers and `grpc_health_probe`. Services that were never named
 * are unknown to it.
 */
export class Health {
  readonly #implementation: HealthImplementation;

  /**
   * `services`: full names, such as cairn.v1.KeyValueService; "" is the whole server. All start as
   * not serving.
   */
  constructor(services: readonly string[]) {
    this.#implementation = new HealthImplementation(
      Object.fromEntries(services.map((name) => [name, "NOT_SERVING" as const])),
    );
  }

  addToServer(server: Pick<grpc.Server, "addService">): void {
    this.#implementation.addToServer(server as Parameters<HealthImplementation["addToServer"]>[0]);
  }

  /** Sets whether a service answers; its watchers are told at once. */
  setServing(service: string, serving: boolean): void {
    this.#implementation.setStatus(service, serving ? "SERVING" : "NOT_SERVING");
  }
}
