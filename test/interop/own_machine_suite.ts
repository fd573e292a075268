import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { CairnMember } from "../../src/daemon/application/cairn_member.js";
import { inMemory } from "../../src/server/machine/own_machine.js";
import { Words } from "../support/machines/words.js";
import type { Tool } from "./tool.js";

/** Tests a tool, by reflection alone, on a member that runs an application's own machine. */
export function ownMachineSuite(tool: Tool, { skip = false }: { readonly skip?: boolean } = {}): void {
  describe.skipIf(skip)(`${tool.name} and a machine of an application's own`, () => {
    test("lists the machine's services, which take proposals and operators' calls", async () => {
      const directory = await mkdtemp(join(tmpdir(), "cairn-interop-"));
      const machine = inMemory(() => new Words());
      const member = await CairnMember.start({ id: "n1", directory, listen: "127.0.0.1:0", machine });
      onTestFinished(async () => {
        await member.stop();
        await rm(directory, { recursive: true, force: true });
      });
      await member.propose(Buffer.from("a"));
      for (const flags of Object.values(tool.reflections)) {
        const services = await tool.listServices(member.address, flags);
        for (const name of ["cairn.v1.MachineService", "cairn.v1.AdminService", "grpc.health.v1.Health"]) {
          expect(services).toContain(name);
        }
        expect(services).not.toContain("cairn.v1.KeyValueService");
      }
      const command = Buffer.from("b").toString("base64");
      const proposed = await tool.call(member.address, "cairn.v1.MachineService/Propose", [{ command }]);
      expect(proposed).toMatchObject({ status: "OK", messages: [{ result: Buffer.from("2").toString("base64") }] });
      const status = await tool.call(member.address, "cairn.v1.AdminService/GetStatus", [{}]);
      expect(status.messages[0]).toMatchObject({ nodeId: "n1", leaderId: "n1" });
      const verified = await tool.call(member.address, "cairn.v1.AdminService/VerifyState", [{}]);
      expect(verified.messages[0]).toMatchObject({ allEqual: true });
    });
  });
}
