import type { Operation } from "../history.js";

/**
 * Whether operations on one key are linearizable, by trying every order of them: the definition, word for word, and only fit for a handful
 * of operations. It shares nothing with the search that it is there to judge.
 */
export function isLinearizable(operations: readonly Operation[]): boolean {
  return canGoOn(
    null,
    operations.filter(({ status }) => status !== "fail"),
  );
}

/** Whether the remaining operations can take effect in some order, on a key that holds `state`. */
function canGoOn(state: string | null, remaining: readonly Operation[]): boolean {
  if (remaining.every(({ status }) => status === "info")) return true;
  return remaining.some((operation) => {
    const others = remaining.filter((other) => other !== operation);
    // One that returned before this one was called has to come before it.
    if (others.some(({ ret }) => ret !== null && ret < operation.call)) return false;
    const after = carryOut(operation, state);
    return after !== undefined && canGoOn(after.state, others);
  });
}

/** The state behind an operation; undefined if it cannot have had its answer. */
export function carryOut(operation: Operation, state: string | null): { state: string | null } | undefined {
  const { op, value, from, out, found, status } = operation;
  const answered = status === "ok";
  if (op === "put") return { state: value! };
  if (op === "get") {
    if (!answered) return { state };
    return (found ? out : null) === state ? { state } : undefined;
  }
  if (op === "delete") return answered && found !== (state !== null) ? undefined : { state: null };
  const swaps = state === from;
  if (answered && found !== swaps) return undefined;
  if (answered && !swaps && out !== undefined && out !== state) return undefined;
  return { state: swaps ? value! : state };
}
