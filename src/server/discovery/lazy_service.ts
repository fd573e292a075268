import type * as grpc from "@grpc/grpc-js";
import { assert } from "../../base/assert.js";
import { CairnError } from "../../base/errors.js";
import { type ServerCall, ServerCallContext } from "../../rpc/call_context.js";
import { statusFromError } from "../../rpc/status.js";

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

/** Judges a call before the library sees it. @throws CairnError */
export type AdmitCall = (context: ServerCallContext, isStream: boolean) => void;

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
  admit?: AdmitCall,
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
    const handle = (...parameters: unknown[]) => methodAt(path).handler(...parameters);
    handlers[path] = admit === undefined ? handle : guarded(shape, handle, admit);
  }
  server.addService(definition, handlers);
}

/** A call of the library, as far as its refusal needs it. */
interface RefusableCall extends ServerCall {
  emit(event: "error", status: object): boolean;
}

function guarded({ responseStream }: MethodShape, handle: LoadedMethod["handler"], admit: AdmitCall) {
  return (...parameters: unknown[]): void => {
    const call = parameters[0] as RefusableCall;
    const callback = parameters[1] as (status: object) => void;
    const context = new ServerCallContext(call);
    const refuse = (error: CairnError) => {
      context.answered(error);
      // grpc-js takes this event for a stream's status.
      if (responseStream) call.emit("error", statusFromError(error));
      else callback(statusFromError(error));
    };
    try {
      admit(context, responseStream);
    } catch (error) {
      refuse(CairnError.from(error));
      return;
    }
    context.onCancelled((error) => {
      if (context.isRevoked) refuse(error);
    });
    handle(...parameters);
  };
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
