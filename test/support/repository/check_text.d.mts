/**
 * Returns the problems of one file, each as `path:line: text`. `path` is below the repository, with
 * forward slashes, and decides which rules apply.
 */
export function problemsOf(path: string, text: string): string[];
