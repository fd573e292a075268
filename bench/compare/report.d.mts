/** `result` is what the command prints with `--json`. */
export function report(result: unknown): string;
export function withReport(page: string, text: string): string;
export function table(head: readonly string[], body: readonly (readonly string[])[]): string;
export function figure(value: number | undefined, unit?: string): string;
