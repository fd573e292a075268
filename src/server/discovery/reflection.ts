import { createRequire } from "node:module";
import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type * as grpc from "@grpc/grpc-js";
import type { ReflectionService } from "@grpc/reflection";
import { type AdmitCall, addLazily, type ServiceRegistry } from "./lazy_service.js";
import { filesOfLoadedService } from "./loaded_files.js";

/**
 * Adds grpc.reflection.v1 and v1alpha to a server, so that grpcurl can list and describe its
 * services without .proto files: the given services and reflection itself. `others` returns
 * services that another library defines, such as the health service. The first question loads the
 * libraries, which bring a second protobuf library.
 */
export function addLazyReflection(
  server: ServiceRegistry,
  services: readonly DescService[],
  others: () => readonly grpc.ServiceDefinition[],
  admit?: AdmitCall,
): void {
  const methods = ["v1", "v1alpha"].map((version) => ({
    path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
    requestStream: true,
    responseStream: true,
  }));
  addLazily(server, methods, (registry) => addReflection(registry, services, others()), admit);
}

/** The same, with the libraries loaded at once. */
export function addReflection(
  server: ServiceRegistry,
  services: readonly DescService[],
  others: readonly grpc.ServiceDefinition[] = [],
): void {
  const definitions = [...others, ...reflectionServices()];
  const files = [...encodedFiles(services), ...definitions.flatMap(filesOfLoadedService)];
  const names = [...services.map((service) => service.typeName), ...definitions.map(serviceName)];
  reflectionOf(files, names).addToServer(server);
}

/** Returns the definitions of the reflection services, which do not list themselves by default. */
function reflectionServices(): grpc.ServiceDefinition[] {
  const definitions: grpc.ServiceDefinition[] = [];
  const recorder = { addService: (definition: grpc.ServiceDefinition) => void definitions.push(definition) };
  reflectionOf([], []).addToServer(recorder);
  return definitions;
}

/**
 * Makes a reflection service. The library reads nothing of a package but the encoded files of its
 * members.
 */
function reflectionOf(fileDescriptorProtos: Buffer[], services: string[]): ReflectionService {
  const format = "Protocol Buffer 3 DescriptorProto";
  const library = createRequire(import.meta.url)("@grpc/reflection") as typeof import("@grpc/reflection");
  return new library.ReflectionService({ files: { format, type: {}, fileDescriptorProtos } }, { services });
}

/**
 * Returns the full name of a service, from the path of one of its methods:
 * /grpc.health.v1.Health/Check.
 */
function serviceName(definition: grpc.ServiceDefinition): string {
  return Object.values(definition)[0]?.path.split("/")[1] ?? "";
}

/** Returns the files that declare the services, and the files that they import. */
function encodedFiles(services: readonly DescService[]): Buffer[] {
  const files = new Set<DescFile>();
  const add = (file: DescFile) => {
    if (files.has(file)) return;
    files.add(file);
    file.dependencies.forEach(add);
  };
  for (const service of services) add(service.file);
  return [...files].map((file) => Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)));
}
