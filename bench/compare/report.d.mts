/** `result` is what the command prints with `--json`. */
export function report(result: unknown): string;
