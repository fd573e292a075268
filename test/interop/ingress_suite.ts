import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { startNode } from "../support/processes/processes.js";
import type { Tool } from "./tool.js";

const KV = "cairn.v1.KeyValueService";

/** A tool that knows nothing but the address of ingress processes finds all that the node offers. */
export function ingressSuite(tool: Tool, options: { readonly skip?: boolean } = {}): void {
  describe.skipIf(options.skip ?? false)(`${tool.name} at ingress processes`, () => {
    test("lists services, checks the health, and makes unary and streaming calls", async () => {
      const args = ["--ingress", "2", "--ingress-listen", "127.0.0.1:0"];
      const node = await startNode({ id: "n1", data: await temporaryDirectory(), args });
      const address = `${(await node.event("ingress")).address}`;
      await node.event("founded");
      expect(await tool.listServices(address)).toEqual(expect.arrayContaining([KV, "grpc.health.v1.Health"]));
      const call = (method: string, message: object) => tool.call(address, method, [{ ...message }]);
      expect(await call("grpc.health.v1.Health/Check", { service: KV })).toMatchObject({
        status: "OK",
        messages: [{ status: "SERVING" }],
      });
      expect(await call("grpc.health.v1.Health/Check", { service: "no.such" })).toMatchObject({ status: "NOT_FOUND" });
      const [key, value] = ["key", "value"].map((text) => Buffer.from(text).toString("base64"));
      const put = await call(`${KV}/Put`, { key, value });
      expect(put).toMatchObject({ status: "OK", messages: [{ header: { nodeId: "n1" } }] });
      const kv = { key, value, version: put.messages[0]!.version };
      expect(await call(`${KV}/Get`, { key })).toMatchObject({ status: "OK", messages: [{ kv }] });
      expect(await call(`${KV}/Range`, {})).toMatchObject({ status: "OK", messages: [{ kvs: [kv] }] });
      expect(await call(`${KV}/Put`, {})).toMatchObject({ status: "INVALID_ARGUMENT", messages: [] });
      expect(await call(`${KV}/Delete`, { key })).toMatchObject({ status: "OK", messages: [{ deleted: true }] });
      expect(await call("cairn.v1.AdminService/GetStatus", {})).toMatchObject({ messages: [{ nodeId: "n1" }] });
    });
  });
}
