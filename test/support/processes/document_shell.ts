import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { CodeBlock } from "../repository/documents.js";
import { freePorts } from "./process_cluster.js";
import { COMMAND, type RunningCommand, startProcess } from "./processes.js";

// Runs the commands of a document as a reader would: pasted into one shell, one block after the other.

/** How long a block's commands may take to show what the document says, in milliseconds. A bound, not a pause. */
const PATIENCE_MS = 120_000;

/** How long the commands of one block may take, in milliseconds. A bound, too. */
const BLOCK_MS = 300_000;

/** Pause between two looks, in milliseconds. */
const LOOK_MS = 50;

export interface DocumentShellOptions {
  /** The document's text: each loopback port in it gets a free one. */
  readonly document: string;
  readonly env?: Readonly<Record<string, string>>;
  /** The program that `cairn` is; default: this repository's. */
  readonly command?: string;
}

/** A bash in a new directory. What it starts in the background ends with it. */
export class DocumentShell {
  #steps = 0;
  #read = 0;

  private constructor(
    readonly directory: string,
    private readonly ports: ReadonlyMap<string, number>,
    private readonly bash: RunningCommand,
  ) {}

  static async start({ document, env = {}, command = COMMAND }: DocumentShellOptions): Promise<DocumentShell> {
    const directory = await mkdtemp(join(tmpdir(), "cairn-document-"));
    const named = [...new Set([...document.matchAll(PORT)].map(([, , port]) => port!))];
    const free = await freePorts(named.length);
    const bin = `${directory}.bin`;
    await rm(bin, { recursive: true, force: true });
    const shell = startProcess("bash", ["--noprofile", "--norc"], {
      cwd: directory,
      env: { ...env, PATH: `${bin}${delimiter}${process.env.PATH}` },
      ownGroup: true,
      outlivesTest: true,
    });
    const started = new DocumentShell(directory, new Map(named.map((port, at) => [port, free[at]!])), shell);
    await started.#run(`exec 2>&1; mkdir -p ${bin}`);
    await started.use(command);
    return started;
  }

  /** From now on `cairn` is this program. */
  async use(command: string): Promise<void> {
    const script = join(`${this.directory}.bin`, "cairn");
    await writeFile(script, `#!/bin/sh\nexec ${process.execPath} ${command} "$@"\n`);
    await chmod(script, 0o755);
  }

  /** Text of the document, for this shell. */
  here(text: string): string {
    return text.replaceAll(PORT, (whole, before: string, port: string) => {
      const free = this.ports.get(port);
      return free === undefined ? whole : `${before}${free}`;
    });
  }

  /** Runs the commands of blocks; each must succeed, or show the text block that stands behind it. */
  async follow(blocks: readonly CodeBlock[]): Promise<void> {
    for (const [at, { language, text }] of blocks.entries()) {
      if (language !== "sh") continue;
      const next = blocks[at + 1];
      if (next?.language === "text") await this.shows(text, next.text);
      else await this.run(text);
    }
  }

  /** Runs commands, all of which must succeed, and returns what they print. */
  run(text: string): Promise<string> {
    return this.#run(`set -e\n${this.here(text)}\nset +e`);
  }

  /** Repeats commands until they print these lines. Three dots stand for anything. */
  async shows(text: string, lines: string): Promise<string> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const output = await this.#run(this.here(text));
      const missing = missingLines(output, this.here(lines));
      if (missing.length === 0) return output;
      if (performance.now() > deadline) {
        throw new Error(`$ ${text}\n${output}\n--- does not show\n${missing.join("\n")}`);
      }
      await pause(LOOK_MS);
    }
  }

  async close(): Promise<void> {
    await this.bash.kill();
    await Promise.all(
      [this.directory, `${this.directory}.bin`, `${this.directory}.step`].map((path) =>
        rm(path, { recursive: true, force: true }),
      ),
    );
  }

  /** Runs commands in the shell itself, so that what they define stays. */
  async #run(text: string): Promise<string> {
    const step = ++this.#steps;
    const file = `${this.directory}.step`;
    await writeFile(file, `${text}\n`);
    const end = `<<step ${step} is done>>\n`;
    await this.bash.send(`. ${file} < /dev/null; rm -f ${file}; printf '\\n${end.trimEnd()}\\n'`);
    const look = () => {
      const at = this.bash.stdout.indexOf(end, this.#read);
      return at < 0 ? undefined : at;
    };
    const found = await this.bash.until(`the end of:\n${text}`, look, BLOCK_MS);
    const output = this.bash.stdout.slice(this.#read, found).trimEnd();
    this.#read = found + end.length;
    return output;
  }
}

const PORT = /(\b127\.0\.0\.1[:/]|\blocalhost:|sport = :)(\d{4})\b/g;

/** Those of the expected lines that no line of the output has. */
export function missingLines(output: string, expected: string): string[] {
  const shown = output.split("\n").map(squeezed);
  return expected
    .split("\n")
    .map(squeezed)
    .filter((line) => line !== "" && !shown.some((each) => hasInOrder(each, line.split("..."))));
}

function hasInOrder(line: string, parts: readonly string[]): boolean {
  let at = 0;
  for (const part of parts) {
    const found = line.indexOf(part.trim(), at);
    if (found < 0) return false;
    at = found + part.trim().length;
  }
  return true;
}

/** Columns of tables have as many spaces as they need. */
function squeezed(line: string): string {
  return line.replaceAll(/\s+/g, " ").trim();
}
