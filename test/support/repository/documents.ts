import { readdirSync, readFileSync } from "node:fs";
import { inRepository } from "../processes/processes.js";

/** Reads the documents of the repository, for tests that hold them to the code. */

/** The pages that a reader is sent to, below the repository. */
export function documentPaths(): string[] {
  const top = readdirSync(inRepository("."));
  const pages = [...top, ...below("docs"), ...below(".github"), ...below("src"), ...below("test"), ...below("bench")];
  return pages.filter((path) => path.endsWith(".md"));
}

function below(folder: string): string[] {
  return readdirSync(inRepository(folder), { recursive: true }).map((name) => `${folder}/${name}`);
}

export function readDocument(path: string): string {
  return readFileSync(inRepository(path), "utf8");
}

export interface CodeBlock {
  readonly language: string;
  readonly text: string;
}

/** The titles of a page's chapters, in order. */
export function chaptersOf(path: string): string[] {
  return [...readDocument(path).matchAll(/^## (.*)$/gm)].map(([, title]) => title!);
}

/** The code blocks of a chapter ("" for the whole page), in order; only those behind a text of it, if one is given. */
export function blocksOf(path: string, chapter = "", behind = ""): CodeBlock[] {
  const page = readDocument(path);
  const start = chapter === "" ? 0 : page.indexOf(`\n## ${chapter}\n`);
  if (start < 0) throw new Error(`${path} has no chapter "${chapter}"`);
  const end = chapter === "" ? -1 : page.indexOf("\n## ", start + 1);
  const text = page.slice(start, end < 0 ? undefined : end);
  if (!text.includes(behind)) throw new Error(`${path} has no "${behind}" in the chapter "${chapter}"`);
  const found = text.slice(text.indexOf(behind)).matchAll(/^```(\w+)\n(.*?)^```$/gms);
  return [...found].map(([, language, text]) => ({ language: language!, text: text! }));
}

/** The commands of a chapter, a line each, without remarks. Input of the gateway is left out. */
export function commandsOf(path: string, chapter: string): string[] {
  return blocksOf(path, chapter)
    .filter(({ language, text }) => language === "sh" && !text.includes("<<'EOF'"))
    .flatMap(({ text }) => text.split("\n"))
    .map((line) => line.replace(/\s+#.*$/, ""))
    .filter((line) => line !== "");
}
