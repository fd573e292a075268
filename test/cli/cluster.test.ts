import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { createClient } from "../../src/rpc/client.js";
import { until } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { askCommand } from "../support/processes/command_host.js";
import { freePortRange } from "../support/processes/ports.js";
import { repository, runCommand, startCommand, startProcess } from "../support/processes/processes.js";

/** Ids of the processes that have this text on their command line, but for those that are given. */
function processesWith(text: string, besides: readonly number[]): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && !besides.includes(Number(name)))
    .filter((name) => commandLineOf(name).includes(text))
    .map(Number);
}

function commandLineOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    // It has ended meanwhile.
    return "";
  }
}

test("cairn cluster runs three nodes, restarts them from their data, and leaves none behind, however it ends", async () => {
  const data = await temporaryDirectory();
  const port = await freePortRange(2);
  const start = () => startCommand(["cluster", "--data", data, "--base-port", `${port}`, "--", "--tick-ms", "50"]);
  const first = start();
  const [, leader] = await first.waitFor(/^(n[123]) leads$/m);
  const page = "http://127\\.0\\.0\\.1:\\d+/";
  const lines = [`${page} shows the cluster`, "3 nodes run, with data in .*", `  n1  127.0.0.1:${port}  ${page}`];
  expect(first.stdout).toMatch(new RegExp(`^${lines.join("\n")}$`, "m"));
  const address = `127.0.0.1:${port + Number(leader!.slice(1)) - 1}`;
  await first.waitFor(/Ctrl-C stops all/);
  expect(first.stdout).toContain(`grpcurl -plaintext ${address} list`);
  const kv = createClient(KeyValueService, address);
  await kv.put({ key: Buffer.from("x"), value: Buffer.from("1") }).finally(() => kv.close());
  expect(processesWith(data, [first.pid])).toHaveLength(3);
  // A terminal sends it to the whole group, and npm once more.
  process.kill(first.pid, "SIGINT");
  process.kill(first.pid, "SIGINT");
  expect(await first.ended()).toEqual({ code: 0, signal: null });
  expect(first.stderr).toBe("");
  expect(processesWith(data, [])).toEqual([]);

  const second = start();
  await second.waitFor(/Ctrl-C stops all/);
  const [, again] = /^(n[123]) leads$/m.exec(second.stdout)!;
  const reader = createClient(KeyValueService, `127.0.0.1:${port + Number(again!.slice(1)) - 1}`);
  const { kv: found } = await reader.get({ key: Buffer.from("x") }).finally(() => reader.close());
  expect(Buffer.from(found!.value).toString()).toBe("1");
  const nodes = processesWith(data, [second.pid]);
  const victim = nodes.find((pid) => commandLineOf(`${pid}`).includes("\0n2\0"))!;
  process.kill(victim, "SIGKILL");
  await second.waitFor(/cairn cluster: n2 was ended by SIGKILL\. It is not restarted automatically/);
  expect(second.stderr).toContain(`cairn start --id n2 --data ${data}/n2 --cluster n1=127.0.0.1:${port},`);
  expect(processesWith(data, [second.pid])).toHaveLength(2);
  await second.kill("SIGKILL");
  await until(() => processesWith(data, []).length === 0, "its nodes have noticed");
});

test("npm start leaves no node behind when only npm is ended, whose shell passes no signal on", async () => {
  const data = await temporaryDirectory();
  const args = ["start", "--", "--data", data, "--base-port", `${await freePortRange(2)}`, "--nodes", "1"];
  const npm = startProcess("npm", args, { cwd: repository });
  await npm.waitFor(/Ctrl-C stops all/);
  expect(processesWith(data, [npm.pid]).length).toBeGreaterThanOrEqual(2);
  await npm.kill("SIGTERM");
  await until(() => processesWith(data, []).length === 0, "they have noticed");
});

test("cairn cluster says in its own words why it cannot run, before it starts any node", async () => {
  const data = await temporaryDirectory();
  const port = await freePortRange(2);
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await askCommand(["cluster", "--data", data, ...args]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    return stderr;
  };
  const taken = createServer().listen(port + 1, "127.0.0.1");
  await once(taken, "listening");
  expect(await run("--base-port", `${port}`)).toMatch(
    new RegExp(
      `^cairn: \\[INVALID_ARGUMENT\\] port ${port + 1} of ${port} to ${port + 2} is in use: give a --base-port `,
    ),
  );
  taken.close();
  for (const flag of ["--listen=127.0.0.1:0", "--id", "--cluster"]) {
    expect(await run("--base-port", `${port}`, "--", flag, "x")).toContain("cannot be the same on all nodes");
  }
  expect(readdirSync(data)).toEqual([]);

  const first = startCommand(["cluster", "--data", data, "--base-port", `${port}`, "--nodes", "1"]);
  await first.waitFor(/Ctrl-C stops all/);
  await first.kill("SIGINT");
  const made = `${data} holds a cluster that was created with --base-port ${port} --nodes 1: start it the same way`;
  expect(await run("--base-port", `${port}`, "--nodes", "3")).toContain(made);
  expect(await run("--base-port", `${port + 1}`, "--nodes", "1")).toContain(made);
  expect(readdirSync(data)).toEqual(["n1"]);

  const wrong = await runCommand(["cluster", "--snapshot-entries", "10"]);
  expect(wrong).toMatchObject({ code: 2, stdout: "" });
  expect(wrong.stderr).toContain("flags of cairn start go after --");
});

test("a node that cannot be started ends cairn cluster and the other nodes", async () => {
  const data = await temporaryDirectory();
  const args = ["cluster", "--data", data, "--base-port", `${await freePortRange(2)}`, "--", "--tick-ms", "none"];
  const { code, stdout, stderr } = await runCommand(args);
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toMatch(/option '--tick-ms <n>' argument 'none' is invalid/);
  expect(stderr).toMatch(/cairn cluster: n[123] ended with exit code 2/);
  expect(processesWith(data, [])).toEqual([]);
});
