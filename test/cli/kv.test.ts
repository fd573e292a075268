import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { askCommand } from "../support/processes/command_host.js";
import { runCommand, startNode } from "../support/processes/processes.js";

/** One node for all of the file; each test has keys of its own. */
let endpoint: string;

beforeAll(async () => {
  const data = await mkdtemp(join(tmpdir(), "cairn-test-kv-"));
  const node = await startNode({ id: "n1", data });
  endpoint = node.address;
  return async () => {
    await node.kill();
    await rm(data, { recursive: true, force: true });
  };
});

function kv(...args: string[]) {
  return askCommand(["kv", ...args], { env: { CAIRN_ENDPOINTS: endpoint } });
}

/** The same as a process of its own, which must end when the command is done. */
function kvProcess(...args: string[]) {
  return runCommand(["kv", ...args], { env: { CAIRN_ENDPOINTS: endpoint } });
}

describe("cairn kv get and put", () => {
  test("return a value as it was written, byte for byte", async () => {
    expect(await kvProcess("put", "bytes/text", "grüße")).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^version \d+\n$/),
    });
    expect(await kvProcess("get", "bytes/text")).toMatchObject({ code: 0, stdout: "grüße", stderr: "" });
  });

  test("read the value from standard input when it is - or left out", async () => {
    const env = { CAIRN_ENDPOINTS: endpoint };
    const input = Buffer.from([0xff, 0x00, 0x0a]);
    await runCommand(["kv", "put", "bytes/raw"], { env, input });
    const { stdout } = await kv("get", "bytes/raw", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ key: "bytes/raw", valueBase64: input.toString("base64") });
    await runCommand(["kv", "put", "bytes/dash", "-"], { env, input: "piped" });
    expect((await kv("get", "bytes/dash", "--stale")).stdout).toBe("piped");
  });

  test("exit 3 for a missing key, with nothing on standard output", async () => {
    expect(await kvProcess("get", "missing")).toMatchObject({
      code: 3,
      stdout: "",
      stderr: 'cairn: there is no key "missing"\n',
    });
  });
});

describe("cairn kv put with a condition", () => {
  test("writes when --if-absent, --if-value or --if-version holds, and prints the present value when it does not", async () => {
    expect((await kv("put", "cas", "1", "--if-absent")).code).toBe(0);
    const taken = await kv("put", "cas", "2", "--if-absent");
    expect(taken).toMatchObject({
      code: 3,
      stdout: "",
      stderr: expect.stringMatching(/has version \d+ and the value "1"/),
    });
    const { stdout } = await kv("put", "cas", "2", "--if-value", "1", "--json");
    const { version } = JSON.parse(stdout) as { version: number };
    expect((await kv("put", "cas", "3", "--if-version", `${version - 1}`)).code).toBe(3);
    expect((await kv("put", "cas", "3", "--if-version", `${version}`)).code).toBe(0);
    expect((await kv("get", "cas")).stdout).toBe("3");
    expect(await kv("put", "none", "1", "--if-value", "x")).toMatchObject({
      code: 3,
      stderr: 'cairn: there is no key "none"\n',
    });
  });

  test("refuses two conditions at once as a wrong command line", async () => {
    expect(await kv("put", "cas", "1", "--if-absent", "--if-value", "1")).toMatchObject({ code: 2 });
  });
});

test("cairn kv del removes a key, and its exit code says whether the key existed", async () => {
  await kv("put", "gone", "1");
  expect(await kvProcess("del", "gone")).toMatchObject({ code: 0, stdout: "", stderr: "" });
  expect(await kv("del", "gone", "--json")).toMatchObject({ code: 3, stdout: '{"deleted":false}\n' });
});

test("cairn kv range prints keys in order, by prefix, after a key, up to a limit", async () => {
  for (const name of ["b", "a", "c"]) await kv("put", `range/${name}`, name.toUpperCase());
  expect((await kvProcess("range", "range/")).stdout).toBe("range/a\tA\nrange/b\tB\nrange/c\tC\n");
  expect((await kv("range", "range/", "--after", "range/a", "--limit", "1", "--keys-only")).stdout).toBe("range/b\n");
  const lines = (await kv("range", "range/", "--json")).stdout.trim().split("\n");
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ value: "A" }, { value: "B" }, { value: "C" }]);
});

describe("a cairn kv command that cannot work", () => {
  test("exits 1 within its timeout when no node answers at the endpoint, and prints the address", async () => {
    const args = ["kv", "get", "a", "--endpoints", "127.0.0.1:1", "--timeout-ms", "1000"];
    expect(await runCommand(args)).toMatchObject({ code: 1, stderr: expect.stringContaining("127.0.0.1:1") });
  });

  test.each([
    [["kv", "get"], "missing required argument 'key'"],
    [["kv", "get", "a", "--endpoints", "nowhere"], "must be host:port"],
    [["kv", "range", "--limit", "0"], "expected a whole number from 1"],
  ])("refuses %j as a wrong command line", async (args, text) => {
    expect(await askCommand(args)).toMatchObject({ code: 2, stderr: expect.stringContaining(text) });
  });
});

describe("cairn kv txn", () => {
  test("carries out --then when all conditions hold, and --else with exit code 3 when one does not", async () => {
    const args = ["--if-missing", "txn/lock", "--then", "put txn/lock it is me", "--then", "put txn/b 2"];
    const done = await kvProcess("txn", ...args, "--else", "get txn/lock");
    expect(done).toMatchObject({ code: 0, stdout: expect.stringMatching(/^then, version \d+\nput\nput\n$/) });
    const refused = await kv("txn", ...args, "--else", "get txn/lock", "--else", "get txn/none");
    const lines = /^else, version \d+\ntxn\/lock\tit is me\nthere is no key "txn\/none"\n$/;
    expect(refused).toMatchObject({ code: 3, stdout: expect.stringMatching(lines), stderr: "" });
    const { stdout } = await kv("txn", "--if", "txn/b=2", "--then", "range txn/ 1", "--then", "del txn/b", "--json");
    const version = expect.any(Number);
    expect(JSON.parse(stdout)).toEqual({
      succeeded: true,
      version,
      results: [
        {
          type: "range",
          found: [{ key: "txn/b", value: "2", version, createVersion: version }],
          more: true,
        },
        { type: "delete", deleted: true },
      ],
    });
    const [, at] = /version (\d+)/.exec(done.stdout)!;
    const removed = await kv("txn", "--if-version", `txn/lock=${at}`, "--then", "del-range txn/");
    expect(removed).toMatchObject({ code: 0, stdout: expect.stringMatching(/\ndeleted 1\n$/) });
  });

  test("reads a document from standard input", async () => {
    const env = { CAIRN_ENDPOINTS: endpoint };
    const input = JSON.stringify({
      when: [{ on: { prefix: "doc/" }, property: "exists", relation: "=", expected: false }],
      then: [{ type: "put", key: "doc/a", value: { json: [1] } }],
      else: [{ type: "get", key: "doc/a" }],
    });
    const run = () => askCommand(["kv", "txn", "--file", "-", "--json"], { env, input });
    expect(await run()).toMatchObject({ code: 0 });
    const { code, stdout } = await run();
    expect([code, JSON.parse(stdout).results[0].found.value]).toEqual([3, "[1]"]);
    const wrong = await askCommand(["kv", "txn", "--file", "-"], { env, input: '{"if": []}' });
    expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('it has a field "if"') });
  });

  test.each([
    [["--then", "swap a"], "expected put, get, del, range or del-range"],
    [["--then", "put a"], "expected put KEY VALUE"],
    [["--if", "a"], "expected key=value"],
    [["--if-version", "a=x"], "expected a whole number from 0"],
  ])("refuses %j as a wrong command line", async (args, text) => {
    expect(await kv("txn", ...args)).toMatchObject({ code: 2, stderr: expect.stringContaining(text) });
  });
});
