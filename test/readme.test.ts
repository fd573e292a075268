import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { transform } from "esbuild";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { findGrpcurl } from "./support/processes/grpcurl.js";
import { freePortRange } from "./support/processes/ports.js";
import { inRepository, type RunningCommand, startCommand, startProcess } from "./support/processes/processes.js";
import { blocksOf, commandsOf } from "./support/repository/documents.js";

// The commands and examples of the README and the documents run here as they stand there. Only ports and places of files differ, and
// `npx` is left out, which would only cost time.

const PORT = 7101;
const CAIRN = `${process.execPath} ${inRepository("dist/cli/main.js")}`;
const grpcurl = findGrpcurl();

describe("the examples of the gateway's input", () => {
  const examples = ["README.md", "docs/gateway.md"].flatMap((path) => {
    const all = blocksOf(path);
    return all.flatMap(({ text }, at) =>
      text.startsWith("npx cairn gateway <<") ? [[path, text, all[at + 1]?.text ?? ""] as const] : [],
    );
  });

  test("are found in the documents", () =>
    expect(examples.map(([path]) => path)).toEqual(["README.md", ...Array(2).fill("docs/gateway.md")]));

  test.each(examples)("are answered as %s says: %#", async (_, command, answers) => {
    const shell = startProcess("sh", ["-c", command.replaceAll("npx cairn", CAIRN)]);
    shell.stdin.end();
    expect(await shell.ended()).toEqual({ code: 0, signal: null });
    expect(shell.stdout).toBe(answers);
  });
});

describe("the commands and examples for a cluster", () => {
  let directory: string;
  let port: number;
  let cluster: RunningCommand;
  let endpoints: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cairn-readme-"));
    // One more than the cluster has: docs/operations.md adds a member.
    port = await freePortRange(4);
    endpoints = [0, 1, 2].map((at) => `127.0.0.1:${port + at}`).join(",");
    const args = ["cluster", "--data", join(directory, "cluster"), "--base-port", `${port}`];
    cluster = startCommand(args, { outlivesTest: true });
    await cluster.waitFor(/Ctrl-C stops all/);
  });
  afterAll(async () => {
    // Its nodes write until they have ended.
    await cluster?.kill("SIGINT");
    await rm(directory, { recursive: true, force: true });
  });

  /** Text of a document, for this cluster. */
  function here(text: string): string {
    return text
      .replaceAll(/127\.0\.0\.1:71(\d\d)/g, (_, last) => `127.0.0.1:${port + Number(`71${last}`) - PORT}`)
      .replaceAll(/\.\/(?=\w)/g, `${directory}/`)
      .replaceAll("npx cairn", CAIRN)
      .replaceAll("npx buf", inRepository("node_modules/.bin/buf"))
      .replace(/^grpcurl/, grpcurl ?? "grpcurl");
  }

  function type(line: string): RunningCommand {
    return startProcess("sh", ["-c", `exec ${here(line)}`], { env: { CAIRN_ENDPOINTS: endpoints } });
  }

  async function outputOf(line: string): Promise<string> {
    const shell = type(line);
    shell.stdin.end();
    const exit = await shell.ended();
    expect(exit, `${line}\n${shell.stdout}\n${shell.stderr}`).toEqual({ code: 0, signal: null });
    return shell.stdout;
  }

  async function outputOfScript(code: string): Promise<string> {
    const node = startProcess(process.execPath, ["--input-type=module", "--eval", code]);
    node.stdin.end();
    expect(await node.ended(), node.stderr).toEqual({ code: 0, signal: null });
    return node.stdout;
  }

  const expected: Readonly<Record<string, RegExp>> = {
    "KeyValueService/Get": /"value": ?"MQ=="/,
    "kv get greeting": /^hello\n?$/,
    "kv range": /greeting/,
    "cairn status": /leader/,
    "AdminService/GetStatus": /"clusterId"/,
  };

  test.each([
    ["README.md", "Ways in"],
    ["docs/quickstart.md", "A cluster on this machine"],
  ])("work in %s: %s", async (path, chapter) => {
    for (const line of commandsOf(path, chapter)) {
      if (line.startsWith("grpcurl") && grpcurl === undefined) {
        console.log(`skipped, there is no grpcurl: ${line}`);
        // What it would have put.
        if (line.includes("/Put")) await outputOf("npx cairn kv put x 1");
        continue;
      }
      const output = await outputOf(line);
      for (const [part, pattern] of Object.entries(expected)) if (line.includes(part)) expect(output).toMatch(pattern);
    }
  });

  test.each([
    ["README.md", /^\{ name: 'Ada' \}\n$/],
    ["docs/client.md", /^\{ name: 'Ada' \}\nuser:1 \d+\n$/],
  ])("work as the client of %s", async (path, output) => {
    const code = blocksOf(path).find(({ language }) => language === "ts");
    expect(await outputOfScript(here(code!.text))).toMatch(output);
  });

  const embedded = blocksOf("docs/embedding.md").filter(({ language }) => language === "ts");
  // The first one is installed, compiled and run on three members by test/examples/package.test.ts, which compiles the third one, too.
  test.each([
    [2, "1\n1\n"],
    [3, "hello\n"],
  ])("run as example %i of docs/embedding.md", async (number, output) => {
    const code = here(embedded[number - 1]!.text);
    if (number === 2) await compile(code);
    expect(await outputOfScript((await transform(code, { loader: "ts", target: "es2022" })).code)).toBe(output);
  });

  test("work as the everyday commands, backup and restore of docs/operations.md", async () => {
    for (const line of commandsOf("docs/operations.md", "Everyday commands")) {
      const isEndless = / --watch$/.test(line) || line.includes(" start ");
      if (!isEndless) {
        await outputOf(line);
        continue;
      }
      const command = type(line);
      await command.waitFor(line.includes(" start ") ? /is a learner of cluster/ : /leader/);
      if (line.includes(" --watch")) await command.kill("SIGINT");
    }
    for (const line of commandsOf("docs/operations.md", "Backup")) await outputOf(line);
    // The ports of the restored nodes are in use here.
    const restoring = commandsOf("docs/operations.md", "Restore").filter((line) => !line.includes(" start "));
    expect(restoring).toHaveLength(3);
    for (const line of restoring) await outputOf(line);
  });
});

/** Checks the types of an example, as an application in this repository would have them. */
async function compile(code: string): Promise<void> {
  // Inside the package, so that its own name leads to it; not below node_modules, where names end.
  await mkdir(inRepository("dist"), { recursive: true });
  const directory = await mkdtemp(inRepository("dist/example-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  await writeFile(join(directory, "example.ts"), code);
  const options = { extends: "../../tsconfig.json", compilerOptions: { noEmit: true, rootDir: "../.." } };
  await writeFile(join(directory, "tsconfig.json"), JSON.stringify({ ...options, files: ["example.ts"], include: [] }));
  const compiler = join(createRequire(import.meta.url).resolve("typescript/package.json"), "../bin/tsc");
  const tsc = startProcess(process.execPath, [compiler, "-p", directory]);
  tsc.stdin.end();
  expect(await tsc.ended(), tsc.stdout).toEqual({ code: 0, signal: null });
}
