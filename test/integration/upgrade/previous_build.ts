import { spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { inRepository, repository } from "../../support/processes/processes.js";

/**
 * Builds the program of an earlier commit, with the packages that are installed here, and returns its path. The commit is taken from the
 * history of this repository without changing anything in it.
 * @throws Error that says why, when the history has no such commit or it cannot be built
 */
export function buildPrevious(commit: string, directory: string): string {
  const known = spawnSync("git", ["cat-file", "-e", `${commit}^{commit}`], { cwd: repository });
  if (known.error !== undefined)
    throw new Error(`there is no git here, so ${commit} cannot be built: ${known.error.message}`);
  if (known.status !== 0) {
    throw new Error(
      `the history of this checkout has no commit ${commit}: fetch it (git fetch --unshallow), or name another with --from`,
    );
  }
  mkdirSync(directory, { recursive: true });
  const script = `git archive ${commit} | tar -x -C "$0"`;
  expectDone("unpack", spawnSync("sh", ["-c", script, directory], { cwd: repository, encoding: "utf8" }));
  symlinkSync(inRepository("node_modules"), join(directory, "node_modules"));
  expectDone("build", spawnSync(process.execPath, ["build.mjs"], { cwd: directory, encoding: "utf8" }));
  return join(directory, "dist/cli/main.js");
}

function expectDone(what: string, { status, stdout, stderr }: ReturnType<typeof spawnSync>): void {
  if (status !== 0) throw new Error(`cannot ${what} the earlier version:\n${stdout}\n${stderr}`);
}
