/**
 * Tells work that nobody waits for its result any more. Every AbortSignal is one; a unary call has
 * one of its own, because an AbortController for each call costs more than many calls themselves.
 */
export interface CancelSignal {
  readonly aborted: boolean;
  /** The error that tells why, once it is aborted. */
  readonly reason: unknown;
  /** The listener is called at most once. */
  addEventListener(type: "abort", listener: () => void, options: { readonly once: true }): void;
  removeEventListener(type: "abort", listener: () => void): void;
}
