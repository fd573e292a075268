import { Histogram } from "../../base/telemetry/measures.js";
import type { Clock } from "../../system/clock.js";
import { TracedWrites } from "./traced_writes.js";

/**
 * Stages of a write at its leader. `queue`: from its proposal until its batch is given to the disk.
 * `sync`: until that batch is durable here. `replicate`: from the same moment until a majority has
 * it, beside `sync`. `apply`: from its commit until it is applied.
 */
export type Stage = "queue" | "sync" | "replicate" | "apply";

export const stages: readonly Stage[] = ["queue", "sync", "replicate", "apply"];

/** The write that is followed, and the times of its steps so far. */
interface Followed {
  readonly index: number;
  readonly proposedMs: number;
  writingMs?: number;
  isWritten?: true;
  committedMs?: number;
}

/**
 * Measures how long writes spend in each stage. It follows one write at a time, and takes the next
 * one that is proposed when that one is done: a sample, whose price does not grow with the load.
 */
export class StageProbe {
  readonly times: Readonly<Record<Stage, Histogram>> = {
    queue: new Histogram(),
    sync: new Histogram(),
    replicate: new Histogram(),
    apply: new Histogram(),
  };
  /** Writes of which a trace wants to know more than the probe does. */
  readonly traced = new TracedWrites();
  #followed: Followed | undefined;

  constructor(private readonly clock: Clock) {}

  proposed(index: number): void {
    this.#followed ??= { index, proposedMs: this.clock.now() };
  }

  /** The entries up to `last` are being given to the disk. */
  writing(last: number): void {
    if (this.traced.size > 0) this.traced.reached("writing", last);
    const followed = this.#followed;
    if (followed === undefined || followed.writingMs !== undefined || followed.index > last) return;
    followed.writingMs = this.clock.now();
    this.times.queue.record(followed.writingMs - followed.proposedMs);
  }

  /** The entries up to `last` are durable here. */
  written(last: number): void {
    if (this.traced.size > 0) this.traced.reached("durable", last);
    const followed = this.#followed;
    if (followed?.writingMs === undefined || followed.isWritten || followed.index > last) return;
    followed.isWritten = true;
    this.times.sync.record(this.clock.now() - followed.writingMs);
  }

  committed(commit: number): void {
    if (this.traced.size > 0) this.traced.reached("committed", commit);
    const followed = this.#followed;
    if (followed?.writingMs === undefined || followed.committedMs !== undefined || followed.index > commit) return;
    followed.committedMs = this.clock.now();
    this.times.replicate.record(followed.committedMs - followed.writingMs);
  }

  applied(index: number): void {
    if (this.traced.size > 0) this.traced.reached("applied", index);
    const followed = this.#followed;
    if (followed === undefined || followed.index > index) return;
    if (followed.committedMs !== undefined) this.times.apply.record(this.clock.now() - followed.committedMs);
    this.#followed = undefined;
  }

  /** The log ends at `last` now: a write above it is gone. */
  truncated(last: number): void {
    if (this.traced.size > 0) this.traced.truncated(last);
    if (this.#followed !== undefined && this.#followed.index > last) this.#followed = undefined;
  }
}
