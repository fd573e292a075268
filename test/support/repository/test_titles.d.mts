/** The title of a test or of a group of tests. */
export interface FoundTitle {
  readonly line: number;
  readonly title: string;
  /** Titles of the groups around it, outermost first. */
  readonly groups: readonly string[];
  readonly isGroup: boolean;
}

export function titlesOf(text: string): FoundTitle[];
export function titleProblems(text: string): { readonly line: number; readonly problem: string }[];
export function citedRules(texts: readonly string[]): Set<string>;
