import { exhaustion } from "../base/counters.js";
import { nameOf } from "../base/ids.js";
import { limits } from "../base/limits.js";
import type { Clock } from "../system/clock.js";
import type { Logger } from "../system/logger.js";
import type { CoreView } from "./host.js";

/**
 * Tells an operator when members do not understand each other: a member sends messages that no
 * correct member sends, or refuses this node's entries for safety. Either may happen thousands of
 * times a minute, so the log gets the first one and then a count from time to time, and the node's
 * status shows a warning while the event is recent.
 */
export class ProtocolWatch {
  readonly #violations: Repeated;
  readonly #refusals: Repeated;
  /** Violations counted by the core that were reported so far. */
  #seen = 0;
  #toldExhaustion = false;

  constructor(
    private readonly raft: Pick<CoreView, "violations" | "term" | "log">,
    clock: Clock,
    private readonly logger: Logger,
  ) {
    this.#violations = new Repeated(clock, (facts) => {
      logger.warn(facts, "refused a message that no correct member sends");
    });
    this.#refusals = new Repeated(clock, (facts) => logger.error(facts, "a member refused entries for safety"));
  }

  /** Warnings for an operator, as text. */
  get warnings(): string[] {
    const violations = this.#violations.inWords(
      (times, last) => `${times} message(s) that no correct member sends were refused, the last ${last}`,
    );
    const refusals = this.#refusals.inWords(
      (times, last) => `entries of this node were refused for safety ${times} time(s), the last ${last}`,
    );
    return [this.#exhaustion, violations, refusals].filter((text) => text !== undefined);
  }

  /**
   * Counts a message that no correct member sends and that was refused before it reached the core.
   */
  violated(from: string, detail: string): void {
    this.#violations.report(from, detail, 1);
  }

  /**
   * Counts a refusal: a member rejected this node's entries because they contradict entries that it
   * knows to be committed.
   */
  refusedBy(from: string, detail: string): void {
    this.#refusals.report(from, detail, 1);
  }

  /**
   * Reports the violations that the core has counted since the last call, and a nearly exhausted
   * counter once.
   */
  look(): void {
    const { count, latest } = this.raft.violations;
    if (latest !== undefined && count > this.#seen)
      this.#violations.report(nameOf(latest.from), latest.detail, count - this.#seen);
    this.#seen = count;
    if (this.#toldExhaustion || this.#exhaustion === undefined) return;
    this.#toldExhaustion = true;
    this.logger.error({ term: this.raft.term, lastIndex: this.raft.log.last.index }, this.#exhaustion);
  }

  get #exhaustion(): string | undefined {
    return exhaustion(this.raft.term, this.raft.log.last.index);
  }
}

/** A kind of event that may come very often. */
class Repeated {
  #times = 0;
  #untold = 0;
  #toldMs = Number.NEGATIVE_INFINITY;
  #latest: { readonly ms: number; readonly from: string; readonly detail: string } | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly tell: (facts: object) => void,
  ) {}

  report(from: string, detail: string, times: number): void {
    const ms = this.clock.now();
    this.#times += times;
    this.#untold += times;
    this.#latest = { ms, from, detail };
    if (ms - this.#toldMs < limits.violationLogMs) return;
    this.tell({ from, detail, times: this.#untold });
    this.#toldMs = ms;
    this.#untold = 0;
  }

  /** Describes the latest event; undefined when it is not recent. */
  inWords(say: (times: number, last: string) => string): string | undefined {
    const latest = this.#latest;
    if (latest === undefined || this.clock.now() - latest.ms >= limits.violationShownMs) return undefined;
    return say(this.#times, `with ${latest.from}: ${latest.detail}`);
  }
}
