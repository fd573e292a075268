import { existsSync, readdirSync } from "node:fs";
import { posix } from "node:path";
import { describe, expect, test } from "vitest";
import { limits } from "../src/index.js";
import { inRepository } from "./support/processes/processes.js";
import { documentPaths, readDocument } from "./support/repository/documents.js";

// Holds the documents to the repository: links lead somewhere, files and folders exist, figures are those of the code.

const documents = documentPaths();

/** The documents name the folders that come with src/raft. */

/** All files and folders of the repository that a document may name. */
const files = ["src", "test", "proto", "docs", "bench", "api", ".github"].flatMap((folder) => [
  folder,
  ...readdirSync(inRepository(folder), { recursive: true }).map((name) => `${folder}/${name}`),
]);

/** The text without its code blocks. */
function prose(path: string): string {
  return readDocument(path).replaceAll(/^```.*?^```$/gms, "");
}

/** The anchors of a page, as GitHub makes them of its headings. */
function anchorsOf(path: string): string[] {
  const headings = [...prose(path).matchAll(/^#+ (.*)$/gm)].map((match) => match[1]!);
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, "")
      .replaceAll(" ", "-"),
  );
}

describe.each(documents)("%s", (path) => {
  test("has links that lead somewhere", () => {
    const broken = [...prose(path).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link]) => {
      if (/^https?:/.test(link!)) return [];
      const [file = "", anchor] = link!.split("#");
      const target = file === "" ? path : posix.join(posix.dirname(path), file);
      if (!existsSync(inRepository(target))) return [link];
      return anchor === undefined || anchorsOf(target).includes(anchor) ? [] : [link];
    });
    expect(broken).toEqual([]);
  });

  test("names files and folders that exist", () => {
    const named = [...prose(path).matchAll(/`([\w./-]+)`/g)].map((match) => match[1]!);
    const missing = named.filter((name) => {
      if (/^(src|test|proto|docs|bench)\//.test(name)) return !files.includes(name.replace(/\/$/, ""));
      return /\.(ts|proto|mjs|txt)$/.test(name) && !files.some((file) => `/${file}`.endsWith(`/${name}`));
    });
    expect(missing).toEqual([]);
  });
});

describe("the rules of ARCHITECTURE.md", () => {
  const names = [
    ...Array.from({ length: 14 }, (_, at) => `R${at + 1}`),
    ...Array.from({ length: 9 }, (_, at) => `T${at + 1}`),
  ];
  const rows = [...readDocument("ARCHITECTURE.md").matchAll(/^\| ([RT]\d+) \| .* \| (.*) \| (.*) \|$/gm)];

  test("are complete and in order", () => expect(rows.map(([, rule]) => rule)).toEqual(names));

  test("are cited by the tests that hold them", () => {
    const silent = rows.flatMap(([, rule, , tests]) => {
      const held = [...tests!.matchAll(/`([^`]+)`/g)].map((match) => match[1]!);
      expect(held, rule).not.toEqual([]);
      const cites = (file: string) => new RegExp(`\\b${rule}\\b`).test(readDocument(file));
      return held
        .filter((name) => !files.some((file) => `/${file}`.endsWith(`/${name}`) && cites(file)))
        .map((name) => `${rule}: ${name}`);
    });
    expect(silent).toEqual([]);
  });
});

describe("docs/limits.md", () => {
  const rows = [...readDocument("docs/limits.md").matchAll(/^\| `(\w+)` \| ([^|]+) \|/gm)];

  test("lists limits", () => expect(rows.length).toBeGreaterThan(30));

  test.each(rows.map(([, name, figure]) => [name!, figure!]))("says that %s is %s", (name, figure) => {
    expect((limits as Readonly<Record<string, number>>)[name]).toBe(numberOf(figure));
  });
});

/** 1,000; 1.5 MiB; 256 B; 2^48. */
function numberOf(figure: string): number {
  const [, digits, power, unit = ""] = /^([\d.,]+)(?:\^(\d+))?(?: (\w+))?$/.exec(figure) ?? [];
  const factor = { "": 1, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[unit];
  return Number(digits?.replaceAll(",", "")) ** Number(power ?? 1) * (factor ?? Number.NaN);
}

describe("a reader of the documents", () => {
  test.each(["README.md", "docs/decisions/README.md"])("finds every page beside those that %s names", (path) => {
    const folder = path === "README.md" ? "docs" : "docs/decisions";
    const pages = readdirSync(inRepository(folder)).filter((name) => name.endsWith(".md") && name !== "README.md");
    const page = readDocument(path);
    expect(pages.filter((name) => !page.includes(`${name})`))).toEqual([]);
  });
});
