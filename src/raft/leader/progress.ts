import { nameOf } from "../../base/ids.js";
import type { LostData } from "../state.js";
import type { Inflight } from "./inflight.js";

/**
 * One member as the leader sees it (etcd-io/raft's design, after Raft section 5.3):
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
 *      the snapshot is less than the log
 *
 * - probe: where the logs agree is not known. One message at a time, at `next`; another only on its
 *   answer or with a heartbeat.
 * - replicate: they agree up to right before `next`. Messages follow each other without waiting for
 *   answers, as far as
 *   {@link Inflight} allows.
 * - lost: the member has less than it acknowledged (T3). It counts for nothing and gets nothing but
 *   heartbeats, which tell it so, until
 *   another directory takes its place.
 * - snapshot: what the member needs next is trimmed, or is more than the snapshot in its place. It
 *   gets no entries, only heartbeats, until it
 *   is past the boundary (or the snapshot).
 */
export type ProgressState =
  | { readonly kind: "probe"; readonly isWaiting: boolean }
  | { readonly kind: "replicate" }
  | ({ readonly kind: "lost" } & LostData)
  | {
      readonly kind: "snapshot";
      /** The newest snapshot when it was decided that one is to be sent. */
      readonly index: number;
      /** The log has all that the member lacks, and the snapshot is less to send. */
      readonly isChosen: boolean;
      /** Undefined while it is being sent; else how many ticks to wait before it is sent again. */
      readonly retryTicks: number | undefined;
    };

/** One member as its leader sees it. */
export type ProgressInfo = Pick<Progress, "match" | "next" | "sentRound" | "ackedRound"> & {
  /** Its name. */
  readonly id: string;
  /** Its member key. */
  readonly key: string;
  /** It has less than it acknowledged (T3). */
  readonly lost?: LostData;
  readonly state: ProgressState["kind"];
  /** Whether it has answered within the last election timeout, or a little longer. */
  readonly isActive: boolean;
};

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

export class Progress {
  /** Its log agrees with the leader's up to here, durably. */
  match = 0;
  /** Next index to send. */
  next: number;
  state: ProgressState = { kind: "probe", isWaiting: false };
  /** Whether it has answered since the last look (check-quorum, thesis section 6.2). */
  isActive = true;
  #wasActive = true;
  /** Highest round sent, and answered, in this term. */
  sentRound = 0;
  ackedRound = 0;
  /** Commit index that was sent to it last. */
  sentCommit = 0;
  /**
   * It was decided that it gets the log up to here rather than a snapshot; that stands until it is
   * there, or until the log is trimmed.
   */
  byLogUpTo = 0;
  /** Entries for it are being read from the log on disk. */
  isReading = false;
  /**
   * Transfers of snapshots to it that have failed in a row, since one that has brought it anything.
   */
  failedTransfers = 0;

  constructor(
    /** Its member key. */
    readonly id: string,
    readonly inflight: Inflight,
    next: number,
  ) {
    this.next = next;
  }

  /**
   * Whether it has answered since the last look or right before it: a moment after a look nobody
   * has yet.
   */
  get answers(): boolean {
    return this.isActive || this.#wasActive;
  }

  /** check-quorum has looked, and will look again. */
  looked(): void {
    this.#wasActive = this.isActive;
    this.isActive = false;
  }

  /** Whether a message with entries may be sent now. */
  get maySend(): boolean {
    const { state } = this;
    if (this.isReading || state.kind === "snapshot" || state.kind === "lost") return false;
    return state.kind === "probe" ? !state.isWaiting : !this.inflight.isFull;
  }

  /** It is not known any more where the logs agree, except up to `match`. */
  becomeProbe(next: number): void {
    this.next = Math.max(next, this.match + 1);
    this.inflight.clear();
    this.state = { kind: "probe", isWaiting: false };
  }

  /** The logs agree up to `match`. */
  becomeReplicate(): void {
    this.next = this.match + 1;
    this.inflight.clear();
    this.state = { kind: "replicate" };
    this.failedTransfers = 0;
  }

  /**
   * It has less than it acknowledged, and does not come back from that: its directory is to be
   * replaced.
   */
  becomeLost(lost: LostData): void {
    this.inflight.clear();
    this.state = { kind: "lost", ...lost };
  }

  becomeSnapshot(index: number, isChosen: boolean): void {
    this.inflight.clear();
    this.state = { kind: "snapshot", index, isChosen, retryTicks: undefined };
  }

  /** The transfer of the snapshot has not brought it past the boundary. */
  awaitRetry(ticks: number): void {
    if (this.state.kind !== "snapshot") return;
    this.failedTransfers += 1;
    this.state = { ...this.state, retryTicks: ticks };
  }

  /** Returns whether it is time to send the snapshot again. */
  tickRetry(): boolean {
    if (this.state.kind !== "snapshot" || this.state.retryTicks === undefined) return false;
    const retryTicks = this.state.retryTicks - 1;
    this.state = { ...this.state, retryTicks };
    return retryTicks <= 0;
  }

  /** It has told that its log agrees up to `index`. */
  matched(index: number): void {
    this.match = Math.max(this.match, index);
    this.next = Math.max(this.next, this.match + 1);
  }
}
