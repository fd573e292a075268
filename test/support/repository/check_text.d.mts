/**
 * Returns the problems of one file, each as `path:line: text`. `path` is below the repository, with
 * forward slashes, and decides which rules apply.
 */
export function problemsOf(path: string, text: string): string[];

/**
 * Returns a problem for each rule that the text of ARCHITECTURE.md lists and no title of a test
 * cites. `texts` are the sources of the tests.
 */
export function untestedRules(architecture: string, texts: readonly string[]): string[];
