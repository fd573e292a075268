/** Writes that are followed at a time; a further one has no events. */
const TRACED_WRITES = 64;

/** Adds an event to the trace of a write. */
export type TraceEvent = (name: string, attributes: Readonly<Record<string, number>>) => void;

/** A write in a trace, and the steps that it has taken. */
interface TracedWrite {
  readonly tell: TraceEvent;
  readonly done: Set<WriteStep>;
}

type WriteStep = "writing" | "durable" | "committed" | "applied";

/**
 * Tells the traces of writes when these reach their steps: `cairn.writing` (given to the disk),
 * `cairn.durable` (on this node), `cairn.committed` (durable on a majority), `cairn.applied`.
 */
export class TracedWrites {
  readonly #writes = new Map<number, TracedWrite>();

  get size(): number {
    return this.#writes.size;
  }

  begin(index: number, tell: TraceEvent): void {
    if (this.#writes.size < TRACED_WRITES) this.#writes.set(index, { tell, done: new Set() });
  }

  /** The writes up to `last` have taken a step. */
  reached(step: WriteStep, last: number): void {
    for (const [index, { tell, done }] of this.#writes) {
      if (index > last) continue;
      if (step === "applied") this.#writes.delete(index);
      if (done.has(step)) continue;
      done.add(step);
      tell(`cairn.${step}`, { "cairn.index": index });
    }
  }

  /** The log ends at `last` now: writes above it are gone. */
  truncated(last: number): void {
    for (const index of this.#writes.keys()) if (index > last) this.#writes.delete(index);
  }
}
