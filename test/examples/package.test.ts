import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { freePortRange } from "../support/ports.js";
import { inRepository, type RunningCommand, startProcess } from "../support/processes.js";

// The package as npm would publish it, installed in an empty TypeScript project. Its dependencies are those of this repository, so that the
// test needs no registry; what the package does not declare, it does not get.

const IDS = ["n1", "n2", "n3"];

function run(cwd: string, file: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(file, args, { cwd, encoding: "utf8" });
  if (status !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

/** The program of the page on embedding. */
function program(): string {
  const page = readFileSync(inRepository("docs/embedding.md"), "utf8");
  return /^```ts\n(.*?)^```$/ms.exec(page)![1]!;
}

/** Makes the project, with the package in its node_modules, and compiles the program as main.ts. */
function makeProject(directory: string, source: string): string {
  const project = join(directory, "project");
  const modules = join(project, "node_modules");
  const installed = join(modules, "cairn-raft");
  mkdirSync(installed, { recursive: true });
  run(inRepository(), "npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", directory);
  const [tarball] = readdirSync(directory).filter((name) => name.endsWith(".tgz"));
  run(directory, "tar", "-xzf", tarball!, "-C", installed, "--strip-components", "1");
  const { dependencies } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  for (const name of [...Object.keys(dependencies), "@types/node"]) {
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(inRepository("node_modules", name), join(modules, name));
  }
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "empty", type: "module" }));
  const compilerOptions = { strict: true, module: "nodenext", target: "es2022", types: ["node"], skipLibCheck: true };
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions }));
  writeFileSync(join(project, "main.ts"), source);
  run(project, process.execPath, inRepository("node_modules/typescript/bin/tsc"), "-p", ".");
  return project;
}

test("the package runs the counter of its page on three members, also when the leader is killed", async () => {
  const directory = await mkdtemp(join(tmpdir(), "cairn-package-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const port = await freePortRange(2);
  const source = program()
    .replaceAll(/127\.0\.0\.1:710(\d)/g, (_, last) => `127.0.0.1:${port + Number(last) - 1}`)
    .replace("sleep(1_000)", "sleep(20)");
  const project = makeProject(directory, source);
  const members = new Map<string, RunningCommand>();
  const start = (id: string) => {
    const member = startProcess(process.execPath, ["main.js", id], { cwd: project });
    members.set(id, member);
    return member;
  };
  const all: RunningCommand[] = IDS.map(start);
  const counted = (member: RunningCommand, times: number) =>
    member.until(`${times} counts`, () => (countsOf([member]).length >= times ? true : undefined));
  for (const member of all) await counted(member, 5);
  const leader = /leader (n\d) in term \d+\n(?!.*leader)/s.exec(members.get("n1")!.stdout)![1]!;
  await members.get(leader)!.kill("SIGKILL");
  const others = IDS.filter((id) => id !== leader).map((id) => members.get(id)!);
  for (const member of others) await counted(member, countsOf([member]).length + 10);
  const back = start(leader);
  all.push(back);
  await counted(back, 5);
  for (const member of members.values()) expect(await member.kill("SIGTERM")).toEqual({ code: 0, signal: null });
  const counts = countsOf(all);
  expect(new Set(counts).size).toBe(counts.length);
  expect(Math.max(...counts)).toBeGreaterThanOrEqual(counts.length);
});

function countsOf(members: readonly RunningCommand[]): number[] {
  return members.flatMap(({ stdout }) => [...stdout.matchAll(/^count (\d+)$/gm)].map(([, count]) => Number(count)));
}
