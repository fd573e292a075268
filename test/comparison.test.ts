import { existsSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { describe, expect, test } from "vitest";
import { inRepository } from "./support/processes/processes.js";
import { readDocument } from "./support/repository/documents.js";
import { titlesOf } from "./support/repository/test_titles.mjs";

// Holds the comparison with others to the tests that it cites.

const PAGE = "docs/comparison.md";

/** The rows of all tables: the name, and the cell about Cairn. */
const rows = readDocument(PAGE)
  .split("\n")
  .filter((line) => /^\| [^|]+ \|/.test(line) && !line.startsWith("| |"))
  .map((line) => line.split(" | "))
  .map(([name, cairn]) => [name!.replace("| ", ""), cairn!] as const);

const cited = [...readDocument(PAGE).matchAll(/\]\((\S+) "([^"]+)"\)/g)].map(([, link, title]) => [
  posix.join(posix.dirname(PAGE), link!),
  title!,
]);

/** The titles of a file's tests, behind those of their groups. */
function sentencesIn(file: string): string[] {
  const titles = titlesOf(readFileSync(inRepository(file), "utf8"));
  return titles.filter(({ isGroup }) => !isGroup).map(({ groups, title }) => [...groups, title].join(" "));
}

describe("the comparison with others", () => {
  test("has rows, and cites tests", () => {
    expect(rows.length).toBeGreaterThan(30);
    expect(cited.length).toBeGreaterThan(25);
  });

  test.each(rows)("shows by a test or a benchmark what it says of Cairn about: %s", (_, cell) => {
    const links = [...cell.matchAll(/\]\(([^)\s#]+)/g)].map(([, link]) => posix.join(posix.dirname(PAGE), link!));
    const shown = links.filter((link) => /^(test|bench)\//.test(link));
    expect(shown.length > 0 || /\*\*missing\*\*/i.test(cell), cell).toBe(true);
    expect(links.filter((link) => !existsSync(inRepository(link)))).toEqual([]);
  });

  test.each(cited)("cites a test of %s that exists: %s", (file, title) => {
    expect(sentencesIn(file!)).toContain(title);
  });
});
