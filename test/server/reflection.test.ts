import {
  create,
  createFileRegistry,
  type DescField,
  type DescMessage,
  type FileRegistry,
  fromBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import { AdminService, GetStatusResponseSchema } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import { healthService } from "../../src/server/discovery/health.js";
import { addReflection } from "../../src/server/discovery/reflection.js";
import { loopback } from "../support/nodes/loopback.js";

const services = [KeyValueService, AdminService, RaftService];

/** The service's definition as the reflection library itself registers it: enough for a raw client. */
let definitions: Record<string, grpc.ServiceDefinition> = {};

interface Answer {
  messageResponse: string;
  listServicesResponse?: { service: { name: string }[] };
  fileDescriptorResponse?: { fileDescriptorProto: ArrayLike<number>[] };
  errorResponse?: { errorCode: number; errorMessage: string };
}

/** Starts a server with reflection; returns a function that asks it one question. */
async function reflection(version: "v1" | "v1alpha"): Promise<(question: object) => Promise<Answer>> {
  definitions = {};
  const { address } = await loopback((server) => {
    const recording: Pick<grpc.Server, "addService"> = {
      addService(definition, implementation) {
        const [, name = ""] = Object.values(definition)[0]!.path.split("/");
        definitions[name] = definition;
        server.addService(definition, implementation);
      },
    };
    addReflection(recording, services, [healthService()]);
  });
  const Client = grpc.makeClientConstructor(definitions[`grpc.reflection.${version}.ServerReflection`]!, "Reflection");
  const client = new Client(address, grpc.credentials.createInsecure());
  onTestFinished(() => client.close());
  return (question) =>
    new Promise((resolve, reject) => {
      const call = client.ServerReflectionInfo!();
      let answer: Answer | undefined;
      call.on("data", (data: Answer) => {
        answer = data;
      });
      call.on("error", reject);
      call.on("end", () => (answer === undefined ? reject(new Error("no answer")) : resolve(answer)));
      call.write(question);
      call.end();
    });
}

/** The files of an answer, linked; fails on names that lead nowhere. The library's clients see bytes as arrays of numbers. */
function registryOf(answer: Answer): FileRegistry {
  const files = answer.fileDescriptorResponse?.fileDescriptorProto ?? [];
  const file = files.map((bytes) => fromBinary(FileDescriptorProtoSchema, Uint8Array.from(bytes)));
  return createFileRegistry(create(FileDescriptorSetSchema, { file: file.reverse() }));
}

function fieldShape(field: DescField) {
  return { name: field.name, number: field.number, kind: field.fieldKind, scalar: field.scalar };
}

function shape(message: DescMessage | undefined) {
  return message?.fields.map(fieldShape);
}

describe.each(["v1", "v1alpha"] as const)("grpc.reflection.%s", (version) => {
  test("lists every service that the server offers", async () => {
    const ask = await reflection(version);
    const { listServicesResponse } = await ask({ listServices: "*" });
    expect(listServicesResponse!.service.map(({ name }) => name).sort()).toEqual([
      "cairn.v1.AdminService",
      "cairn.v1.KeyValueService",
      "cairn.v1.RaftService",
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
    ]);
  });

  test("describes a service with all the types that its messages need", async () => {
    const ask = await reflection(version);
    const files = registryOf(await ask({ fileContainingSymbol: "cairn.v1.AdminService" }));
    const service = files.getService("cairn.v1.AdminService");
    expect(service?.methods.map(({ name, methodKind }) => [name, methodKind])).toEqual(
      AdminService.methods.map(({ name, methodKind }) => [name, methodKind]),
    );
    const response = files.getMessage("cairn.v1.GetStatusResponse");
    expect(shape(response)).toEqual(shape(GetStatusResponseSchema));
    // Membership is declared in a file that admin.proto imports.
    expect(files.getMessage("cairn.v1.Membership")).toBeDefined();
  });

  test.each([
    "cairn.v1.KeyValueService",
    "cairn.v1.RaftService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
  ])("describes %s", async (name) => {
    const ask = await reflection(version);
    const files = registryOf(await ask({ fileContainingSymbol: name }));
    expect(files.getService(name)!.methods.length).toBeGreaterThan(0);
  });

  test("returns a file with a map and nested types as a compiler writes it", async () => {
    const ask = await reflection(version);
    const files = registryOf(await ask({ fileContainingSymbol: "grpc.health.v1.Health" }));
    const statuses = files.getMessage("grpc.health.v1.HealthListResponse")!.field.statuses!;
    expect(statuses.proto.typeName).toBe(".grpc.health.v1.HealthListResponse.StatusesEntry");
    expect(statuses.fieldKind).toBe("map");
    const status = files.getMessage("grpc.health.v1.HealthCheckResponse")!.field.status!;
    expect(status.proto.typeName).toBe(".grpc.health.v1.HealthCheckResponse.ServingStatus");
  });

  test("names the symbol that it does not know", async () => {
    const ask = await reflection(version);
    const answer = await ask({ fileContainingSymbol: "cairn.v1.Nothing" });
    expect(answer.errorResponse).toMatchObject({ errorCode: grpc.status.NOT_FOUND });
  });
});
