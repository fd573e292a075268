// Finds or makes the programs that a benchmark needs besides Cairn: etcd, the load generator,
// and the npm package etcd3. They are built from public sources into a folder and used again.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const GO_MODULE = fileURLToPath(new URL("go", import.meta.url));
/** The newest one when this was written. It is no dependency of Cairn. */
const ETCD3 = "1.1.2";

export function defaultCache() {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "cairn-compare");
}

/**
 * Returns `{ path, version }` or `{ missing: reason }` for each of `load`, `etcd` and `etcd3`. `etcd`
 * may be the path of a binary, or false for none; `etcd3` says whether a row needs that client.
 */
export async function findSources(processes, { cache, etcd, etcd3, say }) {
  mkdirSync(cache, { recursive: true });
  const attempt = (find) => find().catch((error) => ({ missing: error.message }));
  const build = (program) => buildGo(processes, cache, program, say);
  const load = await attempt(async () => ({ path: await build("load"), version: await goVersion(processes) }));
  if (etcd === false) return { load, etcd: { missing: "not wanted" }, etcd3: { missing: "not wanted" } };
  const server = await attempt(async () => {
    const path = etcd ?? (await build("etcd"));
    const [, version = "unknown"] = /etcd Version: (\S+)/.exec(await processes.run(path, ["--version"])) ?? [];
    return { path, version };
  });
  // Without the load generator, the client fills the cluster.
  const isUseful = server.path !== undefined && (etcd3 || load.path === undefined);
  const client = isUseful ? await attempt(() => installEtcd3(processes, cache, say)) : { missing: "not needed" };
  if (load.path !== undefined || client.path !== undefined) return { load, etcd: server, etcd3: client };
  return { load, etcd: { missing: server.missing ?? "nothing here can drive it" }, etcd3: client };
}

function goVersion(processes) {
  return processes.run("go", ["env", "GOVERSION"]).then(
    (version) => version.trim(),
    (error) => {
      throw new Error(error.code === "ENOENT" ? "this machine has no Go" : error.message);
    },
  );
}

/** Builds one program of the Go module, unless the same sources were built with the same Go. */
async function buildGo(processes, cache, program, say) {
  const hash = createHash("sha256").update(await goVersion(processes));
  const own = readdirSync(join(GO_MODULE, program)).sort();
  for (const file of ["go.mod", "go.sum", ...own.map((name) => join(program, name))]) {
    hash.update(readFileSync(join(GO_MODULE, file)));
  }
  const path = join(cache, `${program}-${hash.digest("hex").slice(0, 12)}`);
  if (existsSync(path)) return path;
  say(`building ${program} (the first time this takes minutes)`);
  const unfinished = `${path}.${process.pid}`;
  const args = ["build", "-mod=readonly", "-trimpath", "-o", unfinished, `./${program}`];
  await processes.run("go", args, { cwd: GO_MODULE, env: { ...process.env, GOWORK: "off" } });
  renameSync(unfinished, path);
  return path;
}

/** Installs the package without its install scripts, which it does not need. */
async function installEtcd3(processes, cache, say) {
  const directory = join(cache, `etcd3-${ETCD3}`);
  const packageFile = join(directory, "node_modules", "etcd3", "package.json");
  if (!existsSync(packageFile)) {
    say(`installing the npm package etcd3 ${ETCD3}`);
    mkdirSync(directory, { recursive: true });
    const quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-save"];
    await processes.run("npm", ["install", "--prefix", directory, ...quiet, `etcd3@${ETCD3}`], { cwd: directory });
  }
  return { path: packageFile, version: ETCD3 };
}
