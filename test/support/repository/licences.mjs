// Checks that every package of package-lock.json has a licence that Cairn's users can live with: `npm run licences`.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** SPDX ids of licences that allow any use of the packages that Cairn runs on. */
const ALLOWED = ["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BlueOak-1.0.0", "CC0-1.0", "ISC", "MIT"];

/** Further ones of packages that only build and test Cairn, and are not passed on with it. */
const ALLOWED_FOR_DEVELOPMENT = ["MPL-2.0", "Python-2.0", "Unlicense"];

const root = new URL("../../../", import.meta.url);

/**
 * Returns a problem for each package without a licence that is allowed. `lock` is a
 * package-lock.json of version 3; `licenceOf` returns the licence of an installed package that the
 * lock names none for, by its path.
 */
export function licenceProblems(lock, licenceOf) {
  const packages = Object.entries(lock.packages).filter(([path, { link }]) => path !== "" && !link);
  return packages.flatMap(([path, { license, dev = false, version }]) => {
    const expression = license ?? licenceOf(path);
    const allowed = dev ? [...ALLOWED, ...ALLOWED_FOR_DEVELOPMENT] : ALLOWED;
    if (expression !== undefined && isAllowed(expression, allowed)) return [];
    const said = expression === undefined ? "names no licence" : `has the licence ${expression}`;
    return [`${path.replace(/^.*node_modules\//, "")} ${version} ${said}, which is not in the list of licences.mjs`];
  });
}

/** Whether an SPDX expression can be met with allowed licences alone. AND binds closer than OR. */
export function isAllowed(expression, allowed) {
  const tokens = expression.match(/[()]|[^\s()]+/g) ?? [];
  let at = 0;
  const either = () => {
    let met = all();
    while (tokens[at] === "OR") {
      at += 1;
      met = all() || met;
    }
    return met;
  };
  const all = () => {
    let met = one();
    while (tokens[at] === "AND") {
      at += 1;
      met = one() && met;
    }
    return met;
  };
  const one = () => {
    const token = tokens[at++];
    if (token !== "(") return allowed.includes(token);
    const met = either();
    return tokens[at++] === ")" && met;
  };
  const met = either();
  return met && at === tokens.length;
}

function installedLicence(path) {
  try {
    const { license } = JSON.parse(readFileSync(new URL(`${path}/package.json`, root), "utf8"));
    return typeof license === "string" ? license : undefined;
  } catch {
    return undefined;
  }
}

function main() {
  const lock = JSON.parse(readFileSync(new URL("package-lock.json", root), "utf8"));
  const problems = licenceProblems(lock, installedLicence);
  for (const problem of problems) process.stderr.write(`${problem}\n`);
  if (problems.length === 0) process.stdout.write(`${Object.keys(lock.packages).length - 1} packages, all allowed\n`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
