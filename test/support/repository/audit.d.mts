/**
 * Judges what `npm audit --json` has printed: `isFailed` says whether the check fails, and `lines`
 * are for whoever runs it.
 */
export function judge(output: string): { readonly isFailed: boolean; readonly lines: readonly string[] };
