/**
 * The files of scenarios: comments (`# ...`), commands (at the beginning of a line), and under each command, set in by two spaces, the trace
 * that it is expected to leave. Blank lines are as the author likes them.
 */
export interface ScriptLine {
  readonly kind: "command" | "trace" | "text";
  readonly text: string;
  /** From 1. */
  readonly number: number;
}

const INDENT = "  ";

export function parseScript(source: string): ScriptLine[] {
  return source.split("\n").map((text, at) => ({ kind: kindOf(text), text, number: at + 1 }));
}

function kindOf(line: string): ScriptLine["kind"] {
  if (line.trim() === "" || line.startsWith("#")) return "text";
  return line.startsWith(INDENT) ? "trace" : "command";
}

/** Carries out a script's commands; returns it with the traces that they have left this time. */
export function runScript(source: string, run: (command: string) => readonly string[]): string {
  const lines = parseScript(source).filter(({ kind }) => kind !== "trace");
  return lines
    .flatMap((line) => (line.kind === "command" ? [line.text, ...traceOf(line, run)] : [line.text]))
    .join("\n");
}

function traceOf({ text, number }: ScriptLine, run: (command: string) => readonly string[]): string[] {
  try {
    return run(text).map((line) => INDENT + line);
  } catch (error) {
    throw new Error(`line ${number}, ${text}: ${(error as Error).message}`, { cause: error });
  }
}
