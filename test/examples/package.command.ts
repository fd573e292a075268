import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freePortRange } from "../support/processes/ports.js";
import { startProcess } from "../support/processes/processes.js";
import { blocksOf, commandsOf } from "../support/repository/documents.js";
import { checkExample, checkPageCounter, pageCounter } from "./counters.js";
import { asCommonJs, atPorts, InstalledProject, outputOf, pack } from "./installed_project.js";
import { environmentOf, type FoundNode, findNode, type NodeVersion } from "./node_versions.js";
import { RunningExample } from "./support.js";

// Run by package.config.ts, which takes the command line apart. The package is packed, and npm installs it with its dependencies in an
// empty TypeScript project, as an application has it, for each version of Node.
const wanted = (process.env.PACKAGE_NODE ?? "").split(",");

/** All entries, so that the compiler reads the declarations of each. */
const ENTRIES = ["cairn-raft", "cairn-raft/client", "cairn-raft/server"];
const IMPORTS = ENTRIES.map((entry, at) => `import type * as entry${at} from "${entry}";\n`).join("");
const EXPORTS = `export type Entries = [${ENTRIES.map((_, at) => `typeof entry${at}`).join(", ")}];\n`;

let directory: string;
let tarball: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "cairn-check-"));
  tarball = await pack(directory);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

describe.each(wanted)("the packed package on Node %s", (name) => {
  let version: NodeVersion;
  let module: InstalledProject;
  let commonJs: InstalledProject;
  let port: number;

  beforeAll(async () => {
    version = await findNode(name, directory);
    if (version.kind === "missing") return;
    console.log(`Node ${name} is ${version.version}`);
    module = await InstalledProject.create(join(directory, `module-${name}`), "module", version, tarball);
    commonJs = await InstalledProject.create(join(directory, `commonjs-${name}`), "commonjs", version, tarball);
    port = await startCluster(version);
  });
  beforeEach((context) => {
    if (version.kind === "missing") context.skip(version.reason);
  });

  /** Starts three nodes by the installed command, and returns the first of their ports. */
  async function startCluster(node: FoundNode): Promise<number> {
    const first = await freePortRange(2);
    const args = ["cluster", "--data", module.makeDirectory(), "--base-port", `${first}`];
    // By its path: npx would stand between this and the command when it is killed.
    const command = module.path("node_modules/.bin/cairn");
    const cluster = startProcess(command, args, { env: environmentOf(node), outlivesTest: true });
    await cluster.waitFor(/Ctrl-C stops all/);
    return first;
  }

  /** Returns the program of the README, with the ports of that cluster. */
  function clientExample(): string {
    return atPorts(port, blocksOf("README.md").find(({ language }) => language === "ts")!.text);
  }

  async function runCounter(project: InstalledProject): Promise<void> {
    const data = project.makeDirectory();
    await checkPageCounter((id) => project.start([id], data));
  }

  describe("an ES module", () => {
    test("runs the client of the README on three nodes of the installed command", async () => {
      await module.compile(`${IMPORTS}${clientExample()}${EXPORTS}`);
      expect(await outputOf(module.start())).toBe("{ name: 'Ada' }\n");
    });

    test("has the commands of the README", async () => {
      const endpoints = [0, 1, 2].map((at) => `127.0.0.1:${port + at}`).join(",");
      const lines = [...commandsOf("README.md", "Ways in"), "npx cairn kv get user:1"];
      const outputs: string[] = [];
      for (const line of lines.filter((text) => text.startsWith("npx cairn"))) {
        outputs.push(await outputOf(module.type("npx", ...line.split(" ").slice(1), "--endpoints", endpoints)));
      }
      expect(outputs).toEqual([
        expect.stringMatching(/^version \d+\n$/),
        expect.stringMatching(/^hello\n?$/),
        expect.stringMatching(/^n1 .* voter .*\nn2 .* voter .*\nn3 .* voter /m),
        expect.stringMatching(/^\{"name":"Grace"\}\n?$/),
      ]);
    });

    test("runs the counter of docs/embedding.md on three members, also when the leader is killed", async () => {
      await module.compile(pageCounter(await freePortRange(2)));
      await runCounter(module);
    });

    test("runs the counter of examples/ as three processes, also when the leader is killed", async () => {
      const run = module.path("node_modules/cairn-raft/examples/run.mjs");
      await checkExample(await RunningExample.start("counter", 20, run, (version as FoundNode).path));
    });
  });

  describe.each(["require", "import()"] as const)("CommonJS by %s", (load) => {
    beforeEach((context) => {
      const { version: exact, canRequireModules } = version as FoundNode;
      if (load === "import()" || canRequireModules) return;
      context.skip(`Node ${exact} does not let CommonJS require ES modules`);
    });

    test("runs the client of the README on three nodes of the installed command", async () => {
      await commonJs.compile(`${IMPORTS}${asCommonJs(clientExample(), load)}${EXPORTS}`);
      expect(await outputOf(commonJs.start())).toBe("{ name: 'Ada' }\n");
    });

    test("runs the counter of docs/embedding.md on three members, also when the leader is killed", async () => {
      await commonJs.compile(asCommonJs(pageCounter(await freePortRange(2)), load));
      await runCounter(commonJs);
    });
  });
});
