export function matches(pattern: string, name: string): boolean;
export function pick<Row extends { readonly name: string }>(
  rows: readonly Row[],
  patterns: readonly string[] | undefined,
): Row[];
export function sizeInName(bytes: number): string;
export function bytesInWords(bytes: number): string;
