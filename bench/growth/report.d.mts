/** `result` is what the command writes with `--json`. */
export function tablesOf(result: unknown): Record<string, string>;
