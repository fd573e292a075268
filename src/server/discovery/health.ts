import { createRequire } from "node:module";
import type * as grpc from "@grpc/grpc-js";
import type { HealthImplementation } from "grpc-health-check";
import { type AdmitCall, addLazily, type ServiceRegistry } from "./lazy_service.js";

const HEALTH = "/grpc.health.v1.Health";

/**
 * Returns the definition of grpc.health.v1.Health, with the file that declares it. Loads the
 * library.
 */
export function healthService(): grpc.ServiceDefinition {
  return library().service as unknown as grpc.ServiceDefinition;
}

/**
 * Serves health checks, for load balancers and `grpc_health_probe`. Services that were never named
 * are unknown to it. The first check loads the library, which brings a second protobuf library.
 */
export class Health {
  readonly #serving: Map<string, boolean>;
  #implementation: HealthImplementation | undefined;

  /**
   * `services`: full names, such as cairn.v1.KeyValueService; "" is the whole server. All start as
   * not serving.
   */
  constructor(services: readonly string[]) {
    this.#serving = new Map(services.map((name) => [name, false]));
  }

  addToServer(server: ServiceRegistry, admit?: AdmitCall): void {
    const methods = [
      { path: `${HEALTH}/Check`, requestStream: false, responseStream: false },
      { path: `${HEALTH}/Watch`, requestStream: false, responseStream: true },
      { path: `${HEALTH}/List`, requestStream: false, responseStream: false },
    ];
    const add = (registry: ServiceRegistry) => {
      this.#implementation ??= this.#load();
      this.#implementation.addToServer(registry as Parameters<HealthImplementation["addToServer"]>[0]);
    };
    addLazily(server, methods, add, admit);
  }

  /** Sets whether a service answers; its watchers are told at once. */
  setServing(service: string, serving: boolean): void {
    this.#serving.set(service, serving);
    this.#implementation?.setStatus(service, statusOf(serving));
  }

  #load(): HealthImplementation {
    const statuses = [...this.#serving].map(([name, serving]) => [name, statusOf(serving)] as const);
    return new (library().HealthImplementation)(Object.fromEntries(statuses));
  }
}

function statusOf(serving: boolean): "SERVING" | "NOT_SERVING" {
  return serving ? "SERVING" : "NOT_SERVING";
}

function library(): typeof import("grpc-health-check") {
  return createRequire(import.meta.url)("grpc-health-check") as typeof import("grpc-health-check");
}
