import { Random } from "../../support/random.js";
import { Finding, type Target, type Trace } from "./target.js";

// Runs cases of targets in turn until the time is over, and stops at the first finding.

export interface LaneOptions {
  readonly seed: number;
  /** Time for all targets together, with what they prepare, in milliseconds. Each gets a turn of {@link LEAST_TURN_MS} in any case. */
  readonly ms: number;
  /** Runs only these cases of the one target: from the first to the last. */
  readonly cases?: readonly [first: number, last: number] | undefined;
  readonly progress?: (progress: Progress) => void;
}

export interface Progress {
  readonly target: string;
  /** The next case. */
  readonly at: number;
  /** Messages so far, by target. */
  readonly messages: Readonly<Record<string, number>>;
}

/** A finding, and how to repeat it. */
export interface Found {
  readonly target: string;
  readonly first: number;
  readonly last: number;
  readonly text: string;
  /** What the last case has done. */
  readonly trace: readonly string[];
}

export interface LaneResult {
  readonly messages: Readonly<Record<string, number>>;
  readonly found: readonly Found[];
}

/** Longest time that one target takes before the next has its turn, in milliseconds. */
const TURN_MS = 12_000;

const LEAST_TURN_MS = 2_000;

/** Lines of a trace that are kept, and characters of each. */
const TRACE_LINES = 400;
const TRACE_CHARACTERS = 20_000;

/** Runs the targets; closes all that it has prepared. */
export async function runLane(targets: readonly Target[], options: LaneOptions): Promise<LaneResult> {
  const lane = new Lane(options);
  const deadline = performance.now() + options.ms;
  const prepared: Target[] = [];
  try {
    for (const target of targets) {
      prepared.push(target);
      if (!(await lane.attempt(target, 0, 0, () => target.prepare()))) return lane.result;
    }
    if (options.cases !== undefined) {
      for (const target of targets) await lane.runCases(target, ...options.cases);
      return lane.result;
    }
    for (let turn = 0; turn < targets.length || performance.now() < deadline; turn++) {
      const target = targets[turn % targets.length]!;
      const now = performance.now();
      const until = Math.max(Math.min(deadline, now + TURN_MS), now + LEAST_TURN_MS);
      if (!(await lane.turn(target, until))) return lane.result;
    }
    return lane.result;
  } finally {
    for (const target of prepared) await target.close();
  }
}

class Lane {
  readonly #messages: Record<string, number> = {};
  readonly #next: Record<string, number> = {};
  readonly #found: Found[] = [];
  #trace: string[] = [];

  constructor(private readonly options: LaneOptions) {}

  get result(): LaneResult {
    return { messages: this.#messages, found: this.#found };
  }

  /** Runs rounds of a target until the time is over. Returns false after a finding. */
  async turn(target: Target, until: number): Promise<boolean> {
    do {
      const first = this.#next[target.name] ?? 0;
      let at = first;
      for (; at < first + target.round && performance.now() < until; at++) {
        this.#report(target, at, at === first);
        if (!(await this.#case(target, at))) return false;
      }
      this.#next[target.name] = at;
      if (at > first && !(await this.attempt(target, first, at - 1, () => target.check()))) return false;
    } while (performance.now() < until);
    return true;
  }

  async runCases(target: Target, first: number, last: number): Promise<void> {
    for (let at = first; at <= last; at++) {
      this.#report(target, at, true);
      if (!(await this.#case(target, at))) return;
      const isRound = (at - first) % target.round === target.round - 1 || at === last;
      if (isRound && !(await this.attempt(target, first, at, () => target.check()))) return;
    }
  }

  async #case(target: Target, at: number): Promise<boolean> {
    this.#trace = [];
    return this.attempt(target, at, at, async () => {
      const random = new Random(caseSeed(this.options.seed, target.name, at));
      const count = await target.run(random, this.#note);
      this.#messages[target.name] = (this.#messages[target.name] ?? 0) + count;
    });
  }

  /** Returns false when the work has found something. */
  async attempt(target: Target, first: number, last: number, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      const text = error instanceof Finding ? error.message : `unexpected: ${String((error as Error)?.stack ?? error)}`;
      this.#found.push({ target: target.name, first, last, text, trace: this.#trace });
      return false;
    }
  }

  readonly #note: Trace = (what, bytes) => {
    if (this.#trace.length >= TRACE_LINES) return;
    const text = bytes === undefined ? what : `${what} ${Buffer.from(bytes).toString("hex")}`;
    this.#trace.push(text.slice(0, TRACE_CHARACTERS));
  };

  #report(target: Target, at: number, isDue: boolean): void {
    if (isDue || at % 500 === 0) this.options.progress?.({ target: target.name, at, messages: this.#messages });
  }
}

/** The seed of one case: the same for the same three, and unlike that of the next. */
function caseSeed(seed: number, name: string, at: number): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(`${seed}/${name}/${at}`)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
