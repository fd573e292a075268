// Builds dist/: tsc compiles src/ and gen/ (what applications import), and esbuild bundles the command line into dist/cli/.
// The bundle is there for the start-up time: 190 small modules, ours and protobuf-es's, become a few files. What is native or
// CommonJS stays in node_modules.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const COMMAND = "dist/cli/main.js";

process.chdir(import.meta.dirname);
// The first npx in a checkout makes npm prepare the package again: that must not take long, or pull dist/ from under a running command.
const ifNeeded = process.argv.includes("--if-needed");
if (ifNeeded && isUpToDate()) process.exit();
const esbuild = await import("esbuild").catch((error) => {
  if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
  // `npm ci --omit=dev` prepares the package, too, and a checkout that was built keeps its dist/.
  if (ifNeeded && existsSync(COMMAND)) process.exit();
  console.error("dist/ is not built, and esbuild is not installed: run `npm ci` here first");
  process.exit(1);
});
rmSync("dist", { recursive: true, force: true });

const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
const compiler = join(typescript, "bin/tsc");
const compiled = spawnSync(process.execPath, [compiler, "-p", "tsconfig.json"], { stdio: "inherit" });
if (compiled.error) throw compiled.error;
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

await esbuild.build({
  // Worker threads and an ingress process are started from files of their own, which lie beside the code that starts them, as in
  // dist/src/machine/worker/, dist/src/store/steps/, dist/src/client/leases/ and dist/src/ingress/.
  entryPoints: {
    main: "dist/src/cli/main.js",
    worker_main: "dist/src/machine/worker/worker_main.js",
    step_main: "dist/src/store/steps/step_main.js",
    keeper_main: "dist/src/client/leases/keeper_main.js",
    ingress_main: "dist/src/ingress/ingress_main.js",
  },
  outdir: "dist/cli",
  bundle: true,
  splitting: true,
  platform: "node",
  format: "esm",
  target: "node20",
  external: [
    ...["@grpc/*", "commander", "grpc-health-check", "lmdb", "pino", "prom-client"],
    ...["@peculiar/x509", "reflect-metadata"],
  ],
});
chmodSync(COMMAND, 0o755);

// The page that a node shows to browsers (--http).
await esbuild.build({
  entryPoints: { page: "src/page/main.ts" },
  outdir: "dist/page",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome115", "firefox115", "safari16.4"],
  legalComments: "inline",
});
const style = await esbuild.transform(
  readFileSync("node_modules/uplot/dist/uPlot.min.css", "utf8") + readFileSync("src/page/page.css", "utf8"),
  { loader: "css", minify: true },
);
writeFileSync("dist/page/page.css", style.code);
copyFileSync("src/page/index.html", "dist/page/index.html");

/** Whether the command is newer than everything that it is built from. */
function isUpToDate() {
  const built = modifiedAt(COMMAND);
  const folders = ["src", "gen"];
  // With the folders themselves, which are changed when a file is removed.
  const files = folders.flatMap((folder) => readdirSync(folder, { recursive: true }).map((name) => join(folder, name)));
  return [...folders, ...files, "build.mjs", "tsconfig.json", "package.json", "package-lock.json"].every(
    (file) => modifiedAt(file) < built,
  );
}

/** 0 for a file that is not there. */
function modifiedAt(file) {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
