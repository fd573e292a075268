import type { Entry } from "../raft/types.js";
import type { ApplyResult, StateMachine } from "./state_machine.js";

/** Applies entries once the machine is prepared for them: at once, or after reads of its disk. */
export function applyPrepared<Result>(
  machine: StateMachine<Result>,
  entries: readonly Entry[],
): readonly ApplyResult<Result>[] | Promise<readonly ApplyResult<Result>[]> {
  const prepared = machine.prepare?.(entries);
  return prepared === undefined ? machine.apply(entries) : prepared.then(() => machine.apply(entries));
}
