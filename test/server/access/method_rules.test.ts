import { readdirSync } from "node:fs";
import type { DescFile, DescService } from "@bufbuild/protobuf";
import type * as grpc from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { methodPath } from "../../../src/rpc/codec.js";
import { methodRules } from "../../../src/server/access/method_rules.js";
import { Health } from "../../../src/server/discovery/health.js";
import { addLazyReflection } from "../../../src/server/discovery/reflection.js";
import { inRepository } from "../../support/processes/processes.js";

/** All services that the descriptors in gen/ declare. */
async function generatedServices(): Promise<DescService[]> {
  const folder = inRepository("gen/cairn/v1");
  const modules = await Promise.all(readdirSync(folder).map((name) => import(`${folder}/${name}`)));
  const files = modules.flatMap((each) => Object.values(each)).filter((each) => (each as DescFile)?.kind === "file");
  return (files as DescFile[]).flatMap(({ services }) => services);
}

/** Paths of the methods that other libraries serve. */
function discoveryPaths(): string[] {
  const paths: string[] = [];
  const server = {
    addService: (definition: grpc.ServiceDefinition) =>
      void paths.push(...Object.values(definition).map(({ path }) => path)),
  };
  new Health([]).addToServer(server);
  addLazyReflection(server, [], () => []);
  return paths;
}

test("every method of every service has a rule, and every rule has a method", async () => {
  const services = await generatedServices();
  expect(services.map(({ name }) => name).sort()).toEqual([
    "AdminService",
    "KeyValueService",
    "LeaseService",
    "MachineService",
    "RaftService",
  ]);
  const methods = services.flatMap(({ methods }) => methods.map(methodPath));
  const all = [...methods, ...discoveryPaths()];
  expect(all.filter((path) => !methodRules.has(path))).toEqual([]);
  expect([...methodRules.keys()].filter((path) => !all.includes(path))).toEqual([]);
});

test("the rules are those of the documents", () => {
  const needs = (method: string) => methodRules.get(`/cairn.v1.${method}`)?.needs;
  expect(["KeyValueService/Get", "KeyValueService/Put", "LeaseService/Revoke"].map(needs)).toEqual([
    "reader",
    "writer",
    "writer",
  ]);
  const byService = (service: string) =>
    new Set([...methodRules].flatMap(([path, rule]) => (path.includes(`.${service}/`) ? [rule.needs] : [])));
  expect(byService("RaftService")).toEqual(new Set(["peer"]));
  expect(byService("AdminService")).toEqual(new Set(["known", "admin"]));
});
