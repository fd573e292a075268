// Puts the simulator and all of the code under test into one file, with the surroundings replaced that a simulation must not have.
import { readFile } from "node:fs/promises";
import { join, relative, resolve, sep } from "node:path";
import { build } from "esbuild";

const root = resolve(import.meta.dirname, "../../..");

/** Modules of the process that surroundings.ts stands for, where src/ imports them. */
const REPLACED = /^node:(timers\/promises|fs\/promises|os|crypto)$/;

/**
 * Snapshots in the simulator are small. So are the chunks that their files are made of: a transfer resumes only behind a whole one.
 */
const SMALL_CHUNKS = {
  file: "src/base/limits.ts",
  find: "snapshotChunkBytes: 256 * KiB,",
  replace: "snapshotChunkBytes: 150,",
};

/**
 * Writes the bundle to `outfile`. `patches`: changes of the source, each `{ file, find, replace }`, where `find` must occur exactly once in
 * the file, given with its path below the repository.
 */
export async function bundleSimulation(outfile, patches = []) {
  const unused = new Set([SMALL_CHUNKS, ...patches]);
  await build({
    entryPoints: [join(root, "test/sim/run/main.ts")],
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    // Of another length in every process: it stands in files.
    define: { "process.pid": "1" },
    banner: {
      js: 'import { createRequire as requireFor } from "node:module"; const require = requireFor(import.meta.url);',
    },
    logLevel: "error",
    plugins: [replaceSurroundings(), applyPatches([SMALL_CHUNKS, ...patches], unused)],
  });
  const [missed] = unused;
  if (missed !== undefined)
    throw new Error(`the patch of ${missed.file} was not used: the simulation does not import that file`);
}

function replaceSurroundings() {
  return {
    name: "surroundings",
    setup({ onResolve }) {
      onResolve({ filter: REPLACED }, ({ importer }) => {
        return importer.startsWith(join(root, "src"))
          ? { path: join(root, "test/sim/world/surroundings.ts") }
          : undefined;
      });
    },
  };
}

function applyPatches(patches, unused) {
  return {
    name: "patches",
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        const file = relative(root, path).split(sep).join("/");
        const those = patches.filter((patch) => patch.file === file);
        if (those.length === 0) return undefined;
        let contents = await readFile(path, "utf8");
        for (const patch of those) {
          contents = patched(contents, patch);
          unused.delete(patch);
        }
        return { contents, loader: "ts" };
      });
    },
  };
}

function patched(contents, { file, find, replace }) {
  const times = contents.split(find).length - 1;
  if (times !== 1) throw new Error(`the patch of ${file} must fit once, but its text occurs ${times} times:\n${find}`);
  return contents.replace(find, () => replace);
}
