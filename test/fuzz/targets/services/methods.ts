import { create, createFileRegistry, type DescMethod, type DescService, fromBinary } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import type * as grpc from "@grpc/grpc-js";
import { AdminService } from "../../../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../../../gen/cairn/v1/kv_pb.js";
import { LeaseService } from "../../../../gen/cairn/v1/lease_pb.js";
import { MachineService } from "../../../../gen/cairn/v1/machine_pb.js";
import { RaftService } from "../../../../gen/cairn/v1/raft_pb.js";
import { healthService } from "../../../../src/server/discovery/health.js";
import { filesOfLoadedService } from "../../../../src/server/discovery/loaded_files.js";
import { addReflection } from "../../../../src/server/discovery/reflection.js";

// Lists the methods of all services, from their descriptors.

/** The services of the key-value store's nodes, health and reflection included. */
export function keyValueMethods(): DescMethod[] {
  return [KeyValueService, LeaseService, AdminService, RaftService, ...discovery()].flatMap(({ methods }) => methods);
}

/** The services of a node with a machine of its own. */
export function machineMethods(): DescMethod[] {
  return [MachineService, AdminService, RaftService, ...discovery()].flatMap(({ methods }) => methods);
}

/** Health and reflection, as protobuf-es knows them. */
function discovery(): DescService[] {
  const definitions: grpc.ServiceDefinition[] = [healthService()];
  addReflection({ addService: (definition) => void definitions.push(definition) }, []);
  const files = new Map<string, FileDescriptorProto>();
  for (const bytes of definitions.flatMap(filesOfLoadedService)) {
    const file = fromBinary(FileDescriptorProtoSchema, bytes);
    files.set(file.name, file);
  }
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: [...files.values()] }));
  return [...registry].filter((each) => each.kind === "service");
}
