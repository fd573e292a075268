import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** Builds dist/ before any test if it is older than what it is built from, so that tests of the real command never run stale output. */
export default function buildDist(): void {
  const script = fileURLToPath(new URL("../../../build.mjs", import.meta.url));
  const { status, error } = spawnSync(process.execPath, [script, "--if-needed"], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error("the build failed: see its messages above");
}
