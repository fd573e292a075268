// Builds dist/: tsc compiles src/ and gen/ (what applications import), and esbuild bundles the command line into dist/cli/.
// The bundle is there for the start-up time: 190 small modules, ours and protobuf-es's, become a few files. What is native or
// CommonJS stays in node_modules.
import { spawnSync } from "node:child_process";
import { chmodSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { build } from "esbuild";

process.chdir(import.meta.dirname);
rmSync("dist", { recursive: true, force: true });

const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
const compiler = join(typescript, "bin/tsc");
const compiled = spawnSync(process.execPath, [compiler, "-p", "tsconfig.json"], { stdio: "inherit" });
if (compiled.error) throw compiled.error;
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

await build({
  entryPoints: ["dist/src/cli/main.js"],
  outdir: "dist/cli",
  bundle: true,
  splitting: true,
  platform: "node",
  format: "esm",
  target: "node20",
  external: ["@grpc/*", "commander", "grpc-health-check", "lmdb", "pino"],
});
chmodSync("dist/cli/main.js", 0o755);
