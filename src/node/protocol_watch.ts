import { exhaustion } from "../base/counters.js";
import { nameOf } from "../base/ids.js";
import { limits } from "../base/limits.js";
import type { MessageSender } from "../raft/messages.js";
import type { RefusalCount } from "../raft/state.js";
import type { Clock } from "../system/clock.js";
import type { LogFacts } from "../system/log_fields.js";
import type { Logger } from "../system/logger.js";
import type { CoreView } from "./host.js";

/**
 * Tells an operator when members do not understand each other: a member sends messages that no
 * correct member sends, or refuses this node's entries for safety; or a stranger sends messages.
 * Each may happen thousands of times a minute, so the log gets the first one and then a count from
 * time to time, and the node's status shows a warning while the event is recent.
 */
export class ProtocolWatch {
  readonly #violations: Repeated;
  readonly #strangers: Repeated;
  readonly #otherProtocols: Repeated;
  readonly #refusals: Repeated;
  /** Messages refused by the core that were reported so far. */
  #seen = { violations: 0, strangers: 0 };
  #toldExhaustion = false;

  constructor(
    private readonly raft: Pick<CoreView, "violations" | "strangers" | "term" | "log">,
    clock: Clock,
    private readonly logger: Logger,
  ) {
    this.#violations = new Repeated(clock, (facts) => {
      logger.warn(facts, "refused a message that no correct member sends");
    });
    this.#strangers = new Repeated(clock, (facts) => {
      logger.warn(facts, "refused a message whose sender is not a member, as far as this node knows");
    });
    this.#otherProtocols = new Repeated(clock, (facts) => {
      logger.warn(facts, "refused a message of another version of the protocol between members");
    });
    this.#refusals = new Repeated(clock, (facts) => logger.error(facts, "a member refused entries for safety"));
  }

  /** Warnings for an operator, as text. */
  get warnings(): string[] {
    const violations = this.#violations.inWords(
      (times, last) => `${times} message(s) that no correct member sends were refused, the last ${last}`,
    );
    const strangers = this.#strangers.inWords(
      (times, last) =>
        `${times} message(s) whose senders are not members, as far as this node knows, were refused, the last ${last}`,
    );
    const otherProtocols = this.#otherProtocols.inWords(
      (times, last) => `${times} message(s) of another version of the protocol were refused, the last ${last}`,
    );
    const refusals = this.#refusals.inWords(
      (times, last) => `entries of this node were refused for safety ${times} time(s), the last ${last}`,
    );
    return [this.#exhaustion, violations, strangers, otherProtocols, refusals].filter((text) => text !== undefined);
  }

  /**
   * Counts a message that no correct member sends and that was refused before it reached the core.
   */
  violated(sender: MessageSender, detail: string): void {
    this.#violations.report(sender, detail, 1);
  }

  /** Counts a message of a stranger that was refused before it reached the core. */
  strange(sender: MessageSender, detail: string): void {
    this.#strangers.report(sender, detail, 1);
  }

  /** Counts a message that was refused because it is of another version of the protocol. */
  otherProtocol(sender: MessageSender, detail: string): void {
    this.#otherProtocols.report(sender, detail, 1);
  }

  /**
   * Counts a refusal: a member rejected this node's entries because they contradict entries that it
   * knows to be committed.
   */
  refusedBy(from: string, detail: string): void {
    this.#refusals.report({ from }, detail, 1);
  }

  /**
   * Reports the refusals that the core has counted since the last call, and a nearly exhausted
   * counter once.
   */
  look(): void {
    const { violations, strangers } = this.raft;
    reportNew(this.#violations, violations, this.#seen.violations);
    reportNew(this.#strangers, strangers, this.#seen.strangers);
    this.#seen = { violations: violations.count, strangers: strangers.count };
    if (this.#toldExhaustion || this.#exhaustion === undefined) return;
    this.#toldExhaustion = true;
    this.logger.error({ term: this.raft.term, lastIndex: this.raft.log.last.index }, this.#exhaustion);
  }

  get #exhaustion(): string | undefined {
    return exhaustion(this.raft.term, this.raft.log.last.index);
  }
}

function reportNew(reports: Repeated, { count, latest }: RefusalCount, seen: number): void {
  if (latest !== undefined && count > seen) reports.report(latest, latest.detail, count - seen);
}

/** A kind of event that may come very often. */
class Repeated {
  #times = 0;
  #untold = 0;
  #toldMs = Number.NEGATIVE_INFINITY;
  #latest: { readonly ms: number; readonly sender: MessageSender; readonly detail: string } | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly tell: (facts: LogFacts) => void,
  ) {}

  report(sender: MessageSender, detail: string, times: number): void {
    const ms = this.clock.now();
    this.#times += times;
    this.#untold += times;
    this.#latest = { ms, sender, detail };
    if (ms - this.#toldMs < limits.violationLogMs) return;
    this.tell({ peer: nameOf(sender.from), address: sender.address, detail, times: this.#untold });
    this.#toldMs = ms;
    this.#untold = 0;
  }

  /** Describes the latest event; undefined when it is not recent. */
  inWords(say: (times: number, last: string) => string): string | undefined {
    const latest = this.#latest;
    if (latest === undefined || this.clock.now() - latest.ms >= limits.violationShownMs) return undefined;
    const { from, address } = latest.sender;
    const where = address === undefined ? "" : ` at ${address}`;
    return say(this.#times, `with ${nameOf(from)}${where}: ${latest.detail}`);
  }
}
