import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { askCommand } from "../support/processes/command_host.js";
import { freePortRange } from "../support/processes/ports.js";
import { runCommand, startCommand, startNode } from "../support/processes/processes.js";

// `cairn ... | head`: the reader of standard output goes away when it has seen enough.

let endpoint: string;

beforeAll(async () => {
  const data = await mkdtemp(join(tmpdir(), "cairn-test-pipes-"));
  const node = await startNode({ id: "n1", data });
  endpoint = node.address;
  const env = { CAIRN_ENDPOINTS: endpoint };
  const value = "x".repeat(100_000);
  for (let at = 0; at < 5; at++) await askCommand(["kv", "put", `k${at}`], { env, input: value });
  await askCommand(["snapshot", "take"], { env });
  return async () => {
    await node.kill();
    await rm(data, { recursive: true, force: true });
  };
});

/** Runs a command whose output nobody reads. */
async function unread(...args: string[]) {
  const command = startCommand(args, { env: { CAIRN_ENDPOINTS: endpoint } });
  command.stopReading();
  const { code } = await command.ended();
  return { code, stderr: command.stderr };
}

describe("a command whose reader has closed the pipe prints no error and keeps its exit code", () => {
  test.each([
    [["kv", "range"], 0],
    [["kv", "range", "--json"], 0],
    [["kv", "get", "k1"], 0],
    [["kv", "put", "a", "1"], 0],
    [["status"], 0],
    [["status", "--watch", "--interval-ms", "100"], 0],
    [["leader"], 0],
    [["member", "list"], 0],
    [["snapshot", "list", "--json"], 0],
    [["verify"], 0],
    [["kv", "range", "--help"], 0],
  ])("for %j", async (args, code) => {
    expect(await unread(...args)).toEqual({ code, stderr: "" });
  });

  test("for del --json of a missing key", async () => {
    expect(await unread("kv", "del", "nothing", "--json")).toMatchObject({ code: 3 });
  });
});

test("a snapshot whose reader closes the pipe early is not saved, and the command says so", async () => {
  const { code, stderr } = await unread("snapshot", "save", "-");
  expect(code).toBe(1);
  expect(stderr).toMatch(/^cairn: \[FAILED_PRECONDITION\] the reader of standard output closed it before the snapshot/);
});

test("a long-running command, cluster or node, does not end when nobody reads its output", async () => {
  const port = await freePortRange(2);
  const data = await temporaryDirectory();
  const cluster = startCommand(["cluster", "--data", data, "--base-port", `${port}`, "--nodes", "1"]);
  cluster.stopReading();
  const put = ["kv", "put", "a", "1", "--timeout-ms", "20000", "--endpoints", `127.0.0.1:${port}`];
  expect(await runCommand(put)).toMatchObject({ code: 0, stderr: "" });
  expect(await cluster.kill("SIGINT")).toEqual({ code: 0, signal: null });
  expect(cluster.stderr).toBe("");

  const args = ["start", "--id", "n1", "--data", join(data, "n1"), "--listen", `127.0.0.1:${port}`];
  const node = startCommand(args);
  node.stopReading();
  expect(await runCommand(put)).toMatchObject({ code: 0, stderr: "" });
  expect(await node.kill("SIGTERM")).toEqual({ code: 0, signal: null });
  expect(node.stderr).toBe("");
});

test("a value is read from standard input only up to the largest size that a value can have", async () => {
  const command = startCommand(["kv", "put", "endless"], { env: { CAIRN_ENDPOINTS: endpoint } });
  let isOver = false;
  void command.exited.then(() => {
    isOver = true;
  });
  const piece = "x".repeat(64 * 1024);
  const most = (10 * limits.valueBytes) / piece.length;
  // It ends when it has seen enough, and what it was sent after that is lost.
  for (let sent = 0; sent < most && !isOver; sent++) await command.send(piece).catch(() => {});
  expect(await command.ended()).toMatchObject({ code: 1 });
  expect(command.stderr).toMatch(
    /^cairn: \[LIMIT_EXCEEDED\] standard input holds more than \d+ .* limit valueBytes\n$/,
  );
});
