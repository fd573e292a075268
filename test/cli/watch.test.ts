import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { CairnClient } from "../../src/client.js";
import { askCommand } from "../support/processes/command_host.js";
import { type RunningNode, runCommand, startCommand, startNode } from "../support/processes/processes.js";

let node: RunningNode;
let client: CairnClient;

beforeAll(async () => {
  const data = await mkdtemp(join(tmpdir(), "cairn-test-watch-"));
  node = await startNode({ id: "n1", data, args: ["--trailing-log-bytes", "0"] });
  client = new CairnClient({ endpoints: [node.address], timeoutMs: 60_000 });
  return async () => {
    await client.close();
    await node.kill();
    await rm(data, { recursive: true, force: true });
  };
});

function env() {
  return { CAIRN_ENDPOINTS: node.address };
}

function watch(...args: string[]) {
  return startCommand(["kv", "watch", ...args], { env: env() });
}

describe("cairn kv watch", () => {
  test.each(["SIGINT", "SIGTERM"] as const)(
    "prints existing keys, then each change, a line each, and exits 0 on %s",
    async (signal) => {
      const key = `lines/${signal}`;
      const first = await client.put(key, "1");
      const command = watch("--prefix", "lines/", "--initial");
      const existing = await command.waitFor(/^.*\tlisted$/m);
      expect(command.stdout.split("\n")).toContain(`${first}\texisting\t${key}\t1`);
      expect(Number.parseInt(existing[0], 10)).toBeGreaterThanOrEqual(first);
      const before = command.stdout.length;
      const second = await client.put(key, "two\nlines");
      await client.put("other", "1");
      await client.delete(key);
      await command.waitFor(/\tdelete\t/);
      expect(command.stdout.slice(before)).toMatch(
        new RegExp(`^${second}\tput\t${key}\t"two\\\\nlines"\n${second + 2}\tdelete\t${key}\n$`),
      );
      expect(await command.kill(signal)).toEqual({ code: 0, signal: null });
      expect(command.stderr).toBe("");
    },
  );

  test("prints JSON with tokens, and resumes behind a token", async () => {
    const first = await client.put("json/a", "1");
    const second = await client.put("json/a", "2");
    const one = await runCommand(["kv", "watch", "json/a", "--from", `${first}`, "--limit", "1", "--json"], {
      env: env(),
    });
    expect([one.code, one.stderr]).toEqual([0, ""]);
    const event = JSON.parse(one.stdout);
    const token = expect.stringMatching(new RegExp(`^.+:${first}$`));
    expect(event).toEqual({ type: "put", index: first, token, more: false, key: "json/a", value: "1", created: true });
    const next = watch("json/a", "--from", event.token, "--json", "--previous", "--limit", "2");
    expect(JSON.parse(await next.nextLine())).toMatchObject({ index: second, value: "2", created: false });
    await client.delete("json/a");
    expect(JSON.parse(await next.nextLine())).toMatchObject({
      type: "delete",
      expired: false,
      previous: { value: "2", version: second },
    });
    expect(await next.ended()).toEqual({ code: 0, signal: null });
  });

  test("prints the value before a change when asked, and only the wanted changes", async () => {
    const command = watch("--start", "only/", "--end", "only/b", "--initial", "--previous", "--only", "deletes");
    await command.waitFor(/\tlisted\n/);
    await client.put("only/a", "1");
    await client.put("only/b", "1");
    await client.delete("only/b");
    await client.delete("only/a");
    await command.waitFor(/\tdelete\t.*\n/);
    expect(command.stdout).toMatch(/^\d+\tlisted\n\d+\tdelete\tonly\/a\t1\n$/);
    await command.kill("SIGINT");
  });

  test("exits 0 without a word when its reader has gone away", async () => {
    const command = watch("gone", "--initial");
    await command.waitFor(/listed/);
    command.stopReading();
    await client.put("gone", "1");
    expect(await command.ended()).toEqual({ code: 0, signal: null });
    expect(command.stderr).toBe("");
  });

  test("exits 2 for a wrong command line, and 1 for a token that is none", async () => {
    for (const args of [
      ["a", "--prefix", "b"],
      ["--prefix", "a", "--start", "b"],
      ["a", "--from", "1", "--initial"],
      ["a", "--only", "gets"],
    ]) {
      expect(await askCommand(["kv", "watch", ...args], { env: env() })).toMatchObject({ code: 2, stdout: "" });
    }
    const refused = await askCommand(["kv", "watch", "a", "--from", "x"], { env: env() });
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toMatch(/INVALID_ARGUMENT.*from must be a token/);
    const other = await askCommand(["kv", "watch", "a", "--from", "another:1"], { env: env() });
    expect(other).toMatchObject({ code: 1, stderr: expect.stringMatching(/WRONG_CLUSTER/) });
  });

  test("names the oldest index when the history is gone, from which it may begin", async () => {
    for (let snapshots = 0; snapshots < 2; snapshots++) {
      await client.put("history", `${snapshots}`);
      await askCommand(["snapshot", "take"], { env: env() });
    }
    const last = await client.put("history", "last");
    const gone = await runCommand(["kv", "watch", "history", "--from", "1", "--json"], { env: env() });
    expect([gone.code, gone.stdout]).toEqual([1, ""]);
    const { code, oldestIndex } = JSON.parse(gone.stderr);
    expect(code).toBe("OUT_OF_RANGE");
    const args = ["kv", "watch", "history", "--from", `${oldestIndex}`, "--limit", "2"];
    const { stdout } = await runCommand(args, { env: env() });
    expect(stdout).toMatch(new RegExp(`^\\d+\tput\thistory\t1\n${last}\tput\thistory\tlast\n$`));
  });
});
