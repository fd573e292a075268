import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { isAllowed, type Lock, licenceProblems } from "./licences.mjs";

const nobody = () => undefined;

test("the licences of all packages of this repository are allowed", () => {
  const lock = JSON.parse(readFileSync("package-lock.json", "utf8")) as Lock;
  expect(Object.keys(lock.packages).length).toBeGreaterThan(50);
  expect(licenceProblems(lock, nobody)).toEqual([]);
});

test.each([
  ["MIT", true],
  ["GPL-3.0-only", false],
  ["mit", false],
  ["", false],
  ["MIT OR GPL-3.0-only", true],
  ["GPL-3.0-only OR MIT", true],
  ["MIT AND GPL-3.0-only", false],
  ["(MIT AND ISC)", true],
  ["(GPL-3.0-only OR MIT) AND ISC", true],
  ["GPL-3.0-only OR MIT AND ISC", true],
  ["GPL-3.0-only AND MIT OR GPL-2.0-only", false],
  ["Apache-2.0 WITH LLVM-exception", false],
  ["(MIT", false],
  ["MIT ISC", false],
  ["SEE LICENSE IN LICENSE.md", false],
])("the licence expression %j is allowed: %s", (expression, expected) => {
  expect(isAllowed(expression, ["MIT", "ISC"])).toBe(expected);
});

test("a package with another licence or with none is named, and tools may have more licences than what runs", () => {
  const packages = {
    "": { license: "GPL-3.0-only" },
    "node_modules/strict": { version: "1.0.0", license: "GPL-3.0-only" },
    "node_modules/tool": { version: "2.0.0", license: "MPL-2.0", dev: true },
    "node_modules/runs": { version: "3.0.0", license: "MPL-2.0" },
    "node_modules/runs/node_modules/@a/silent": { version: "4.0.0" },
    "node_modules/installed": { version: "5.0.0" },
  };
  const licenceOf = (path: string) => (path === "node_modules/installed" ? "MIT" : undefined);
  expect(licenceProblems({ packages }, licenceOf).map((problem) => problem.split(", ")[0])).toEqual([
    "strict 1.0.0 has the licence GPL-3.0-only",
    "runs 3.0.0 has the licence MPL-2.0",
    "@a/silent 4.0.0 names no licence",
  ]);
});
