import { closeSync, openSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { runCommand, startCommand, startNode, startProcess } from "../support/processes/processes.js";
import { bodyOf, INIT, request } from "./support.js";

/** An environment whose temporary folder is the test's own. */
async function ownTemporaryFolder() {
  const folder = await temporaryDirectory();
  return { env: { TMPDIR: folder }, left: () => readdir(folder) };
}

describe("cairn gateway", () => {
  test("prints nothing but replies to standard output, and exits 0 at the end of input", async () => {
    const { env, left } = await ownTemporaryFolder();
    const input = [INIT, "nonsense", request("write", { key: "x", value: 1 }), request("get_state")].join("\n");
    const { code, stdout, stderr } = await runCommand(["gateway"], { input, env });
    expect(code).toBe(0);
    expect(stdout.trimEnd().split("\n").map(bodyOf)).toEqual([
      { type: "init_ok", in_reply_to: 1, msg_id: 0 },
      { type: "write_ok", in_reply_to: 2, msg_id: 1 },
      { type: "get_state_ok", in_reply_to: 2, msg_id: 2, state: { x: 1 }, last_applied: 2 },
    ]);
    expect(stderr).toMatch(/^cairn gateway: line 2 skipped: it is not JSON/);
    expect(await left()).toEqual([]);
  });

  test("exits 0 without any input", async () => {
    expect(await runCommand(["gateway"])).toEqual({ code: 0, signal: null, stdout: "", stderr: "" });
  });

  test("replies while its input is open", async () => {
    const gateway = startCommand(["gateway"]);
    await gateway.send(INIT);
    expect(bodyOf(await gateway.nextLine())).toMatchObject({ type: "init_ok" });
    await gateway.send(request("get_log_info"));
    expect(bodyOf(await gateway.nextLine())).toMatchObject({ type: "get_log_info_ok" });
    gateway.stdin.end();
    expect(await gateway.ended()).toEqual({ code: 0, signal: null });
  });

  test("prints Python's separators with --json-style spaced", async () => {
    const { stdout } = await runCommand(["gateway", "--json-style", "spaced"], { input: INIT });
    expect(stdout).toBe('{"src": "n1", "dest": "c0", "body": {"type": "init_ok", "in_reply_to": 1, "msg_id": 0}}\n');
  });

  test.each(["SIGINT", "SIGTERM"] as const)("exits 0 on %s, and leaves nothing behind", async (signal) => {
    const { env, left } = await ownTemporaryFolder();
    const gateway = startCommand(["gateway"], { env });
    await gateway.send(INIT);
    await gateway.nextLine();
    expect(await left()).toHaveLength(1);
    expect(await gateway.kill(signal)).toEqual({ code: 0, signal: null });
    expect(gateway.stderr).toBe("");
    expect(await left()).toEqual([]);
  });

  test("exits 0 on SIGTERM in the middle of requests, and leaves nothing behind", async () => {
    const { env, left } = await ownTemporaryFolder();
    const gateway = startCommand(["gateway", "--log-level", "silent"], { env });
    await gateway.send(INIT);
    const write = request("write", { key: "x", value: "v".repeat(100_000) });
    const sending = (async () => {
      for (let count = 0; count < 500; count++) await gateway.send(write);
    })();
    sending.catch(() => {});
    await gateway.waitFor(/write_ok/);
    expect(await gateway.kill("SIGTERM")).toEqual({ code: 0, signal: null });
    expect(await left()).toEqual([]);
  });

  test("exits 0 and leaves nothing behind when its reader goes away", async () => {
    const { env, left } = await ownTemporaryFolder();
    const gateway = startCommand(["gateway"], { env });
    await gateway.send(INIT);
    await gateway.nextLine();
    gateway.stopReading();
    for (let count = 0; count < 10; count++) await gateway.send(request("get_log_info"));
    expect(await gateway.ended()).toEqual({ code: 0, signal: null });
    expect(gateway.stderr).toBe("");
    expect(await left()).toEqual([]);
  });

  test("ends without an error in the shell when its reader takes only one line", async () => {
    const command = `yes '${request("get_log_info")}' | node dist/cli/main.js gateway 2>&1 | head -n 1`;
    const shell = startProcess("bash", ["-c", `set -o pipefail; ${command}; echo "\${PIPESTATUS[1]}"`]);
    expect(await shell.ended()).toEqual({ code: 0, signal: null });
    const [reply, status] = shell.stdout.split("\n");
    expect(bodyOf(reply!)).toMatchObject({ type: "error", code: 11 });
    expect(status).toBe("0");
  });

  test("exits 1 when its replies cannot be written", async () => {
    let full: number;
    try {
      full = openSync("/dev/full", "w");
    } catch {
      return console.log("skipped: this system has no /dev/full");
    }
    const { env, left } = await ownTemporaryFolder();
    const gateway = startCommand(["gateway"], { env, stdout: full });
    closeSync(full);
    gateway.stdin.end(`${INIT}\n`);
    expect(await gateway.ended()).toEqual({ code: 1, signal: null });
    expect(gateway.stderr).toMatch(/^cairn: cannot write the replies: ENOSPC/);
    expect(await left()).toEqual([]);
  });

  test("answers error 11 at once when a node cannot be reached", async () => {
    // If it waited for this, it would not end while the test looks.
    const args = ["gateway", "--nodes", "n1=127.0.0.1:1", "--timeout-ms", "600000"];
    const { code, stdout } = await runCommand(args, {
      input: `${INIT}\n${request("get_state")}\n${request("write", { key: "x", value: 1 })}\n`,
    });
    expect(code).toBe(0);
    const replies = stdout.trimEnd().split("\n").map(bodyOf);
    expect(replies).toEqual([
      expect.objectContaining({
        type: "error",
        code: 11,
        text: expect.stringContaining("127.0.0.1:1 cannot be reached"),
      }),
      expect.objectContaining({ type: "error", code: 11 }),
      expect.objectContaining({ type: "error", code: 11 }),
    ]);
  });

  test("answers error 11 for a data directory that is in use, and keeps running", async () => {
    const data = await temporaryDirectory();
    const holder = await startNode({
      id: "n1",
      data: join(data, "n1"),
      args: ["--cluster-id", "gateway", "--elections", "manual"],
    });
    const gateway = startCommand(["gateway", "--data-dir", data, "--log-level", "silent"]);
    await gateway.send(INIT);
    const refused = bodyOf(await gateway.nextLine());
    expect(refused).toMatchObject({ type: "error", code: 11 });
    expect(refused.text).toContain(`in use by pid ${holder.pid}. Stop that process, or choose another directory.`);
    await holder.kill("SIGTERM");
    await gateway.send(INIT);
    expect(bodyOf(await gateway.nextLine())).toMatchObject({ type: "init_ok" });
  });

  test("keeps the data in --data-dir, and unlocks the directory at the end", async () => {
    const args = ["gateway", "--data-dir", join(await temporaryDirectory(), "made", "by", "it")];
    const write = request("write", { key: "x", value: [1] });
    expect(await runCommand(args, { input: `${INIT}\n${write}\n` })).toMatchObject({ code: 0 });
    const { stdout } = await runCommand(args, { input: `${INIT}\n${request("read", { key: "x" })}\n` });
    expect(stdout).toContain('"type":"read_ok","in_reply_to":2,"msg_id":1,"value":[1]');
  });

  test("logs JSON to standard error with --log-level info", async () => {
    const { stderr } = await runCommand(["gateway", "--log-level", "info"], { input: INIT });
    const logged = stderr
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(logged).toContainEqual(expect.objectContaining({ msg: "node listens", node: "n1" }));
  });
});
