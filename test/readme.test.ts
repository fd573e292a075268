import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findGrpcurl } from "./interop/grpcurl.js";
import { freePortRange } from "./support/ports.js";
import { inRepository, type RunningCommand, startCommand, startProcess } from "./support/processes.js";

// What the README tells a reader to type is typed here, as it stands there. Only the ports and the places of files are others, and `npx` is
// left out, which would only cost time.

const README = readFileSync(inRepository("README.md"), "utf8");
const PORT = 7101;
const CAIRN = `${process.execPath} ${inRepository("dist/cli/main.js")}`;
const grpcurl = findGrpcurl();

/** The code blocks of a chapter, in order. */
function blocks(chapter: string): { readonly language: string; readonly text: string }[] {
  const start = README.indexOf(`\n## ${chapter}\n`);
  if (start < 0) throw new Error(`the README has no chapter "${chapter}"`);
  const end = README.indexOf("\n## ", start + 1);
  const found = README.slice(start, end < 0 ? undefined : end).matchAll(/^```(\w+)\n(.*?)^```$/gms);
  return [...found].map(([, language, text]) => ({ language: language!, text: text! }));
}

/** The commands of a chapter, without what is said about them. */
function commands(chapter: string): string[] {
  return blocks(chapter)
    .filter(({ language }) => language === "sh")
    .flatMap(({ text }) => text.split("\n"))
    .map((line) => line.replace(/\s+#.*$/, ""))
    .filter((line) => line !== "");
}

describe("the gateway's chapter", () => {
  const all = blocks("The gateway");
  const examples = all.flatMap(({ language, text }, at) =>
    language === "sh" ? [[text, all[at + 1]?.text ?? ""]] : [],
  );

  test("has examples", () => expect(examples.length).toBeGreaterThanOrEqual(2));

  test.each(examples)("is answered as it says: %#", async (command, answers) => {
    const shell = startProcess("sh", ["-c", command!.replaceAll("npx cairn", CAIRN)]);
    shell.stdin.end();
    expect(await shell.ended()).toEqual({ code: 0, signal: null });
    expect(shell.stdout).toBe(answers);
  });
});

describe("the chapters on a cluster", () => {
  let directory: string;
  let port: number;
  let endpoints: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "cairn-readme-"));
    port = await freePortRange(3);
    endpoints = [0, 1, 2].map((at) => `127.0.0.1:${port + at}`).join(",");
    const args = ["cluster", "--data", join(directory, "cluster"), "--base-port", `${port}`];
    const cluster = startCommand(args, { outlivesTest: true });
    await cluster.waitFor(/Ctrl-C stops all/);
  });
  afterAll(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  /** A line of the README, for this cluster. */
  function here(line: string): string {
    return line
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

  test("A cluster", async () => {
    const expected: Readonly<Record<string, RegExp>> = {
      "KeyValueService/Get": /"value": ?"MQ=="/,
      "kv get greeting": /^hello\n?$/,
      "kv range": /greeting/,
      "cairn status": /leader/,
      "AdminService/GetStatus": /"clusterId"/,
    };
    for (const line of commands("A cluster")) {
      // Addresses of machines that are not here; npm start runs already.
      if (line.includes("10.0.0.")) continue;
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

  test("From TypeScript", async () => {
    const [code] = blocks("From TypeScript");
    const node = startProcess(process.execPath, ["--input-type=module", "--eval", here(code!.text)]);
    node.stdin.end();
    expect(await node.ended(), node.stderr).toEqual({ code: 0, signal: null });
    expect(node.stdout).toMatch(/^\{ name: 'Ada' \}\nuser:1 \d+\n$/);
  });

  test("Operating", async () => {
    for (const line of commands("Operating")) {
      const isEndless = / --watch$/.test(line) || line.includes(" start ");
      if (!isEndless) {
        await outputOf(line);
        continue;
      }
      const command = type(line);
      await command.waitFor(line.includes(" start ") ? /is a learner of cluster/ : /leader/);
      if (line.includes(" --watch")) await command.kill("SIGINT");
    }
  });
});
