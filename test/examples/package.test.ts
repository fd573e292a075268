import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePortRange } from "../support/processes/ports.js";
import { inRepository, startNode, startProcess } from "../support/processes/processes.js";
import { blocksOf } from "../support/repository/documents.js";
import { checkPageCounter, pageCounter } from "./counters.js";
import { compilerOptions, pack } from "./installed_project.js";

// The package as npm would publish it, installed in an empty TypeScript project. Its dependencies are those of this repository, so that the
// test needs no registry; what the package does not declare, it does not get. `npm run package:check` has npm install them.

function run(cwd: string, file: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(file, args, { cwd, encoding: "utf8" });
  if (status !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

/** The programs of the page on embedding. */
function programs(): string[] {
  return blocksOf("docs/embedding.md").flatMap(({ language, text }) => (language === "ts" ? [text] : []));
}

/** Makes the project, with the package in its node_modules. */
async function makeProject(directory: string): Promise<string> {
  const project = join(directory, "project");
  const modules = join(project, "node_modules");
  const installed = join(modules, "cairn-raft");
  mkdirSync(installed, { recursive: true });
  run(directory, "tar", "-xzf", await pack(directory), "-C", installed, "--strip-components", "1");
  const { dependencies } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  for (const name of [...Object.keys(dependencies), "@types/node"]) {
    mkdirSync(dirname(join(modules, name)), { recursive: true });
    symlinkSync(inRepository("node_modules", name), join(modules, name));
  }
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "empty", type: "module" }));
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions }));
  return project;
}

/** Compiles the programs of the project, and the declarations of the package with them. */
function compile(project: string, sources: Readonly<Record<string, string>>): void {
  for (const [name, source] of Object.entries(sources)) writeFileSync(join(project, `${name}.ts`), source);
  run(project, process.execPath, inRepository("node_modules/typescript/bin/tsc"), "-p", ".");
}

let directory: string;
let project: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "cairn-package-"));
  project = await makeProject(directory);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

test("the programs of the guide compile against the declarations of all entry points; the log that a node exposes is read-only, and internal members are not declared", async () => {
  compile(project, {
    counter: pageCounter(await freePortRange(2)),
    server: `${programs()[2]!}${ENTRIES.map((entry) => `import ${JSON.stringify(entry)};`).join("\n")}`,
    look: `
    import type { CairnNode, RaftView, StateMachine } from "cairn-raft";
    export function look(raft: RaftView, node: CairnNode<unknown, StateMachine>): number {
      // @ts-expect-error: the core alone cuts the log
      raft.log.truncateAfter(1);
      // @ts-expect-error
      node.receiver;
      return node.raft.log.commit;
    }`,
  });
});

test("the packed package runs the three-member counter of the guide when the leader is killed", async () => {
  await checkPageCounter((id) => startProcess(process.execPath, ["counter.js", id], { cwd: project }));
});

test("the key-value server of the guide runs", () => {
  expect(run(project, process.execPath, "server.js")).toBe("hello\n");
});

const ENTRIES = ["cairn-raft", "cairn-raft/client", "cairn-raft/server"];
const SHOWS = ["CairnMember", "CairnClient", "CairnServer"];

describe("the entry points of the package", () => {
  const names = `[${ENTRIES.map((entry) => JSON.stringify(entry)).join(", ")}]`;
  const shown = (modules: string, at: string) =>
    `const shows = ${JSON.stringify(SHOWS)}; ${modules}.forEach((entry, at) => console.log(typeof entry[shows[${at}]]));`;
  const functions = "function\nfunction\nfunction\n";

  test("load by import", () => {
    const imports = ENTRIES.map((entry, at) => `import * as entry${at} from ${JSON.stringify(entry)};`).join(" ");
    const code = `${imports} ${shown("[entry0, entry1, entry2]", "at")}`;
    expect(run(project, process.execPath, "--input-type=module", "--eval", code)).toBe(functions);
  });

  test("load from CommonJS by import(), export the same classes, and are the only files that can be imported", () => {
    const code = `Promise.all(${names}.map((name) => import(name))).then((all) => {
        ${shown("all", "at")}
        console.log(new Set(all.map(({ CairnError }) => CairnError)).size);
      }).then(() => import("cairn-raft/dist/src/index.js")).catch(({ code }) => console.log(code));`;
    const printed = run(project, process.execPath, "--input-type=commonjs", "--eval", code);
    expect(printed).toBe(`${functions}1\nERR_PACKAGE_PATH_NOT_EXPORTED\n`);
  });

  const canRequire = (process.features as { readonly require_module?: boolean }).require_module === true;
  test.skipIf(!canRequire)("load from CommonJS by require, where Node allows it", () => {
    const code = shown(`${names}.map((name) => require(name))`, "at");
    expect(run(project, process.execPath, "--no-warnings", "--input-type=commonjs", "--eval", code)).toBe(functions);
  });
});

describe("an application that bundles the client", () => {
  test.each([
    ["CommonJS", { format: "cjs" }, "main.cjs"],
    ["an ES module", { format: "esm", banner: { js: esbuildBanner() } }, "main.mjs"],
  ] as const)("as %s works, and contains neither LMDB nor the server", async (kind, options, name) => {
    const data = join(directory, `data-${name}`);
    const { address } = await startNode({ id: "n1", data });
    const source = `
      import { CairnClient } from "cairn-raft/client";
      const client = new CairnClient({ endpoints: ["${address}"] });
      client.put("a", "1").then(() => client.get("a")).then((found) => console.log(found.text())).finally(() => client.close());`;
    const outfile = join(directory, name);
    const { metafile } = await build({
      stdin: { contents: source, resolveDir: project },
      outfile,
      bundle: true,
      platform: "node",
      metafile: true,
      logLevel: "error",
      ...options,
    });
    const held = Object.keys(metafile.inputs);
    expect(held.filter((path) => /cairn-raft\/dist\/src\/client\//.test(path))).not.toEqual([]);
    expect(
      held.filter((path) =>
        /\/(lmdb|pino|commander|x509)\/|dist\/src\/(server|node|storage|machine|certificates)\//.test(path),
      ),
    ).toEqual([]);
    const { bytes } = Object.values(metafile.outputs)[0]!;
    console.info(`the client, bundled as ${kind}: ${Math.round(bytes / 1024)} KiB`);
    // There is no node_modules beside it.
    expect(run(directory, process.execPath, outfile)).toBe("1\n");
  });
});

/** The banner of the page on the client: grpc-js requires modules of Node, which an ES module cannot do without it. */
function esbuildBanner(): string {
  return /--banner:js='(.*?)'/.exec(readFileSync(inRepository("docs/client.md"), "utf8"))![1]!;
}

test("installing the package runs none of its scripts", () => {
  const installed = join(project, "node_modules/cairn-raft");
  const manifest = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  // Without its dependencies, which npm would look for in a registry.
  const bare = join(directory, "bare");
  cpSync(installed, bare, { recursive: true });
  writeFileSync(join(bare, "package.json"), JSON.stringify({ ...manifest, dependencies: {} }));
  const tarballs = join(directory, "tarballs");
  const consumer = join(directory, "consumer");
  for (const path of [tarballs, consumer]) mkdirSync(path);
  run(bare, "npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", tarballs);
  writeFileSync(join(consumer, "package.json"), "{}");
  const tarball = join(tarballs, readdirSync(tarballs)[0]!);
  const output = run(consumer, "npm", "install", "--offline", "--no-audit", "--foreground-scripts", tarball);
  expect(output).toMatch(/added 1 package/);
  expect(output).not.toMatch(/build\.mjs/);
  const command = "node_modules/cairn-raft/dist/cli/main.js";
  expect(readFileSync(join(consumer, command))).toEqual(readFileSync(join(installed, "dist/cli/main.js")));
});
