import { closeSync, openSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { save } from "../../src/cli/commands/snapshot/snapshots.js";
import { type ProgressDisplay, progressOn, progressText } from "../../src/cli/output/progress.js";
import { toStandardOutput } from "../../src/cli/output/snapshot_target.js";
import { ClusterAdmin } from "../../src/client/admin/cluster_admin.js";
import { addService } from "../../src/rpc/server.js";
import { failure, until } from "../support/conditions.js";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { putEntries, snapshotOf } from "../support/nodes/acting_leader.js";
import { loopback } from "../support/nodes/loopback.js";
import { runCommand, startCommand } from "../support/processes/processes.js";

/** A node that sends a snapshot in pieces of 100 bytes: all of it, or only the first so many pieces, and then nothing for ever. */
async function sender(settings: { readonly pieces?: number; readonly announced?: Uint8Array } = {}) {
  const snapshot = await snapshotOf(putEntries(1, 200));
  const { file } = snapshot;
  const { address } = await loopback((server) =>
    addService(server, AdminService, {
      async getStatus() {
        return { nodeId: "n1", term: 1n };
      },
      async *downloadSnapshot(_request, { signal }) {
        const sha256 = settings.announced ?? snapshot.sha256;
        yield { info: { index: 200n, term: 1n, fileBytes: BigInt(file.byteLength), sha256 } };
        for (let at = 0, sent = 0; at < file.byteLength; at += 100, sent++) {
          if (sent === settings.pieces) await new Promise((resolve) => signal.addEventListener("abort", resolve));
          yield { data: file.subarray(at, at + 100) };
        }
      },
    }),
  );
  return { address, file };
}

test("a saved snapshot has the announced digest, and progress is printed up to the end", async () => {
  const { address, file } = await sender();
  const admin = new ClusterAdmin([address]);
  const seen: number[] = [];
  let ended = 0;
  const progress: ProgressDisplay = {
    update(doneBytes, totalBytes) {
      expect(totalBytes).toBe(file.byteLength);
      seen.push(doneBytes);
    },
    end: () => ended++,
  };
  const directory = await temporaryDirectory();
  await save(admin, undefined, 0, join(directory, "x.snap"), { progress }).finally(() => admin.close());
  // It holds all that users have written.
  expect((await stat(join(directory, "x.snap"))).mode & 0o777).toBe(0o600);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect([seen.length > 5, seen.at(-1), ended]).toEqual([true, file.byteLength, 1]);
});

test("a snapshot with good checksums and another digest than announced is refused, and nothing is left", async () => {
  const { address } = await sender({ announced: new Uint8Array(32) });
  const admin = new ClusterAdmin([address]);
  const directory = await temporaryDirectory();
  const saved = save(admin, undefined, 0, join(directory, "x.snap")).finally(() => admin.close());
  await failure("CORRUPT", saved, /n1 has announced SHA-256 0000.* and sent a snapshot with SHA-256 [0-9a-f]{64}/);
  expect(await readdir(directory)).toEqual([]);
});

test("SIGINT removes the part of a snapshot that was written, and exits 130", async () => {
  const { address } = await sender({ pieces: 3 });
  const directory = await temporaryDirectory();
  const args = ["snapshot", "save", join(directory, "x.snap"), "--endpoints", address];
  const saving = startCommand(args);
  let names: string[] = [];
  await until(() => {
    void readdir(directory).then((found) => {
      names = found;
    });
    return names.includes("x.snap.part");
  }, "the part file is there");
  expect(await saving.kill("SIGINT")).toEqual({ code: 130, signal: null });
  expect(await readdir(directory)).toEqual([]);
  expect(saving).toMatchObject({ stdout: "", stderr: "" });
});

test("saving a snapshot without a terminal prints no progress to standard error", async () => {
  const { address } = await sender();
  const directory = await temporaryDirectory();
  const file = join(directory, "x.snap");
  const saved = await runCommand(["snapshot", "save", file, "--endpoints", address]);
  expect(saved).toMatchObject({ code: 0, stderr: "" });
  expect(saved.stdout).toMatch(/^saved to .*x\.snap, from n1\nindex 200, term 1, \d+ bytes, SHA-256 [0-9a-f]{64}\n$/);
});

describe("cairn snapshot save to standard output (-)", () => {
  test("writes the snapshot and nothing else; standard error names the snapshot", async () => {
    const { address, file } = await sender();
    const directory = await temporaryDirectory();
    const path = join(directory, "x.snap");
    const output = openSync(path, "w");
    const options = { stdout: output, cwd: directory };
    const saved = await runCommand(["snapshot", "save", "-", "--json", "--endpoints", address], options);
    closeSync(output);
    expect(saved.code).toBe(0);
    expect(JSON.parse(saved.stderr)).toMatchObject({ node: "n1", file: "-", snapshot: { index: 200 } });
    expect(Buffer.compare(await readFile(path), file)).toBe(0);
    expect(await readdir(directory)).toEqual(["x.snap"]);
  });

  test("fails when the bytes are not the announced snapshot", async () => {
    const { address } = await sender({ announced: new Uint8Array(32) });
    const saved = await runCommand(["snapshot", "save", "-", "--endpoints", address]);
    expect(saved).toMatchObject({ code: 1, stderr: expect.stringContaining("[CORRUPT] n1 has announced") });
  });

  test("refuses a terminal", async () => {
    await failure("FAILED_PRECONDITION", () => toStandardOutput(true), "standard output is a terminal");
  });

  test.each([
    ["inspect", []],
    ["restore", ["--id", "n1", "--data", "./n1", "--cluster", "n1=127.0.0.1:1"]],
  ])("has no counterpart in %s, which refuses to read standard input", async (command, more) => {
    const { code, stderr } = await runCommand(["snapshot", command, "-", ...more]);
    expect(code).toBe(2);
    expect(stderr).toContain("cannot read standard input");
  });
});

test.each([
  [0, 0, 0, "100 %  0.0 of 0.0 MB"],
  [0, 5e6, 9_000, "  0 %  0.0 of 5.0 MB"],
  [1e6, 5e6, 100, " 20 %  1.0 of 5.0 MB"],
  [42e7, 1e9, 4_000, " 42 %  420.0 of 1000.0 MB  105.0 MB/s  6 s left"],
  [1e9, 100e9, 10_000, "  1 %  1000.0 of 100000.0 MB  100.0 MB/s  16 min 30 s left"],
  [1e9, 1_000e9, 10_000, "  0 %  1000.0 of 1000000.0 MB  100.0 MB/s  2 h 46 min left"],
  [5e6, 5e6, 1_000, "100 %  5.0 of 5.0 MB  5.0 MB/s  0 s left"],
])("the progress of %d of %d bytes after %d ms reads %s", (done, total, elapsed, text) => {
  expect(progressText(done, total, elapsed)).toBe(text);
});

test("the progress line of a terminal is redrawn in place, shows 100 % at last, and is removed at the end", () => {
  const written: string[] = [];
  const stream = { isTTY: true, write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream;
  const progress = progressOn(stream);
  for (let done = 1; done <= 1_000; done++) progress.update(done * 1_000, 1e6);
  progress.end();
  expect(written.length).toBeLessThan(100);
  expect(written[0]).toMatch(/^\r {2}0 % {2}0\.0 of 1\.0 MB/);
  expect(written.at(-2)).toMatch(/^\r100 % {2}1\.0 of 1\.0 MB/);
  expect(written.at(-1)).toBe("\r\x1b[K");
});
