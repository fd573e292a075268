import { nameOf } from "../../base/ids.js";
import type { LostData } from "../state.js";
import type { Inflight } from "./inflight.js";

/**
 * The leader's view of one member (etcd-io/raft's design, after Raft section 5.3):
 *
 *              a probe matches
 *     probe ---------------------> replicate
 *      | ^  <---------------------   ^  |
 *      | |   refused, unreachable    |  |
 *      | |                           |  |
 *      | | ahead of                  |  | next is trimmed
 *      | | the snapshot    installed |  |
 *      | +--------- snapshot --------+  |
 *      |             ^    ^             |
 *      +-------------+    +-------------+
 *      next is trimmed, or a probe matches and
 *      the snapshot is smaller than the log
 *
 * - probe: the leader does not know where the logs agree. It sends one message at a time, at
 *   `next`, and another only on an answer or with a heartbeat.
 * - replicate: the logs agree up to right before `next`. Messages follow each other without waiting
 *   for answers, as far as {@link Inflight} allows.
 * - lost: the member has less than it acknowledged (T3). It counts for nothing and receives only
 *   heartbeats, which tell it so, until another directory takes its place.
 * - snapshot: the entries that the member needs next are trimmed, or are larger than the snapshot
 *   that replaces them. It receives no entries, only heartbeats, until it is past the boundary (or
 *   the snapshot).
 */
export type ProgressState =
  | { readonly kind: "probe"; readonly isWaiting: boolean }
  | { readonly kind: "replicate" }
  | ({ readonly kind: "lost" } & LostData)
  | {
      readonly kind: "snapshot";
      /** Index of the newest snapshot at the time of the decision to send one. */
      readonly index: number;
      /**
       * Whether the leader chose the snapshot because it is smaller, although the log has every
       * entry that the member lacks.
       */
      readonly isChosen: boolean;
      /** Ticks until the transfer is retried; undefined while the transfer is under way. */
      readonly retryTicks: number | undefined;
    };

/** A report of the leader's view of one member. */
export interface ProgressInfo {
  /** The member's name. */
  readonly id: string;
  /** The member key. */
  readonly key: string;
  /** Set when the member has less than it acknowledged (T3). */
  readonly lost?: LostData;
  /** The member's log is known to agree with the leader's up to here, durably. */
  readonly match: number;
  /** Index of the next entry to send. */
  readonly next: number;
  /** Highest round sent, and answered, in this term. */
  readonly sentRound: number;
  readonly ackedRound: number;
  readonly state: "probe" | "replicate" | "snapshot" | "lost";
  /** Whether the member has answered within the last election timeout, or a little longer. */
  readonly isActive: boolean;
}

export function infoOf({ id, match, next, sentRound, ackedRound, answers, state }: Progress): ProgressInfo {
  return {
    id: nameOf(id),
    key: id,
    match,
    next,
    sentRound,
    ackedRound,
    isActive: answers,
    state: state.kind,
    ...(state.kind === "lost" && { lost: { acknowledged: state.acknowledged, has: state.has } }),
  };
}

/**
 * Tracks one member. The leader reports events to it by its methods; nothing else changes its
 * fields.
 */
export class Progress {
  #match = 0;
  #next: number;
  #state: ProgressState = { kind: "probe", isWaiting: false };
  #isActive = true;
  #hasRefused = false;
  #wasActive = true;
  #sentRound = 0;
  #ackedRound = 0;
  #sentCommit = 0;
  /**
   * The leader has decided to send the log up to this index rather than a snapshot; undefined
   * before the first decision.
   */
  #byLogUpTo: number | undefined;
  /** Whether entries for this member are being read from the log on disk. */
  #isReading = false;
  #failedTransfers = 0;
  /** Messages with entries that the member was sent and has not answered. */
  readonly #inflight: Inflight;

  constructor(
    /** The member key. */
    readonly id: string,
    inflight: Inflight,
    next: number,
  ) {
    this.#inflight = inflight;
    this.#next = next;
  }

  /** The member's log agrees with the leader's up to this index, durably. */
  get match(): number {
    return this.#match;
  }

  /** Index of the next entry to send. */
  get next(): number {
    return this.#next;
  }

  get state(): ProgressState {
    return this.#state;
  }

  /** Whether the member has answered since the last check (check-quorum, thesis section 6.2). */
  get isActive(): boolean {
    return this.#isActive;
  }

  /** Highest round sent in this term; 0 before the first. */
  get sentRound(): number {
    return this.#sentRound;
  }

  /** Highest round answered in this term; 0 before the first. */
  get ackedRound(): number {
    return this.#ackedRound;
  }

  /** Commit index in the latest message to this member. */
  get sentCommit(): number {
    return this.#sentCommit;
  }

  /** Snapshot transfers to this member that failed in a row without any progress. */
  get failedTransfers(): number {
    return this.#failedTransfers;
  }

  /**
   * Whether the member has answered since the last check or in the period before it: right after a
   * check no member has answered yet.
   */
  get answers(): boolean {
    return this.#isActive || this.#wasActive;
  }

  /** Ends a period of check-quorum and begins the next one. */
  looked(): void {
    this.#wasActive = this.#isActive;
    this.#isActive = false;
    this.#hasRefused = false;
  }

  /** Whether a message with entries may be sent now. */
  get maySend(): boolean {
    const state = this.#state;
    if (this.#isReading || state.kind === "snapshot" || state.kind === "lost") return false;
    return state.kind === "probe" ? !state.isWaiting : !this.#inflight.isFull;
  }

  /** Whether no message with entries is under way to the member, and none is being prepared. */
  get isQuiet(): boolean {
    return this.#inflight.isEmpty && !this.#isReading;
  }

  /**
   * Whether the decision to send the log rather than a snapshot still stands: until the member has
   * reached the index that the decision was about.
   */
  get isByLog(): boolean {
    return this.#byLogUpTo !== undefined && this.#match < this.#byLogUpTo;
  }

  /** Records the leader's decision to send the log up to `index` rather than a snapshot. */
  decidedByLog(index: number): void {
    this.#byLogUpTo = index;
  }

  /** Records a message to the member. */
  sent(round: number, commit: number): void {
    this.#sentRound = round;
    this.#sentCommit = commit;
  }

  /** Records that the message sent last asks whether the logs agree right before `next`. */
  probed(): void {
    this.#awaitAnswer();
  }

  /** Records that the message of this round holds the next `count` entries. */
  sentEntries(round: number, count: number, bytes: number): void {
    if (this.#state.kind === "probe") {
      this.#awaitAnswer();
      return;
    }
    this.#next += count;
    this.#inflight.add(round, bytes);
  }

  /** Records a sign of life. */
  heard(): void {
    this.#isActive = true;
  }

  /** Records the answer to the message of this round. */
  answered(round: number): void {
    this.heard();
    this.#ackedRound = Math.max(this.#ackedRound, round);
    this.#inflight.answered(round);
  }

  /** Whether the member has refused this leader, as no correct one is, since the last check. */
  get hasRefused(): boolean {
    return this.#hasRefused;
  }

  /**
   * Records a rejection that no correct leader's message meets: the member answers, but does not
   * support this leader.
   */
  contradicted(): void {
    this.#isActive = false;
    this.#hasRefused = true;
    this.rejected();
  }

  /** Records a rejection. A probe waits for the next heartbeat rather than loop. */
  rejected(): void {
    if (this.#state.kind === "probe") this.#awaitAnswer();
  }

  #awaitAnswer(): void {
    this.#state = { kind: "probe", isWaiting: true };
  }

  /** Records that entries for this member are being read from the log on disk. */
  readBegun(): void {
    this.#isReading = true;
  }

  readEnded(): void {
    this.#isReading = false;
  }

  /** Moves a probe to the boundary when the probed position is trimmed. */
  probeFromBoundary(boundaryIndex: number): void {
    if (this.#state.kind === "probe") this.#next = Math.max(this.#next, boundaryIndex + 1);
  }

  /** Returns to probing: the leader no longer knows where the logs agree, except up to `match`. */
  becomeProbe(next: number): void {
    this.#next = Math.max(next, this.#match + 1);
    this.#inflight.clear();
    this.#state = { kind: "probe", isWaiting: false };
  }

  /** Starts to replicate: the logs agree up to `match`. */
  becomeReplicate(): void {
    this.#next = this.#match + 1;
    this.#inflight.clear();
    this.#state = { kind: "replicate" };
    this.#failedTransfers = 0;
  }

  /**
   * Marks the member as lost: it has less than it acknowledged, and cannot recover from that. Its
   * directory must be replaced.
   */
  becomeLost(lost: LostData): void {
    this.#inflight.clear();
    this.#state = { kind: "lost", ...lost };
  }

  becomeSnapshot(index: number, isChosen: boolean): void {
    this.#inflight.clear();
    this.#state = { kind: "snapshot", index, isChosen, retryTicks: undefined };
  }

  /**
   * Waits `ticks` before the next transfer, because the last one did not bring the member past the
   * boundary.
   */
  awaitRetry(ticks: number): void {
    if (this.#state.kind !== "snapshot") return;
    this.#failedTransfers += 1;
    this.#state = { ...this.#state, retryTicks: ticks };
  }

  /** Records that part of a snapshot has arrived, so its transfer did not fail for nothing. */
  transferProgressed(): void {
    this.#failedTransfers = 0;
  }

  /** Returns whether it is time to send the snapshot again. */
  tickRetry(): boolean {
    if (this.#state.kind !== "snapshot" || this.#state.retryTicks === undefined) return false;
    const retryTicks = this.#state.retryTicks - 1;
    this.#state = { ...this.#state, retryTicks };
    return retryTicks <= 0;
  }

  /** Records the member's answer that its log agrees up to `index`. */
  matched(index: number): void {
    this.#match = Math.max(this.#match, index);
    this.#next = Math.max(this.#next, this.#match + 1);
  }
}
