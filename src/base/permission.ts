// The answer to a question of the kind "may I?", so that no caller takes a refusal for success.

/** Whether something may be done; when it must not be, the reason as text. */
export type Permission = { readonly allowed: true } | Refused;

export interface Refused {
  readonly refused: string;
}

export const ALLOWED: Permission = { allowed: true };

/** Returns the permission to do something in which a check found this problem, or none. */
export function unless(problem: string | undefined): Permission {
  return problem === undefined ? ALLOWED : { refused: problem };
}
