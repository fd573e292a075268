import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Compiles src to dist before any test, so that tests of the real command never run stale output. Types are the business of `npm run lint`:
 * what they have to say is printed, and the tests run all the same.
 *
 * Files are put in place one by one, by a rename, and only where they differ: another test run in the same checkout may be using them.
 */
export default function buildDist(): void {
  const fresh = join(repository, `node_modules/.cairn-build-${process.pid}`);
  try {
    compileTo(fresh);
    putInPlace(fresh, join(repository, "dist"));
    // As npm makes it when it installs the command.
    chmodSync(join(repository, "dist/src/cli/main.js"), 0o755);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

function compileTo(directory: string): void {
  const compiler = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
  const args = [compiler, "-p", "tsconfig.json", "--outDir", directory, "--noEmitOnError", "false"];
  const { status, error, stdout, stderr } = spawnSync(process.execPath, args, { cwd: repository, encoding: "utf8" });
  if (error !== undefined) throw error;
  if (status === 0) return;
  process.stderr.write(`src does not compile cleanly:\n${stdout}${stderr}\n`);
  if (filesOf(directory).length === 0) throw new Error("the compiler wrote nothing: see its messages above");
}

function putInPlace(fresh: string, dist: string): void {
  const files = filesOf(fresh);
  for (const file of files) {
    const to = join(dist, file);
    const content = read(fresh, file);
    if (sameContent(to, content)) continue;
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(join(fresh, `${file}.new`), content);
    renameSync(join(fresh, `${file}.new`), to);
  }
  for (const stale of filesOf(dist)) if (!files.includes(stale)) rmSync(join(dist, stale), { force: true });
}

function read(fresh: string, file: string): Buffer {
  const content = readFileSync(join(fresh, file));
  // The sources lie one folder further from here than from dist.
  return file.endsWith(".map") ? Buffer.from(content.toString().replaceAll('"../', '"')) : content;
}

function filesOf(directory: string): string[] {
  try {
    const entries = readdirSync(directory, { withFileTypes: true, recursive: true });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function sameContent(path: string, content: Buffer): boolean {
  try {
    return readFileSync(path).equals(content);
  } catch {
    return false;
  }
}
