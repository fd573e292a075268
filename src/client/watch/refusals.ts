import { type CairnError, type CairnErrorCode, hasCode } from "../../base/errors.js";
import type { Clock } from "../../system/clock.js";
import { isPassing } from "../any_node.js";

/** Refusals that every node would repeat. */
const FINAL: ReadonlySet<CairnErrorCode> = new Set([
  "INVALID_ARGUMENT",
  "LIMIT_EXCEEDED",
  "WRONG_CLUSTER",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
]);

/** Whether a failure ends a watch at once: another node would refuse it, too. */
export function isFinal({ code }: CairnError): boolean {
  return FINAL.has(code);
}

/**
 * Gathers the refusals of a watch by single nodes. One node no longer has the history, runs an
 * earlier version or has a damaged log; another one may serve the watch. So it is refused only when
 * all nodes have refused it, or when those that cannot be reached have been waited for.
 */
export class Refusals {
  readonly #refused = new Map<string, CairnError>();
  readonly #missed = new Set<string>();
  #since = 0;

  constructor(
    private readonly nodes: readonly string[],
    private readonly clock: Clock,
    /** Time to wait for nodes that cannot be reached, in ms. */
    private readonly patienceMs: number,
  ) {}

  /** Notes why a node did not serve the watch. */
  add(address: string, error: CairnError): void {
    if (isPassing(error) || error.retryable || hasCode(error, "CANCELLED")) {
      this.#missed.add(address);
      return;
    }
    if (this.#refused.size === 0) this.#since = this.clock.now();
    this.#refused.set(address, error);
  }

  of(address: string): CairnError | undefined {
    return this.#refused.get(address);
  }

  /** The watch has gone on: what was refused before says nothing about what follows. */
  clear(): void {
    this.#refused.clear();
    this.#missed.clear();
  }

  /** Returns the error that the watch ends with; undefined while a node may serve it. */
  get verdict(): CairnError | undefined {
    const wasAsked = (address: string) => this.#refused.has(address) || this.#missed.has(address);
    if (this.#refused.size === 0 || !this.nodes.every(wasAsked)) return undefined;
    const isWaiting = this.#refused.size < this.nodes.length && this.clock.now() - this.#since < this.patienceMs;
    return isWaiting ? undefined : mostUseful([...this.#refused.values()]);
  }
}

/** Returns the one that says the most: of lost histories, that of the longest one. */
function mostUseful(errors: readonly CairnError[]): CairnError {
  const lost = errors.filter(({ code }) => code === "OUT_OF_RANGE");
  if (lost.length === 0) return errors[0]!;
  const oldest = ({ oldestIndex = Number.POSITIVE_INFINITY }: CairnError) => oldestIndex;
  return lost.reduce((best, each) => (oldest(each) < oldest(best) ? each : best));
}
