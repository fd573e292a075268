import type { ProgressInfo } from "../../raft/raft.js";
import type { Clock } from "../../system/clock.js";
import type { OutgoingTransfer } from "../snapshots/send_queue.js";

/** Timings of a member, as its leader measures them, in milliseconds. */
export interface MemberTimes {
  readonly id: string;
  /** Its member key: a new directory under an old name is another member (T1). */
  readonly key: string;
  /** Time since its last answer. */
  readonly silentMs: number;
  /**
   * Duration of its last answer to an AppendEntries; or the wait for the next answer so far, if
   * that is longer.
   */
  readonly answerMs: number;
  /**
   * Time since its log, or its part of a snapshot, last grew while there was something for it to
   * take; 0 when there is nothing.
   */
  readonly idleMs: number;
  /** Whether it is catching up by snapshot. */
  readonly bySnapshot: boolean;
}

interface Watched {
  ackedRound: number;
  answeredAtMs: number;
  /** A round that was sent and is not answered, and the time at which it was noticed. */
  awaited: { readonly round: number; readonly sinceMs: number } | undefined;
  answerMs: number;
  /**
   * Its match index plus the bytes of a snapshot that it has: grows as long as it makes progress.
   */
  reached: number;
  progressAtMs: number;
}

/**
 * Watches the other members at each tick of a leader. Health is progress, not answers (T3): a
 * member may answer and take nothing.
 */
export class MemberWatch {
  /** Timings by member key. */
  readonly #members = new Map<string, Watched>();

  constructor(private readonly clock: Clock) {}

  /** Updates the timings of the members. `progress` is empty when this node does not lead. */
  tick(progress: readonly ProgressInfo[], lastIndex: number, transfers: readonly OutgoingTransfer[]): void {
    const now = this.clock.now();
    for (const key of this.#members.keys()) if (!progress.some((each) => each.key === key)) this.#members.delete(key);
    for (const member of progress) {
      const transfer = transfers.find(({ to }) => to === member.key);
      this.#look(member, lastIndex, transfer, now);
    }
  }

  /** Excludes a time during which this process stood still: the members are not to blame for it. */
  stoodStill(ms: number): void {
    for (const watched of this.#members.values()) {
      watched.answeredAtMs += ms;
      watched.progressAtMs += ms;
      if (watched.awaited !== undefined)
        watched.awaited = { ...watched.awaited, sinceMs: watched.awaited.sinceMs + ms };
    }
  }

  times(progress: readonly ProgressInfo[]): MemberTimes[] {
    const now = this.clock.now();
    return progress.flatMap(({ id, key, state }) => {
      const watched = this.#members.get(key);
      if (watched === undefined) return [];
      const awaitedMs = watched.awaited === undefined ? 0 : now - watched.awaited.sinceMs;
      return {
        id,
        key,
        silentMs: now - watched.answeredAtMs,
        answerMs: Math.max(watched.answerMs, awaitedMs),
        idleMs: now - watched.progressAtMs,
        bySnapshot: state === "snapshot",
      };
    });
  }

  #look(member: ProgressInfo, lastIndex: number, transfer: OutgoingTransfer | undefined, now: number): void {
    const { key, match, sentRound, ackedRound } = member;
    const reached = match + (transfer?.doneBytes ?? 0);
    const watched = this.#members.get(key);
    if (watched === undefined || ackedRound < watched.ackedRound) {
      // The member is new, or new to this leader.
      const fresh = { ackedRound, answeredAtMs: now, awaited: undefined, answerMs: 0, reached, progressAtMs: now };
      this.#members.set(key, fresh);
      return;
    }
    if (ackedRound > watched.ackedRound) watched.answeredAtMs = now;
    watched.ackedRound = ackedRound;
    if (watched.awaited !== undefined && ackedRound >= watched.awaited.round) {
      watched.answerMs = now - watched.awaited.sinceMs;
      watched.awaited = undefined;
    }
    if (watched.awaited === undefined && sentRound > ackedRound) watched.awaited = { round: sentRound, sinceMs: now };
    // A complete snapshot is being loaded, and that may take any time.
    const isLoading = transfer !== undefined && transfer.doneBytes === transfer.totalBytes;
    if (reached !== watched.reached || match >= lastIndex || isLoading) watched.progressAtMs = now;
    watched.reached = reached;
  }
}
