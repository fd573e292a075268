import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inRepository, type RunningCommand, startProcess } from "../support/processes/processes.js";
import { environmentOf, type FoundNode } from "./node_versions.js";

const TYPESCRIPT = JSON.parse(readFileSync(inRepository("package.json"), "utf8")).devDependencies.typescript as string;

/** The options of a careful application: its compiler also checks the declarations of the package. */
export const compilerOptions = { strict: true, module: "nodenext", target: "es2022", skipLibCheck: false } as const;

/** Packs the package as npm publishes it, and returns the tarball. */
export async function pack(directory: string): Promise<string> {
  const args = ["pack", "--ignore-scripts", "--silent", "--pack-destination", directory];
  await outputOf(startProcess("npm", args, { cwd: inRepository() }));
  const [tarball] = readdirSync(directory).filter((name) => name.endsWith(".tgz"));
  return join(directory, tarball!);
}

/** Waits until the process has ended well, and returns its standard output. */
export async function outputOf(command: RunningCommand): Promise<string> {
  command.stdin.end();
  const { code, signal } = await command.exited;
  if (code === 0) return command.stdout;
  throw new Error(`it ended with ${code ?? signal}\n${command.stdout}\n${command.stderr}`);
}

/** A TypeScript project that was empty before npm installed the package in it. */
export class InstalledProject {
  private constructor(
    private readonly directory: string,
    private readonly node: FoundNode,
  ) {}

  static async create(
    directory: string,
    type: "module" | "commonjs",
    node: FoundNode,
    tarball: string,
  ): Promise<InstalledProject> {
    mkdirSync(directory);
    writeFileSync(join(directory, "package.json"), JSON.stringify({ name: "empty", private: true, type }));
    writeFileSync(join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["main.ts"] }));
    const project = new InstalledProject(directory, node);
    const types = `@types/node@${/\d+/.exec(node.version)}`;
    await outputOf(project.type("npm", "install", "--no-audit", "--no-fund", tarball));
    await outputOf(project.type("npm", "install", "--no-audit", "--no-fund", "-D", `typescript@${TYPESCRIPT}`, types));
    return project;
  }

  /** A file of the project. */
  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  /** Compiles a program as main.ts. */
  async compile(source: string): Promise<void> {
    writeFileSync(this.path("main.ts"), source);
    await outputOf(this.type("npx", "tsc", "-p", "."));
  }

  /** Starts the program that was compiled last. Its directory is the working directory, or `cwd`. */
  start(args: readonly string[] = [], cwd = this.directory): RunningCommand {
    return startProcess(this.node.path, [this.path("main.js"), ...args], { cwd });
  }

  /** Starts a command in the project, as one types it there. npx finds it in the project, and asks no registry. */
  type(command: string, ...args: string[]): RunningCommand {
    const offline = command === "npx" ? { npm_config_offline: "true" } : {};
    const env = { ...environmentOf(this.node), ...offline };
    return startProcess(command, args, { cwd: this.directory, env });
  }

  /** Makes a directory for the data of one run. */
  makeDirectory(): string {
    return mkdtempSync(this.path("run-"));
  }
}

/** Replaces the ports 7101 to 7103 of a program of the documents by those from `port` on. */
export function atPorts(port: number, text: string): string {
  return text.replaceAll(/127\.0\.0\.1:710(\d)/g, (_, last) => `127.0.0.1:${port + Number(last) - 1}`);
}

/**
 * Rewrites a program for CommonJS, which has no top-level `await`. With "require", the imports stay, and the compiler makes `require` of
 * them. With "import()", the program loads the package by `import()`.
 */
export function asCommonJs(source: string, load: "require" | "import()"): string {
  const heads: string[] = [];
  const body = source.replaceAll(/^import \{ (.*) \} from ("[^"]+");\n/gm, (statement, names: string, from: string) => {
    if (load === "require" || !from.startsWith('"cairn-raft')) {
      heads.push(statement);
      return "";
    }
    const all = names.split(", ");
    const types = all.filter((name) => name.startsWith("type ")).map((name) => name.slice("type ".length));
    if (types.length > 0) heads.push(`import type { ${types.join(", ")} } from ${from};\n`);
    return `const { ${all.filter((name) => !name.startsWith("type ")).join(", ")} } = await import(${from});\n`;
  });
  return `${heads.join("")}\nasync function main() {\n${body}}\nvoid main();\n`;
}
