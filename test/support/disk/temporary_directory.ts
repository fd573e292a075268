import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** Makes a directory that is removed when the test ends: after what was registered later, such as a machine in it. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "cairn-test-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}
