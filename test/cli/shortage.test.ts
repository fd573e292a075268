import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { CairnClient } from "../../src/client/client.js";
import { fillDisk, mountSmallDisk } from "../support/disk/small_disk.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { startNode } from "../support/processes/processes.js";

function clientOf(address: string): CairnClient {
  const client = new CairnClient({ endpoints: [address] });
  onTestFinished(() => client.close());
  return client;
}

/** Writes until one write fails; returns the error. */
async function untilRefused(client: CairnClient, value: Uint8Array): Promise<unknown> {
  for (let at = 0; at < 100; at++) {
    try {
      await client.put(`k${at}`, value, { timeoutMs: 2_000 });
    } catch (error) {
      return error;
    }
  }
  return undefined;
}

/** Writes again and again until it works. */
async function untilTaken(client: CairnClient): Promise<void> {
  const patience = AbortSignal.timeout(30_000);
  for (;;) {
    try {
      await client.put("last", "1", { timeoutMs: 2_000 });
      return;
    } catch (error) {
      if (patience.aborted) throw error;
    }
  }
}

/** Nothing but the node's own log, a JSON object a line. */
function expectOnlyLog(stderr: string): void {
  for (const line of stderr.split("\n").filter((line) => line !== "")) {
    expect(() => JSON.parse(line), line).not.toThrow();
  }
}

/** Sets how many files a process may have open. */
function limitFiles(pid: number, files: number): void {
  expect(spawnSync("prlimit", ["--pid", `${pid}`, `--nofile=${files}:`]).status).toBe(0);
}

const hasPrlimit = spawnSync("prlimit", ["--version"]).status === 0;

test.runIf(hasPrlimit)(
  "without file descriptors a node refuses calls that need one, keeps running, and resumes",
  async () => {
    const data = await temporaryDirectory();
    const node = await startNode({ id: "a", data, args: ["--segment-bytes", `${4 * 1024 * 1024 + 1}`] });
    const client = clientOf(node.address);
    await client.put("first", "1");
    limitFiles(node.pid, readdirSync(`/proc/${node.pid}/fd`).length);
    expect(String(await untilRefused(client, new Uint8Array(1_000_000)))).toContain("too many files are open");
    expect((await client.get("first"))?.text()).toBe("1");
    limitFiles(node.pid, 1000);
    await untilTaken(client);
    expect(node.command.stderr).toContain("too many open files");
    expectOnlyLog(node.command.stderr);
    expect(await node.kill("SIGTERM")).toEqual({ code: 0, signal: null });
  },
);

describe("a full disk", () => {
  test.each(["SIGKILL", "SIGTERM"] as const)(
    "does not keep a node that ended by %s from starting, answering and resuming",
    async (signal) => {
      const disk = mountSmallDisk();
      // Only root can make one.
      if (disk === undefined) return;
      const node = await startNode({ id: "a", data: join(disk, "a") });
      const client = clientOf(node.address);
      await client.put("first", "1");
      await fillDisk(disk, 0);
      expect(String(await untilRefused(client, new Uint8Array(400_000)))).toContain("the disk is full");
      await node.kill(signal);
      expectOnlyLog(node.command.stderr);

      const again = await startNode({ id: "a", data: join(disk, "a") });
      const reader = clientOf(again.address);
      expect((await reader.get("first", { stale: true }))?.text()).toBe("1");
      await rm(`${disk}/filler`);
      await untilTaken(reader);
      expect((await reader.get("first"))?.text()).toBe("1");
      expectOnlyLog(again.command.stderr);
      expect(await again.kill("SIGTERM")).toEqual({ code: 0, signal: null });
    },
  );
});
