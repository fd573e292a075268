import { findGrpcurl } from "../support/processes/grpcurl.js";
import { inRepository } from "../support/processes/processes.js";
import { clusterSuite } from "./cluster_suite.js";
import { ingressSuite } from "./ingress_suite.js";
import { ownMachineSuite } from "./own_machine_suite.js";
import { interopSuite } from "./suite.js";
import { linesOf, parseObjects, printObjects, run, type Tool } from "./tool.js";

const BUF = inRepository("node_modules/.bin/buf");
const FLAGS = ["curl", "--protocol", "grpc", "--http2-prior-knowledge"];

const bufCurl: Tool = {
  name: "buf curl",
  reflections: {
    "grpc.reflection.v1": ["--reflect-protocol", "grpc-v1"],
    "grpc.reflection.v1alpha": ["--reflect-protocol", "grpc-v1alpha"],
  },
  listServices: (address, flags = []) => linesOf(BUF, [...FLAGS, ...flags, "--list-services", `http://${address}`]),
  listMethods: (address, flags = []) => linesOf(BUF, [...FLAGS, ...flags, "--list-methods", `http://${address}`]),
  async call(address, method, messages, flags = []) {
    const args = [...FLAGS, ...flags, "--data", "@-", `http://${address}/${method}`];
    const { code, stdout, stderr } = await run(BUF, args, printObjects(messages));
    if (code === 0) return { messages: parseObjects(stdout), status: "OK", text: "" };
    const error = JSON.parse(stderr) as { code: string; message: string };
    return { messages: parseObjects(stdout), status: error.code.toUpperCase(), text: error.message };
  },
};

interopSuite(bufCurl);
if (findGrpcurl() === undefined) {
  clusterSuite(bufCurl);
  ingressSuite(bufCurl);
  ownMachineSuite(bufCurl);
} else
  console.log("buf curl is tried against one node only: grpcurl is there, and tries clusters and ingress processes");
