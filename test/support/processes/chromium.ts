import { spawnSync } from "node:child_process";

/** Where a Chromium is, for tests of the page; undefined when there is none. */
export function findChromium(): string | undefined {
  const candidates = [process.env.CAIRN_CHROMIUM, "chromium", "chromium-browser", "google-chrome"];
  return candidates.flatMap((name) => (name ? [pathOf(name)] : [])).find((path) => path !== "");
}

function pathOf(name: string): string {
  const { status, stdout } = spawnSync("sh", ["-c", 'command -v "$1"', "sh", name], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : "";
}
