import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { askCommand } from "../support/processes/command_host.js";
import { runCommand, startCommand, startNode } from "../support/processes/processes.js";

let endpoint: string;

beforeAll(async () => {
  const data = await mkdtemp(join(tmpdir(), "cairn-test-json-"));
  const node = await startNode({ id: "n1", data });
  endpoint = node.address;
  return async () => {
    await node.kill();
    await rm(data, { recursive: true, force: true });
  };
});

/** Runs a command that fails. Standard error must be one line of JSON. */
async function failed(args: readonly string[], run = askCommand) {
  const { code, stdout, stderr } = await run(args, { env: { CAIRN_ENDPOINTS: endpoint } });
  expect(stderr).toMatch(/^\{.*\}\n$/);
  const error = JSON.parse(stderr) as { code: string; message: string; advice: string };
  expect(error.advice).toMatch(/^\S.*\.$/);
  return { code, stdout, error };
}

describe("--json prints an error as one line of JSON on standard error, with code, message and advice", () => {
  const start = ["start", "--json", "--id", "a", "--data"];

  test.each<[string[], number, object]>([
    [["kv", "get", "missing"], 3, { code: "NOT_FOUND", message: 'there is no key "missing"' }],
    [
      ["status", "--endpoints", "127.0.0.1:1"],
      1,
      {
        code: "UNREACHABLE",
        message: expect.stringContaining("no node answers: 127.0.0.1:1"),
        advice: expect.stringContaining("CAIRN_ENDPOINTS"),
        retryable: true,
      },
    ],
    [
      ["kv", "get", "a", "--timeout-ms", "500", "--endpoints", "127.0.0.1:1"],
      1,
      { code: "TIMEOUT", advice: expect.stringContaining("CAIRN_ENDPOINTS") },
    ],
    [["kv", "put", "", "1"], 1, { code: "INVALID_ARGUMENT", message: expect.stringContaining("the key is empty") }],
    [["member", "promote", "n9"], 1, { code: "FAILED_PRECONDITION" }],
    [["snapshot", "inspect", "/nonexistent/x"], 1, { code: "NOT_FOUND" }],
    [
      ["kv", "range", "--limit", "0"],
      2,
      {
        code: "INVALID_ARGUMENT",
        message: expect.stringMatching(/^option '--limit <n>' argument '0' is invalid/),
        advice: "See cairn kv range --help.",
      },
    ],
    [["fly"], 2, { code: "INVALID_ARGUMENT", message: "unknown command 'fly'", advice: "See cairn --help." }],
    [["kv", "get"], 2, { code: "INVALID_ARGUMENT", message: "missing required argument 'key'" }],
  ])("for %j", async (args, code, wanted) => {
    expect(await failed([...args, "--json"])).toMatchObject({ code, stdout: "", error: wanted });
  });

  test("and with the present value when a condition is not met", async () => {
    const env = { CAIRN_ENDPOINTS: endpoint };
    const put = await askCommand(["kv", "put", "a", "1", "--json"], { env });
    const { version } = JSON.parse(put.stdout) as { version: number };
    const { code, error } = await failed(["kv", "put", "a", "2", "--if-value", "0", "--json"]);
    expect({ code, error }).toMatchObject({ code: 3, error: { code: "FAILED_PRECONDITION", version, value: "1" } });
  });

  test("for a node that does not start", async () => {
    const data = await temporaryDirectory();
    expect(await failed([...start, data, "--listen", endpoint], runCommand)).toMatchObject({
      code: 1,
      error: { code: "INVALID_ARGUMENT", message: expect.stringContaining("the address is in use") },
    });
    expect(await failed([...start, data, "--cluster", "b=127.0.0.1:1"], runCommand)).toMatchObject({
      code: 2,
      error: { message: expect.stringContaining("not this node, a"), advice: "See cairn start --help." },
    });
  });

  test("for each round of status --watch that reaches no node", async () => {
    const watching = startCommand([
      "status",
      "--watch",
      "--json",
      "--interval-ms",
      "100",
      "--endpoints",
      "127.0.0.1:1",
    ]);
    await watching.waitFor(/UNREACHABLE.*\n.*UNREACHABLE.*\n/);
    expect(await watching.kill("SIGINT")).toEqual({ code: 0, signal: null });
    expect(watching.stdout).toBe("");
    for (const line of watching.stderr.trim().split("\n")) expect(JSON.parse(line)).toHaveProperty("advice");
  });

  test("but not when --json stands behind --", async () => {
    const { code, stderr } = await runCommand(["kv", "get", "--", "--json"], { env: { CAIRN_ENDPOINTS: endpoint } });
    expect({ code, stderr }).toEqual({ code: 3, stderr: 'cairn: there is no key "--json"\n' });
  });
});
