import { readdirSync, readFileSync } from "node:fs";
import { inRepository } from "../processes/processes.js";

/** Reads the sources, for tests that hold all of them to a rule. */

export interface SourceFile {
  /** Below the repository, with slashes: src/raft/raft.ts. */
  readonly path: string;
  readonly source: string;
}

export function sourceFiles(): SourceFile[] {
  return readdirSync(inRepository("src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => `src/${name.replaceAll("\\", "/")}`)
    .map((path) => ({ path, source: readFileSync(inRepository(path), "utf8") }));
}
