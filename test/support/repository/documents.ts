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

/** The code blocks of a chapter ("" for the whole page), in order. */
export function blocksOf(path: string, chapter = ""): CodeBlock[] {
  const page = readDocument(path);
  const start = chapter === "" ? 0 : page.indexOf(`\n## ${chapter}\n`);
  if (start < 0) throw new Error(`${path} has no chapter "${chapter}"`);
  const end = chapter === "" ? -1 : page.indexOf("\n## ", start + 1);
  const found = page.slice(start, end < 0 ? undefined : end).matchAll(/^```(\w+)\n(.*?)^```$/gms);
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
