// Writes the reference of the public API as Markdown pages from the models of report.mjs, which runs
// first. dist/reference/index.md is the first page.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

const ROOT = resolve(import.meta.dirname, "..");
const MODELS = join(ROOT, "dist/reference-models");
const PAGES = join(ROOT, "dist/reference");
const MAIN = "cairn-raft";
const OTHERS = ["client", "server"];

run(join(ROOT, "api/report.mjs"), "--check");
for (const folder of [MODELS, PAGES]) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
}
for (const name of [MAIN, ...OTHERS]) writeFileSync(join(MODELS, `${name}.api.json`), modelOf(name));
run(join(ROOT, "node_modules/@microsoft/api-documenter/bin/api-documenter"), "markdown", "-i", MODELS, "-o", PAGES);
for (const page of readdirSync(PAGES)) {
  const text = readFileSync(join(PAGES, page), "utf8").replaceAll("\r\n", "\n");
  writeFileSync(join(PAGES, page), withRealNames(text));
}
console.log(`${readdirSync(PAGES).length} pages, the first one is dist/reference/index.md`);

/** The documenter knows packages, not entries: each entry becomes a package with a name that npm allows. */
function modelOf(name) {
  const model = readFileSync(join(ROOT, `dist/api/${name}.api.json`), "utf8");
  const { members } = JSON.parse(model).members[0];
  const exported = new Set(members.map((member) => member.name));
  // Links to a sibling, such as {@link close}, have no target in TSDoc's notation.
  const linked = model.replaceAll(/\{@link(?:\s|\\n \*)+([\w.]+)\}/g, (link, target) =>
    exported.has(target) ? link : `\`${target}\``,
  );
  if (name === MAIN) return linked;
  return linked
    .replaceAll(`"${MAIN}!`, `"@${MAIN}/${name}!`)
    .replace(`\n  "name": "${MAIN}"`, `\n  "name": "@${MAIN}/${name}"`);
}

function withRealNames(text) {
  return OTHERS.reduce((all, name) => all.replace(`## ${name} package`, `## ${MAIN}/${name}`), text)
    .replace(`## ${MAIN} package`, `## ${MAIN}`)
    .replaceAll(`@${MAIN}/`, `${MAIN}/`)
    .replace("## Packages", "## Entries")
    .replace("\nPackage\n", "\nEntry\n");
}

function run(script, ...args) {
  const { status, error, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: "utf8" });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${script} ended with ${status}\n${stdout}${stderr}`);
}
