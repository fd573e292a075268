import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { CairnClient } from "../../src/client.js";
import { createClient } from "../../src/rpc/client.js";
import { inRepository, startNode, startProcess } from "../support/processes/processes.js";

// It starts five processes, on machines that do much else.
test("the config store example shows all settings, follows changes, survives the death of its node, and notices a setting that was removed meanwhile", {
  timeout: 240_000,
}, async () => {
  const data = await mkdtemp(join(tmpdir(), "cairn-config-store-"));
  onTestFinished(() => rm(data, { recursive: true, force: true }));
  const args = ["--trailing-log-bytes", "0"];
  const first = await startNode({ id: "n1", data, args });
  const client = new CairnClient({ endpoints: [first.address], timeoutMs: 60_000 });
  onTestFinished(() => client.close());
  await client.put("config/color", { json: "red" });
  await client.put("config/size", { json: 1 });
  await client.put("other", { json: 1 });

  const program = startProcess(process.execPath, [
    inRepository("examples/config-store/main.mjs"),
    "--endpoints",
    first.address,
  ]);
  await program.waitFor(/ready\n/);
  expect(program.stdout).toBe('color = "red"\nsize = 1\nready\n');
  await client.put("config/size", { json: { width: 2 } });
  await client.put("config/color", "no JSON");
  await client.delete("config/color");
  await program.waitFor(/color removed\n/);
  expect(program.stdout).toMatch(/ready\nsize = \{"width":2\}\ncolor is not JSON: .*\ncolor removed\n$/);

  await first.kill();
  const second = await startNode({ id: "n1", data, args, listen: first.address });
  await client.put("config/after", { json: true });
  await program.waitFor(/after = true\n/);

  // The program stands still while a setting is removed and the history of that is trimmed.
  process.kill(program.pid, "SIGSTOP");
  await second.kill();
  const third = await startNode({ id: "n1", data, args, listen: first.address });
  await client.delete("config/size");
  const admin = createClient(AdminService, third.address);
  onTestFinished(() => admin.close());
  for (let count = 0; count < 2; count++) {
    await client.put("config/count", { json: count });
    await admin.takeSnapshot({ keepLogBytes: 0n });
  }
  process.kill(program.pid, "SIGCONT");
  await program.waitFor(/count = 1\n/);
  const lines = program.stdout.split("\n");
  expect(lines.filter((line) => line === "size removed")).toHaveLength(1);
  expect(lines).not.toContain("count = 0");
  expect(await program.kill("SIGTERM")).toEqual({ code: 0, signal: null });
  expect(program.stderr).toBe("");
});
