import { spawnSync } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../support/disk/temporary_directory.js";
import { ProcessCluster } from "../support/processes/process_cluster.js";
import { runCommand } from "../support/processes/processes.js";

/** Candidates that bash offers for the last of these words. */
function completed(script: string, ...words: string[]): string[] {
  const list = words.map((word) => `'${word}'`).join(" ");
  const ask = `COMP_WORDS=(${list}); COMP_CWORD=${words.length - 1}; _cairn; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync("bash", ["--norc", "-c", `${script}\n${ask}`], { encoding: "utf8" });
  expect(stderr).toBe("");
  return stdout.trim().split("\n");
}

test("the operator's tools show a node's log, find what is wrong, measure, and complete command lines", async () => {
  const directory = await temporaryDirectory();
  const cluster = await ProcessCluster.start(directory, ["n1"], ["--tick-ms", "30"]);
  const { address, data } = cluster.get("n1");
  const endpoints = ["--endpoints", address];
  await cluster.put(new Map([["user:1", "secret"]]));

  const [running, healthy] = await Promise.all([
    runCommand(["wal", "verify", data, "--json"]),
    runCommand(["doctor", ...endpoints, "--json"]),
  ]);
  expect(running.code).toBe(1);
  expect(JSON.parse(running.stderr)).toMatchObject({
    code: "DATA_DIRECTORY",
    message: expect.stringContaining("is in use by pid"),
  });

  expect(healthy).toMatchObject({ code: 0, stderr: "" });
  const { problems, findings } = JSON.parse(healthy.stdout) as { problems: number; findings: { subject: string }[] };
  expect(problems).toBe(0);
  expect(findings.map(({ subject }) => subject)).toEqual(
    expect.arrayContaining(["leader", "quorum", "voters", "member n1", "versions", "limits", "memory", "disk", "log"]),
  );

  const bench = await runCommand([
    "bench",
    ...endpoints,
    "--seconds",
    "1",
    "--callers",
    "4",
    "--read-percent",
    "50",
    "--keys",
    "20",
    "--json",
  ]);
  expect(bench.code).toBe(0);
  const lines = bench.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines.map(({ type }) => type)).toEqual(["second", "result"]);
  expect(lines[1]).toMatchObject({
    errors: 0,
    writes: { calls: expect.any(Number) },
    reads: { p99Ms: expect.any(Number) },
  });
  const refused = await runCommand(["bench", ...endpoints, "--prefix", "user:", "--json"]);
  expect(refused.code).toBe(1);
  expect(JSON.parse(refused.stderr)).toMatchObject({ code: "FAILED_PRECONDITION" });
  // Its own keys are gone, and no other was touched.
  expect((await runCommand(["kv", "range", ...endpoints])).stdout).toBe("user:1\tsecret\n");

  expect((await runCommand(["snapshot", "take", ...endpoints])).code).toBe(0);
  await cluster.kill("n1", "SIGTERM");
  const [verified, dumped, text, { stdout: script }, { stdout: fish }] = await Promise.all([
    runCommand(["snapshot", "verify", data, "--json"]),
    runCommand(["wal", "dump", data, "--keys", "--json"]),
    runCommand(["wal", "dump", data, "--keys", "--from", "3", "--to", "3"]),
    runCommand(["completion", "bash"]),
    runCommand(["completion", "fish"]),
  ]);
  expect(verified).toMatchObject({ code: 0, stderr: "" });
  expect(JSON.parse(verified.stdout)).toMatchObject({ verified: true, files: [{ verified: true }] });

  expect(dumped).toMatchObject({ code: 0, stderr: "" });
  const parts = dumped.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(parts[0]).toMatchObject({ type: "segment" });
  expect(parts).toContainEqual(
    expect.objectContaining({
      type: "entry",
      kind: "command",
      command: expect.stringMatching(/^put user:1 \(6 bytes\)/),
    }),
  );
  expect(parts.at(-1)).toMatchObject({ type: "log", sound: true });
  expect(dumped.stdout).not.toContain("secret");
  expect(text.stdout).toMatch(/\n +3 {2}term \d+ +command +\d+ bytes {2}put user:1 \(6 bytes\)/);
  expect(text.stdout).not.toMatch(/\n +4 {2}term/);

  const [segment] = await readdir(join(data, "wal"));
  const path = join(data, "wal", segment!);
  const bytes = await readFile(path);
  const at = bytes.indexOf("user:1");
  bytes[at]! ^= 1;
  await writeFile(path, bytes);
  const [damaged, ill] = await Promise.all([
    runCommand(["wal", "verify", data]),
    runCommand(["doctor", data, "--json"]),
  ]);
  expect(damaged).toMatchObject({ code: 3, stderr: "" });
  expect(damaged.stdout).toMatch(/--- DAMAGED: .* is damaged at offset \d+: .* had been durable; entry 3 is lost\n/);
  expect(damaged.stdout).toContain("NOT SOUND: a start refuses this log. No other voter is known here.");
  expect((await readFile(path)).equals(bytes)).toBe(true);
  expect(ill.code).toBe(3);
  expect(JSON.parse(ill.stdout).findings).toContainEqual(expect.objectContaining({ subject: "log", level: "problem" }));

  expect(completed(script, "cairn", "wa")).toEqual(["wal"]);
  expect(completed(script, "cairn", "wal", "")).toEqual(expect.arrayContaining(["dump", "verify"]));
  expect(completed(script, "cairn", "kv", "get", "--st")).toEqual(["--stale"]);
  expect(completed(script, "cairn", "start", "--id", "n1", "--elections", "")).toEqual(["automatic", "manual"]);
  expect(completed(script, "cairn", "completion", "f")).toEqual(["fish"]);
  expect(fish).toContain("complete -c cairn -n '__cairn_at wal' -f -a 'dump'");
  await cluster.close();
});
