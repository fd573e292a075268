/** The part of a package-lock.json of version 3 that the check of licences reads. */
export interface Lock {
  readonly packages: Readonly<
    Record<
      string,
      { readonly version?: string; readonly license?: string; readonly dev?: boolean; readonly link?: boolean }
    >
  >;
}

/**
 * Returns a problem for each package without a licence that is allowed. `licenceOf` returns the
 * licence of an installed package that the lock names none for, by its path.
 */
export function licenceProblems(lock: Lock, licenceOf: (path: string) => string | undefined): string[];

/** Whether an SPDX expression can be met with allowed licences alone. AND binds closer than OR. */
export function isAllowed(expression: string, allowed: readonly string[]): boolean;
