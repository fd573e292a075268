import type * as grpc from "@grpc/grpc-js";
import { assert } from "../../base/assert.js";

// Adds services to a server whose libraries are loaded with the first call.

/** The part of a server that services are added to. */
export type ServiceRegistry = Pick<grpc.Server, "addService">;

/** A method, as far as a server must know it before it is called. */
export interface MethodShape {
  /** /package.Service/Method */
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
}

interface LoadedMethod {
  readonly definition: grpc.MethodDefinition<unknown, unknown>;
  readonly handler: (...parameters: unknown[]) => void;
}

/**
 * Adds methods to a server. The first call of any of them calls `add`, which loads their library
 * and adds its services to the registry that it is given. A call fails when that throws, and the
 * next call tries again.
 */
export function addLazily(
  server: ServiceRegistry,
  methods: readonly MethodShape[],
  add: (registry: ServiceRegistry) => void,
): void {
  let loaded: ReadonlyMap<string, LoadedMethod> | undefined;
  const methodAt = (path: string): LoadedMethod => {
    loaded ??= methodsOf(add);
    const method = loaded.get(path);
    assert(method !== undefined, "a library serves the methods that were announced for it", { path });
    return method;
  };
  const definition: Record<string, grpc.MethodDefinition<unknown, unknown>> = {};
  const handlers: grpc.UntypedServiceImplementation = {};
  for (const shape of methods) {
    const { path } = shape;
    definition[path] = {
      ...shape,
      requestSerialize: (request) => methodAt(path).definition.requestSerialize(request),
      requestDeserialize: (bytes) => methodAt(path).definition.requestDeserialize(bytes),
      responseSerialize: (response) => methodAt(path).definition.responseSerialize(response),
      responseDeserialize: (bytes) => methodAt(path).definition.responseDeserialize(bytes),
    };
    handlers[path] = (...parameters: unknown[]) => methodAt(path).handler(...parameters);
  }
  server.addService(definition, handlers);
}

/** Returns the methods that `add` adds to a server, by path. */
function methodsOf(add: (registry: ServiceRegistry) => void): ReadonlyMap<string, LoadedMethod> {
  const methods = new Map<string, LoadedMethod>();
  add({
    addService(service, implementation) {
      for (const [name, definition] of Object.entries(service)) {
        const handler = implementation[name] ?? implementation[definition.originalName ?? ""];
        if (handler !== undefined) methods.set(definition.path, { definition, handler } as unknown as LoadedMethod);
      }
    },
  });
  return methods;
}
