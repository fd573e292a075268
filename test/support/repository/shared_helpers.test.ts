import { existsSync, readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { expect, test } from "vitest";
import { inRepository } from "../processes/processes.js";
import { importsOf } from "./source_text.js";

/** The folder of test/ that holds a file; for a file right in test/, its own path. */
const folderOf = (path: string): string => path.split("/")[1]!;

/** The files below test/ that a file imports, by the name of the source. */
function importedBy(path: string): string[] {
  return importsOf(readFileSync(inRepository(path), "utf8"))
    .filter(({ specifier }) => specifier.startsWith("."))
    .map(({ specifier }) => posix.join(posix.dirname(path), specifier).replace(/\.js$/, ".ts"))
    .filter((target) => target.startsWith("test/") && existsSync(inRepository(target)));
}

const files = readdirSync(inRepository("test"), { recursive: true, encoding: "utf8" })
  .filter((name) => /\.m?ts$|\.mjs$/.test(name))
  .map((name) => `test/${name}`);

test("a helper that two folders share stands in test/support", () => {
  const imports = files.flatMap((from) => importedBy(from).map((to) => ({ from, to })));
  expect(imports).toContainEqual({ from: "test/support/nodes/served_node.ts", to: "test/support/nodes/nodes.ts" });
  const wrong = imports.filter(({ from, to }) => folderOf(to) !== "support" && folderOf(from) !== folderOf(to));
  expect(wrong).toEqual([]);
});
