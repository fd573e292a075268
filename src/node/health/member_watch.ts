import type { ProgressInfo } from "../../raft/raft.js";
import type { Clock } from "../../system/clock.js";
import type { OutgoingTransfer } from "../snapshots/send_queue.js";

/** How a member has been doing, as its leader sees it. Times in milliseconds. */
export interface MemberTimes {
  readonly id: string;
  /** Its member key: a new directory under an old name is another member (T1). */
  readonly key: string;
  /** Since it answered last. */
  readonly silentMs: number;
  /**
   * How long its answer to an AppendEntries takes: the last one, or the one that is awaited if that
   * is longer.
   */
  readonly answerMs: number;
  /**
   * Since its log, or its part of a snapshot, grew last while there was something for it to take; 0
   * when there is nothing.
   */
  readonly idleMs: number;
  /** Whether it is brought back by a snapshot. */
  readonly bySnapshot: boolean;
}

interface Watched {
  ackedRound: number;
  answeredAtMs: number;
  /** A round that was sent, and when that was seen. */
  awaited: { readonly round: number; readonly sinceMs: number } | undefined;
  answerMs: number;
  /** Its match index and the bytes of a snapshot that it has: grows as long as it gets anywhere. */
  reached: number;
  progressAtMs: number;
}

/**
 * Watches the other members at each tick of a leader. Health is progress, not answers (T3): a
 * member may answer and take nothing.
 */
export class MemberWatch {
  /** By member key. */
  readonly #members = new Map<string, Watched>();

  constructor(private readonly clock: Clock) {}

  /** Looks at the members; none when this node does not lead. */
  tick(progress: readonly ProgressInfo[], lastIndex: number, transfers: readonly OutgoingTransfer[]): void {
    const now = this.clock.now();
    for (const key of this.#members.keys()) if (!progress.some((each) => each.key === key)) this.#members.delete(key);
    for (const member of progress) {
      const transfer = transfers.find(({ to }) => to === member.key);
      this.#look(member, lastIndex, transfer, now);
    }
  }

  /** The process stood still for so long: nobody else could do anything about that. */
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
      // A member that is new, or new to this leader.
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
    // A snapshot that has arrived is being loaded, however long that takes.
    const isLoading = transfer !== undefined && transfer.doneBytes === transfer.totalBytes;
    if (reached !== watched.reached || match >= lastIndex || isLoading) watched.progressAtMs = now;
    watched.reached = reached;
  }
}
