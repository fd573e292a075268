import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { untilAsync } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { askCommand } from "../support/processes/command_host.js";
import { type RunningNode, runCommand, startCommand, startNode } from "../support/processes/processes.js";

/** One node for all of the file; each test has locks and keys of its own. */
let node: RunningNode;
let env: Record<string, string>;

/** Bound of a test in which leases end, in milliseconds. */
const TEST_MS = 180_000;

beforeAll(async () => {
  const data = await mkdtemp(join(tmpdir(), "cairn-test-locks-"));
  node = await startNode({ id: "n1", data });
  env = { CAIRN_ENDPOINTS: node.address };
  return async () => {
    await node.kill();
    await rm(data, { recursive: true, force: true });
  };
});

function cairn(...args: string[]) {
  return askCommand(args, { env });
}

/** The same as a process of its own, which must end when the command is done. */
function cairnProcess(...args: string[]) {
  return runCommand(args, { env });
}

function json(text: string): Record<string, unknown>[] {
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** The state of a process as /proc has it. One that has ended is a zombie until its parent has looked. */
async function stateOf(pid: string): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ") gone");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[0]!;
}

describe("cairn lease", () => {
  test(
    "makes a lease, reports it with its keys, and ends it together with them",
    async () => {
      const { stdout } = await cairnProcess("lease", "grant", "60000");
      const id = stdout.trim();
      expect(await cairn("kv", "put", "lease/a", "1", "--lease", id)).toMatchObject({ code: 0 });
      const ttl = await cairnProcess("lease", "ttl", id, "--keys");
      expect(ttl).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+ ms of 60000 ms, 1 keys\nlease\/a\n$/) });
      const [listed] = json((await cairn("lease", "list", "--json")).stdout);
      expect(listed).toMatchObject({ id: Number(id), ttlMs: 60_000, keyCount: 1, remainingMs: expect.any(Number) });
      expect(await cairnProcess("lease", "revoke", id)).toMatchObject({ code: 0, stdout: "deleted 1\n" });
      expect(await cairn("kv", "get", "lease/a")).toMatchObject({ code: 3 });
      for (const command of ["revoke", "ttl", "keep"])
        expect(await cairn("lease", command, id)).toMatchObject({ code: 3 });
      expect(await cairn("kv", "put", "lease/a", "1", "--lease", id)).toMatchObject({ code: 1 });
    },
    TEST_MS,
  );

  test(
    "keeps a lease alive until a signal, and not afterwards",
    async () => {
      const { stdout } = await cairn("lease", "grant", "20000", "--json");
      const [{ id }] = json(stdout) as [{ id: number }];
      const keep = startCommand(["lease", "keep", `${id}`, "--json"], { env });
      await keep.waitFor(/"event":"kept"/);
      expect(await keep.kill("SIGTERM")).toMatchObject({ code: 0 });
      const [left] = json((await cairn("lease", "ttl", `${id}`, "--json")).stdout);
      expect(left).toMatchObject({ id, ttlMs: 20_000 });
    },
    TEST_MS,
  );

  test.each([
    [["grant", "999"], "expected a whole number from 1000"],
    [["ttl", "x"], "expected a whole number from 1"],
    [["grant"], "missing required argument 'ttl-ms'"],
  ])("refuses %j as a wrong command line", async (args, text) => {
    expect(await cairn("lease", ...args)).toMatchObject({ code: 2, stderr: expect.stringContaining(text) });
  });
});

describe("cairn lock", () => {
  test(
    "gives a command its token and key, passes its output and exit code on, and releases the lock",
    async () => {
      const script = 'echo "$CAIRN_LOCK_TOKEN $CAIRN_LOCK_KEY"; exit 7';
      const done = await cairnProcess("lock", "job", "--", "sh", "-c", script);
      expect(done).toMatchObject({
        code: 7,
        stderr: "",
        stdout: expect.stringMatching(/^\d+ _lock\/job\/[0-9a-f]{12}\n$/),
      });
      expect((await cairn("kv", "range", "_lock/")).stdout).toBe("");
      const again = await cairnProcess("lock", "job", "--json", "--", "sh", "-c", "kill -TERM $$");
      expect(again.code).toBe(128 + 15);
      expect(json(again.stderr)).toMatchObject([
        { event: "locked", name: "job" },
        { event: "ended", code: 143 },
      ]);
      expect(await cairnProcess("lock", "job", "--", "./no-such-command")).toMatchObject({ code: 127 });
    },
    TEST_MS,
  );

  test(
    "waits for its turn, or exits 3 when --wait-ms is over and somebody else holds the lock",
    async () => {
      const holder = startCommand(["lock", "turn", "--json"], { env });
      await holder.waitFor(/"event":"locked"/);
      const refused = await cairnProcess("lock", "turn", "--wait-ms", "0", "--", "echo", "mine");
      expect(refused).toMatchObject({
        code: 3,
        stdout: "",
        stderr: expect.stringContaining("before it is _lock/turn/"),
      });
      const next = startCommand(["lock", "turn", "--", "echo", "mine"], { env });
      expect(await holder.kill("SIGINT")).toMatchObject({ code: 0 });
      expect(await next.exited).toMatchObject({ code: 0 });
      expect(next.stdout).toBe("mine\n");
    },
    TEST_MS,
  );

  test(
    "ends the command and its children when the lock is lost, by SIGKILL when it does not go",
    async () => {
      const directory = await temporaryDirectory();
      const pids = join(directory, "pids");
      // Neither the command nor its child goes at SIGTERM.
      const script = `trap '' TERM; echo $$ > ${pids}; sh -c "trap '' TERM; echo \\$\\$ >> ${pids}; while :; do sleep 0.1; done" & wait; wait`;
      const held = startCommand(["lock", "lost", "--json", "--kill-after-ms", "200", "--", "sh", "-c", script], {
        env,
      });
      const { token, key } = JSON.parse((await held.waitFor(/^\{"event":"locked".*$/m))[0]) as {
        token: number;
        key: string;
      };
      const written = async () => (await readFile(pids, "utf8").catch(() => "")).trim().split("\n");
      await untilAsync(async () => (await written()).length === 2, "the command and its child run");
      const lease = Number.parseInt(key.split("/").at(-1)!, 16);
      expect(await cairn("lease", "revoke", `${lease}`)).toMatchObject({ code: 0 });
      expect(await held.exited).toMatchObject({ code: 1 });
      expect(held.stderr).toMatch(/LEASE_NOT_FOUND/);
      for (const pid of await written()) expect(await stateOf(pid), pid).toMatch(/^(gone|Z)$/);
      // As docs/locks.md shows it: the old holder's write.
      const input = JSON.stringify({
        when: [{ on: key, property: "createVersion", relation: "=", expected: token }],
        then: [{ type: "put", key: "report", value: "done" }],
      });
      expect(await runCommand(["kv", "txn", "--file", "-"], { env, input })).toMatchObject({ code: 3 });
    },
    TEST_MS,
  );
});

test(
  "cairn elect leads until a signal, and observers see each leader",
  async () => {
    const observer = startCommand(["elect", "boss", "--observe", "--json"], { env });
    await observer.waitFor(/"leader":null/);
    const first = startCommand(["elect", "boss", "one", "--json"], { env });
    await first.waitFor(/"event":"elected"/);
    const second = startCommand(["elect", "boss", "two"], { env });
    await observer.waitFor(/"value":"one"/);
    expect(await first.kill("SIGTERM")).toMatchObject({ code: 0 });
    await second.waitFor(/^boss: elected, token \d+$/m);
    await observer.waitFor(/"value":"two"/);
    expect(await observer.kill("SIGINT")).toMatchObject({ code: 0 });
    const values = json(observer.stdout).map(({ leader }) => (leader as { value: string } | null)?.value);
    expect(values.slice(0, 2)).toEqual([undefined, "one"]);
    expect(values.at(-1)).toBe("two");
    expect(await cairn("elect", "boss")).toMatchObject({ code: 2, stderr: expect.stringContaining("'value'") });
  },
  TEST_MS,
);
