import { nameOf } from "../../base/ids.js";
import { limits } from "../../base/limits.js";
import type { ProgressInfo } from "../../raft/raft.js";
import type { Clock } from "../../system/clock.js";
import type { LogFacts } from "../../system/log_fields.js";
import type { Logger } from "../../system/logger.js";
import type { RetentionView } from "./reason.js";
import type { OutgoingTransfer } from "./send_queue.js";
import { sizeText } from "./sizes.js";

/** The surroundings of {@link LagMonitor}. */
export interface LagMonitorOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Maximum bytes of log retained behind a snapshot for a follower that is receiving it. */
  readonly keptBytes: number;
  /** Bytes of log written since a fixed moment. */
  writtenBytes(): number;
  /** The other members; none when this node does not lead. */
  progress(): readonly ProgressInfo[];
  lastIndex(): number;
}

/** A transfer to a follower, since its beginning. */
interface TransferStart {
  readonly startedMs: number;
  /** Value of {@link LagMonitorOptions.writtenBytes} at the beginning. */
  readonly startedBytes: number;
}

/** Size and duration of a transfer, and the log written meanwhile. */
interface Measure {
  readonly fileBytes: number;
  readonly ms: number;
  readonly grownBytes: number;
}

/** Whether a follower can catch up by snapshots. */
export type CatchUp = { readonly kind: "possible" } | { readonly kind: "hopeless"; readonly reason: string };

/** Do not estimate a transfer's duration before this many milliseconds have passed. */
const MEASURABLE_MS = 5_000;

/**
 * Tells whether followers can catch up, from the leader's measurements. A snapshot takes time to
 * arrive and to be installed. When more log is written meanwhile than is retained, the snapshot is
 * outdated on arrival, and so is the next one. Nothing but these warnings shows that.
 */
export class LagMonitor {
  readonly #runs = new Map<string, TransferStart>();
  /** Followers that cannot catch up, with the reason. */
  readonly #hopeless = new Map<string, string>();
  /** Number of consecutive snapshots that were outdated when they were installed. */
  readonly #futile = new Map<string, number>();
  /** Time since which a member does not answer. */
  readonly #silentSince = new Map<string, number>();
  readonly #silent = new Map<string, string>();

  constructor(private readonly options: LagMonitorOptions) {}

  /** Warnings for an operator, as text. */
  get warnings(): readonly string[] {
    return [...this.#hopeless.values(), ...this.#silent.values()];
  }

  /** Returns whether a follower can catch up by snapshots, as far as measured. */
  catchUp(key: string): CatchUp {
    const reason = this.#hopeless.get(key);
    return reason === undefined ? { kind: "possible" } : { kind: "hopeless", reason };
  }

  /** Returns {@link RetentionView.margins}. */
  margins(transfers: readonly OutgoingTransfer[]): RetentionView["margins"] {
    const margins = new Map<string, number>();
    for (const transfer of transfers) {
      const measure = this.#foreseen(transfer);
      if (measure !== undefined) margins.set(transfer.to, this.options.keptBytes - measure.grownBytes);
    }
    return margins;
  }

  /** Starts to measure a transfer. */
  begun(to: string): void {
    const { clock, writtenBytes } = this.options;
    this.#runs.set(to, { startedMs: clock.now(), startedBytes: writtenBytes() });
  }

  /**
   * Judges a transfer that has ended. `installed`: the snapshot that it has brought. The log starts
   * behind `boundary` by now.
   */
  ended(to: string, installed: { index: number; fileBytes: number } | undefined, boundary: number): void {
    const run = this.#runs.get(to);
    this.#runs.delete(to);
    if (run === undefined || installed === undefined) return;
    const isFutile = installed.index < boundary;
    if (isFutile) this.#countFutile(to, installed.index, boundary);
    else this.#futile.delete(to);
    const measure = this.#soFar(run, installed.fileBytes);
    if (isFutile || measure.grownBytes > this.options.keptBytes) this.#mark(to, measure);
    else this.#hopeless.delete(to);
  }

  /** Judges the transfers under way and the silent members. Call this on each tick. */
  tick(transfers: readonly OutgoingTransfer[]): void {
    const progress = this.options.progress();
    for (const transfer of transfers) {
      const measure = this.#foreseen(transfer);
      if (measure !== undefined && measure.grownBytes > this.options.keptBytes) this.#mark(transfer.to, measure);
    }
    this.#forget(progress);
    for (const member of progress) this.#lookForSilence(member);
  }

  #soFar({ startedMs, startedBytes }: TransferStart, fileBytes: number): Measure {
    const { clock, writtenBytes } = this.options;
    return { fileBytes, ms: clock.now() - startedMs, grownBytes: writtenBytes() - startedBytes };
  }

  /** Extrapolates a transfer to its end; undefined when it is too early to tell. */
  #foreseen({ to, totalBytes, doneBytes, bytesPerSecond }: OutgoingTransfer): Measure | undefined {
    const run = this.#runs.get(to);
    if (run === undefined || bytesPerSecond === 0) return undefined;
    const { ms, grownBytes } = this.#soFar(run, totalBytes);
    if (ms < MEASURABLE_MS) return undefined;
    const wholeMs = ms + ((totalBytes - doneBytes) * 1_000) / bytesPerSecond;
    return { fileBytes: totalBytes, ms: wholeMs, grownBytes: (grownBytes * wholeMs) / ms };
  }

  #mark(to: string, { fileBytes, ms, grownBytes }: Measure): void {
    const perSecond = (bytes: number) => `${sizeText((bytes * 1_000) / Math.max(ms, 1))}/s`;
    const text =
      `${nameOf(to)} cannot catch up: a snapshot of ${sizeText(fileBytes)} takes ${Math.round(ms / 100) / 10} s to arrive and be installed, at ` +
      `${perSecond(fileBytes)}, and the log grows by ${perSecond(grownBytes)} meanwhile, more than the ` +
      `${sizeText(this.options.keptBytes)} kept for it; slow the writes down, or raise snapshotBandwidth (--snapshot-bandwidth) or pinnedLogBytes (--pinned-log-bytes)`;
    if (!this.#hopeless.has(to))
      this.options.logger.warn({ peer: nameOf(to), detail: text }, "a member cannot catch up");
    this.#hopeless.set(to, text);
  }

  #countFutile(to: string, index: number, boundary: number): void {
    const inARow = (this.#futile.get(to) ?? 0) + 1;
    this.#futile.set(to, inARow);
    const facts: LogFacts = { peer: nameOf(to), snapshotIndex: index, firstIndex: boundary + 1, times: inARow };
    this.options.logger.warn(facts, "a snapshot was outdated when it was installed: sending a newer one");
  }

  /** Drops warnings about members that have caught up, that answer again, or that left. */
  #forget(progress: readonly ProgressInfo[]): void {
    for (const id of [...this.#hopeless.keys(), ...this.#futile.keys(), ...this.#runs.keys()]) {
      const member = progress.find((each) => each.key === id);
      if (member === undefined) this.#runs.delete(id);
      if (member !== undefined && (member.state !== "replicate" || !member.isActive)) continue;
      this.#hopeless.delete(id);
      this.#futile.delete(id);
    }
    for (const id of [...this.#silentSince.keys()]) {
      if (progress.some((member) => member.id === id && !member.isActive)) continue;
      this.#silentSince.delete(id);
      this.#silent.delete(id);
    }
  }

  #lookForSilence({ id, match, isActive }: ProgressInfo): void {
    if (isActive) return;
    const now = this.options.clock.now();
    const since = this.#silentSince.get(id) ?? now;
    this.#silentSince.set(id, since);
    const lacks = this.options.lastIndex() - match;
    if (now - since < limits.silentMs || lacks < limits.silentEntries) return;
    const seconds = Math.round((now - since) / 1_000);
    const facts: LogFacts = { peer: id, durationMs: Math.round(now - since), lagEntries: lacks };
    if (!this.#silent.has(id)) this.options.logger.warn(facts, "a member does not answer");
    this.#silent.set(id, `${id} has not answered for ${seconds} s, and lacks ${lacks} entries`);
  }
}
