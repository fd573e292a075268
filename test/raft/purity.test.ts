import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { describe, expect, test } from "vitest";
import { importsOf, withoutComments } from "../support/repository/source_text.js";

const src = resolve(import.meta.dirname, "../../src");
const raft = join(src, "raft");

/** The one other room that Raft may take something from. What it takes must be as pure. */
const base = join(src, "base");

/** What would let time, chance, other threads or the machine into the core. Type names such as ReadonlySet are not concerned. */
const impure = [
  "Date",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "queueMicrotask",
  "performance",
  "process",
  "Promise",
  "async",
  "await",
  "Buffer",
  "crypto",
  "fs",
  "globalThis",
  "console",
  "fetch",
  "Worker",
  "WeakRef",
  "FinalizationRegistry",
  "Atomics",
];

/** What makes a source file impure. `file` is its absolute path. */
function impurities(file: string, source: string): string[] {
  const code = withoutComments(source);
  const found = impure.filter((name) => new RegExp(`(?<![.\\w$#])${name}(?![\\w$])`).test(code));
  if (/Math\s*\.\s*random/.test(code) || /Math\s*\[/.test(code)) found.push("Math.random");
  for (const { specifier } of importsOf(source)) {
    const to = resolve(dirname(file), specifier);
    const isInside = [raft, base].some((room) => to.startsWith(room + sep));
    if (!specifier.startsWith(".") || !isInside) found.push(`import of ${specifier}`);
  }
  return found;
}

/** The files of raft/, and all files that they lead to. */
function filesOfRaft(): string[] {
  const own = readdirSync(raft, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  const found = new Set(own.map((name) => join(raft, name)));
  for (const file of found) {
    for (const { specifier } of importsOf(readFileSync(file, "utf8"))) {
      const to = resolve(dirname(file), specifier.replace(/\.js$/, ".ts"));
      if (to.startsWith(src + sep)) found.add(to);
    }
  }
  return [...found];
}

const files = filesOfRaft();

describe("the core of Raft", () => {
  test("has files and imports for the scanner to find", () => {
    expect(files.length).toBeGreaterThan(10);
    expect(files).toEqual(expect.arrayContaining([join(raft, "raft.ts"), join(base, "limits.ts")]));
  });

  test.each(files.map((file) => [relative(src, file).split(sep).join("/"), file] as const))(
    "is pure in %s",
    (_, file) => {
      expect(impurities(file, readFileSync(file, "utf8"))).toEqual([]);
    },
  );
});

describe("the scanner of the core", () => {
  const file = join(raft, "made_up.ts");

  test.each([
    ["const at = Date.now();", ["Date"]],
    ["const at = new Date();", ["Date"]],
    ["setTimeout(() => {}, 1);", ["setTimeout"]],
    ["setInterval(tick, 1); setImmediate(tick);", ["setInterval", "setImmediate"]],
    ["queueMicrotask(run);", ["queueMicrotask"]],
    ["const at = performance.now();", ["performance"]],
    ["process.exit(1);", ["process"]],
    ["function f(): Promise<void> {}", ["Promise"]],
    ["async function f() { await g(); }", ["async", "await"]],
    ["const bytes = Buffer.alloc(1);", ["Buffer"]],
    ["crypto.randomUUID();", ["crypto"]],
    ["fs.readFileSync(path);", ["fs"]],
    ["const at = Math.random();", ["Math.random"]],
    ["const at = Math . random();", ["Math.random"]],
    ['const at = Math["random"]();', ["Math.random"]],
    [`const text = \`\${Date.now()}\`;`, ["Date"]],
    ['import { readFile } from "node:fs";', ["import of node:fs"]],
    ['import type { A } from "../system/clock.js";', ["import of ../system/clock.js"]],
    ['import "../node/node.js";', ["import of ../node/node.js"]],
    ['export * from "../node/node.js";', ["import of ../node/node.js"]],
    ['const a = import("../node/node.js");', ["import of ../node/node.js"]],
    ['const b = "//"; Date.now();', ["Date"]],
  ])("rejects %s", (source, expected) => {
    expect(impurities(file, source)).toEqual(expect.arrayContaining(expected));
  });

  test.each([
    "// Date, Promise and Math.random are not for here\nconst a = 1;",
    "/** await setTimeout(1) */\nconst a = 1;",
    'import { quorum } from "./membership/quorum.js";',
    'import { assert } from "../base/assert.js";',
    'import { limits } from "../raft/../base/limits.js";',
    "const validated = update(fsync, preprocess);",
    "this.processed = options.random();",
    "const a = Math.floor(options.random() * 10);",
  ])("accepts %s", (source) => {
    expect(impurities(file, source)).toEqual([]);
  });
});
