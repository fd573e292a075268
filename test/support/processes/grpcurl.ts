import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

/** Where grpcurl is; undefined when there is none. */
export function findGrpcurl(): string | undefined {
  const candidates = [process.env.CAIRN_GRPCURL, "grpcurl", goInstalled()];
  return candidates.find((path) => path && spawnSync(path, ["-version"]).status === 0);
}

function goInstalled(): string | undefined {
  const { status, stdout } = spawnSync("go", ["env", "GOPATH"], { encoding: "utf8" });
  if (status !== 0) return undefined;
  const path = join(stdout.trim(), "bin/grpcurl");
  return existsSync(path) ? path : undefined;
}
