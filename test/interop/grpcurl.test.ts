import { status as grpcStatus } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { findGrpcurl } from "../support/processes/grpcurl.js";
import { clusterSuite } from "./cluster_suite.js";
import { ingressSuite } from "./ingress_suite.js";
import { ownMachineSuite } from "./own_machine_suite.js";
import { interopNode, interopSuite } from "./suite.js";
import { linesOf, parseObjects, printObjects, run, type Tool } from "./tool.js";

const found = findGrpcurl();
if (found === undefined) {
  console.log(
    "skipped: there is no grpcurl on PATH, in $(go env GOPATH)/bin or at $CAIRN_GRPCURL; " +
      "go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3",
  );
}
const grpcurlPath = found ?? "grpcurl";

const grpcurl: Tool = {
  name: "grpcurl",
  // It asks v1 first, and v1alpha where there is no v1; there is no flag for it.
  reflections: { "its own choice": [] },
  listServices: (address) => linesOf(grpcurlPath, ["-plaintext", address, "list"]),
  async listMethods(address) {
    const services = await linesOf(grpcurlPath, ["-plaintext", address, "list"]);
    const methods = services.map((service) => linesOf(grpcurlPath, ["-plaintext", address, "list", service]));
    return (await Promise.all(methods)).flat().map((name) => name.replace(/\.([^.]+)$/, "/$1"));
  },
  async call(address, method, messages) {
    const args = ["-plaintext", "-format-error", "-d", "@", address, method];
    const { code, stdout, stderr } = await run(grpcurlPath, args, printObjects(messages));
    if (code === 0) return { messages: parseObjects(stdout), status: "OK", text: "" };
    const error = JSON.parse(stderr) as { code: number; message: string };
    return { messages: parseObjects(stdout), status: grpcStatus[error.code] ?? "", text: error.message };
  },
};

interopSuite(grpcurl, { skip: found === undefined });
clusterSuite(grpcurl, { skip: found === undefined });
ingressSuite(grpcurl, { skip: found === undefined });
ownMachineSuite(grpcurl, { skip: found === undefined });

test.skipIf(found === undefined)("grpcurl describes a service and a message", async () => {
  await using node = await interopNode();
  const service = await linesOf(grpcurlPath, ["-plaintext", node.address, "describe", "cairn.v1.AdminService"]);
  const text = service.join("\n");
  expect(text).toContain("cairn.v1.AdminService is a service:");
  expect(text).toContain("rpc GetLogInfo ( .cairn.v1.GetLogInfoRequest ) returns ( .cairn.v1.GetLogInfoResponse )");
  expect(text).toContain("returns ( stream .cairn.v1.DownloadSnapshotResponse )");
  const message = await linesOf(grpcurlPath, ["-plaintext", node.address, "describe", "cairn.v1.TakeSnapshotRequest"]);
  expect(message.join("\n")).toMatch(/oneof trigger \{[^}]*uint64 threshold_entries = 1;[^}]*uint64 index = 2;/);
});
