import { limits } from "../base/limits.js";
import { type Clock, systemClock } from "./clock.js";
import { identifyingFields, type LogFacts } from "./log_fields.js";
import type { Logger } from "./logger.js";

/** A logger that holds equal events back. */
export interface RepeatLimitedLogger extends Logger {
  /** Writes the counts of what was held back, at once. Call this before the process ends. */
  flush(): void;
}

type LogMethod = keyof Logger;

/** An event, and its repeats within the present window. */
interface CountedEvent {
  readonly level: LogMethod;
  readonly message: string;
  readonly startedMs: number;
  written: number;
  held: number;
  heldFromMs: number;
  heldToMs: number;
  /** Facts of the last one that was held back. */
  facts: LogFacts;
}

/** Loggers made here: a second layer would count what the first one has let through. */
const limited = new WeakSet<Logger>();

/**
 * Returns a logger that writes an event `limits.logRepeats` times within `limits.logRepeatMs`. It
 * counts further ones, and writes one line with their number and time span when the window is over.
 * Two events are equal when level, message and all fields that identify an event are. Lines of the
 * audit always pass.
 */
export function limitRepeats(logger: Logger, clock: Clock = systemClock): RepeatLimitedLogger {
  if (limited.has(logger)) return logger as RepeatLimitedLogger;
  const repeats = new Repeats(logger, clock);
  const method = (level: LogMethod) => (facts: LogFacts, message: string) => repeats.note(level, facts, message);
  const made = {
    debug: method("debug"),
    info: method("info"),
    warn: method("warn"),
    error: method("error"),
    flush: () => repeats.flush(),
  };
  limited.add(made);
  return made;
}

class Repeats {
  /** The events of which a window is open, in the order in which they came. */
  readonly #events = new Map<string, CountedEvent>();
  #cancelTimer: (() => void) | undefined;

  constructor(
    private readonly logger: Logger,
    private readonly clock: Clock,
  ) {}

  note(level: LogMethod, facts: LogFacts, message: string): void {
    if (facts.audit !== undefined) {
      this.logger[level](facts, message);
      return;
    }
    const event = this.#eventOf(level, facts, message);
    if (event.written < limits.logRepeats) {
      event.written++;
      this.logger[level](facts, message);
      return;
    }
    const now = this.clock.now();
    if (event.held === 0) event.heldFromMs = now;
    event.held++;
    event.heldToMs = now;
    event.facts = facts;
    this.#cancelTimer ??= this.clock.after(this.#leftMs(event), () => this.#look(), true);
  }

  flush(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    for (const event of this.#events.values()) this.#tell(event);
    this.#events.clear();
  }

  #eventOf(level: LogMethod, facts: LogFacts, message: string): CountedEvent {
    const name = nameOf(level, facts, message);
    const known = this.#events.get(name);
    if (known !== undefined && this.#leftMs(known) > 0) return known;
    if (known !== undefined) this.#close(name, known);
    this.#makeRoom();
    const startedMs = this.clock.now();
    const event = { level, message, startedMs, written: 0, held: 0, heldFromMs: 0, heldToMs: 0, facts };
    this.#events.set(name, event);
    return event;
  }

  /** Forgets windows that are over, and the oldest one when there are too many. */
  #makeRoom(): void {
    if (this.#events.size < limits.logEvents) return;
    this.#closeOver();
    for (const [name, event] of this.#events) {
      if (this.#events.size < limits.logEvents) return;
      this.#close(name, event);
    }
  }

  #look(): void {
    this.#cancelTimer = undefined;
    this.#closeOver();
    const waits = [...this.#events.values()].filter(({ held }) => held > 0).map((event) => this.#leftMs(event));
    if (waits.length > 0) this.#cancelTimer = this.clock.after(Math.min(...waits), () => this.#look(), true);
  }

  #closeOver(): void {
    for (const [name, event] of this.#events) if (this.#leftMs(event) <= 0) this.#close(name, event);
  }

  #close(name: string, event: CountedEvent): void {
    this.#events.delete(name);
    this.#tell(event);
  }

  #tell({ level, message, held, heldFromMs, heldToMs, facts }: CountedEvent): void {
    if (held === 0) return;
    const spanMs = Math.round(heldToMs - heldFromMs);
    const text = `${message}: repeated ${held} ${held === 1 ? "time" : "times"} in ${Math.ceil(spanMs / 1_000)} s`;
    this.logger[level]({ ...facts, repeats: held, spanMs }, text);
  }

  /** Time until the window of an event is over, in milliseconds. */
  #leftMs({ startedMs }: CountedEvent): number {
    return startedMs + limits.logRepeatMs - this.clock.now();
  }
}

function nameOf(level: LogMethod, facts: LogFacts, message: string): string {
  const values = identifyingFields.map((field) => (field === "err" ? String(facts.err ?? "") : facts[field]));
  return JSON.stringify([level, message, ...values]);
}
