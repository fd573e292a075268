import { assert } from "../../base/assert.js";
import { memberKey } from "../../base/ids.js";
import { limits } from "../../base/limits.js";
import type { LogConflict, PeerAppendAnswer } from "../messages.js";
import type { RaftState } from "../state.js";
import { type Entry, entryBytes, type Member } from "../types.js";
import { Inflight } from "./inflight.js";
import { Progress } from "./progress.js";

/** Limits on what a leader sends. */
export type FlowLimits = {
  readonly [Name in
    | "appendEntries"
    | "appendBatchBytes"
    | "peerAppendsInFlight"
    | "peerBytesInFlight"
    | "snapshotInsteadBytes"]: number;
};

/**
 * Measures the bytes that a follower would need. The core knows indexes only, so an answer must
 * depend on the given indexes alone.
 */
export interface SendSizes {
  /** Returns the bytes of the log's entries from `first` to `last`, both included. */
  logBytes(first: number, last: number): number;
  /**
   * Returns the bytes of the newest snapshot, the one at `index`; undefined when it cannot be sent.
   */
  snapshotBytes(index: number): number | undefined;
}

/**
 * A read from the log on disk that a follower needs. The node hands the entries to
 * {@link Raft.entriesRead}.
 */
export interface LogRead {
  readonly to: string;
  /** The leader's term. The log may differ in a later term. */
  readonly term: number;
  /**
   * First index to read. `first` and `last` are both included; read at least the first entry, and
   * count no more than `maxBytes`.
   */
  readonly first: number;
  readonly last: number;
  readonly maxBytes: number;
}

/**
 * A request to send the newest snapshot to a follower. The node reports the result to
 * {@link Raft.snapshotSent}.
 */
export interface SnapshotSend {
  readonly to: string;
  readonly term: number;
}

/** The result of a snapshot transfer. */
export type TransferOutcome =
  /** The follower's log agrees with the leader's up to this index, durably. */
  | { readonly kind: "installed"; readonly matchIndex: number }
  /**
   * The follower refused the snapshot: it has committed this index already. The leader must still
   * probe up to which index the follower's log agrees durably.
   */
  | { readonly kind: "ahead"; readonly commitIndex: number }
  | {
      readonly kind: "failed";
      /** Part of the snapshot arrived and is retained, so the next transfer has less to send. */
      readonly hasProgressed?: boolean;
    };

/** Caps the delay before a failed snapshot transfer is retried, in election timeouts. */
const RETRY_TIMEOUTS_MAX = 8;

/** Sends log entries, heartbeats and snapshots to each other member: decides which, and when. */
export class Replication {
  readonly #progress = new Map<string, Progress>();
  /** Number of rounds sent. */
  #round = 0;
  #logReads: LogRead[] = [];
  #snapshotSends: SnapshotSend[] = [];
  /** Whether the next {@link fill} tells the newest commit. */
  #isNoticeHastened = false;

  constructor(
    private readonly state: RaftState,
    private readonly bounds: FlowLimits = limits,
    private readonly sizes?: SendSizes,
  ) {
    this.followMembership();
  }

  get peers(): Iterable<Progress> {
    return this.#progress.values();
  }

  /** Returns a member's progress. This node itself has none. */
  progressOf(key: string): Progress {
    const progress = this.#progress.get(key);
    assert(progress !== undefined, "each other member is followed", { key });
    return progress;
  }

  /** Returns a member's progress; undefined for this node itself and for non-members. */
  find(key: string): Progress | undefined {
    return this.#progress.get(key);
  }

  /** Round of the next message. */
  get nextRound(): number {
    return this.#round + 1;
  }

  takeLogReads(): readonly LogRead[] {
    const taken = this.#logReads;
    if (taken.length > 0) this.#logReads = [];
    return taken;
  }

  takeSnapshotSends(): readonly SnapshotSend[] {
    const taken = this.#snapshotSends;
    if (taken.length > 0) this.#snapshotSends = [];
    return taken;
  }

  /** Follows a change of the membership: from now on only its members receive messages. */
  followMembership(): void {
    const { state, bounds } = this;
    // By key: another directory under the same name is another member, and nothing is known of it
    // yet (T1).
    const keys = new Set(state.memberships.latest.members.map(memberKey));
    for (const key of keys) {
      if (key === state.id || this.#progress.has(key)) continue;
      const inflight = new Inflight(bounds.peerAppendsInFlight, bounds.peerBytesInFlight);
      this.#progress.set(key, new Progress(key, inflight, state.log.last.index + 1));
    }
    for (const key of this.#progress.keys()) if (!keys.has(key)) this.#progress.delete(key);
  }

  /** Sends all messages that may be sent now. */
  fill(): void {
    const isHastened = this.#isNoticeHastened;
    this.#isNoticeHastened = false;
    for (const progress of this.#progress.values()) {
      if (!this.#mayHear(progress.id)) continue;
      this.#fillOne(progress);
      const { wantedRound } = this.state.reads;
      if (wantedRound !== undefined && progress.sentRound < wantedRound) this.#heartbeat(progress);
      else if (isHastened && progress.state.kind === "replicate" && progress.sentCommit < this.state.log.commit) {
        this.#heartbeat(progress);
      }
    }
  }

  /**
   * Whether a follower that waits for no further entry has not been told of the newest commit. It
   * learns of the commit by the next entries or heartbeat, or by {@link announceCommit}.
   */
  get hasUntoldCommit(): boolean {
    for (const progress of this.#progress.values()) if (this.#isUntold(progress)) return true;
    return false;
  }

  /** Tells the followers of the newest commit that {@link hasUntoldCommit} speaks of. */
  announceCommit(): void {
    for (const progress of this.#progress.values()) if (this.#isUntold(progress)) this.#heartbeat(progress);
  }

  /** Makes the next {@link fill} tell the newest commit to every follower that lacks it. */
  hastenCommitNotice(): void {
    this.#isNoticeHastened = true;
  }

  #isUntold({ id, state, sentCommit, isQuiet }: Progress): boolean {
    if (state.kind !== "replicate" || sentCommit >= this.state.log.commit) return false;
    return isQuiet && this.#mayHear(id);
  }

  /** Sends heartbeats (Raft section 5.2). They also repeat messages that may have been lost. */
  heartbeats(): void {
    for (const progress of this.#progress.values()) if (this.#mayHear(progress.id)) this.#heartbeat(progress);
  }

  /**
   * Whether messages may go to a member (T1): none goes to a joining directory before the entry
   * that makes it a learner is committed. After a crash in between, the directory would have a log,
   * so it would no longer ask to join, and no membership would name it. A voter receives everything
   * at once, because its acknowledgement may be needed to commit the entry.
   */
  #mayHear(key: string): boolean {
    const { memberships, log } = this.state;
    if (memberships.latest.index <= log.commit) return true;
    const isNamed = (each: Member) => memberKey(each) === key;
    const member = memberships.latest.members.find(isNamed);
    if (member?.role !== "learner" || member.incarnation === undefined) return true;
    return memberships.at(log.commit).members.some(isNamed);
  }

  /** Counts a tick, and retries snapshot transfers that are due. */
  tick(): void {
    for (const progress of this.#progress.values()) {
      if (progress.tickRetry()) this.#sendSnapshot(progress);
    }
  }

  /** Handles a follower's answer of this leader's term. */
  answered(answer: PeerAppendAnswer): void {
    const progress = this.#progress.get(answer.from);
    if (progress === undefined) return;
    const { request } = answer;
    if (!isFollowing(answer)) {
      progress.rejected();
      return;
    }
    progress.answered(request.round);
    if (this.#hasLost(progress, answer)) return;
    if (answer.outcome === "accepted") this.#accepted(progress, answer.matchIndex);
    else if (answer.rejection.reason === "log_mismatch") this.#refused(progress, request.prevIndex, answer.rejection);
    else progress.contradicted();
  }

  /**
   * Whether a member has less than it had acknowledged when the request was sent (T3). An answer
   * proves that when the member's log ends below that index, or disagrees at or below it.
   */
  #hasLost(progress: Progress, answer: PeerAppendAnswer): boolean {
    if (progress.state.kind === "lost") return true;
    const { acknowledged = 0, prevIndex } = answer.request;
    const isAccepted = answer.outcome === "accepted";
    const has = isAccepted ? Math.max(answer.lastIndex, answer.matchIndex) : answer.lastIndex;
    const reason = isAccepted ? undefined : answer.rejection.reason;
    const disagrees = reason === "log_mismatch" && prevIndex > 0 && prevIndex <= acknowledged;
    if (reason !== "lost" && has >= acknowledged && !disagrees) return false;
    progress.becomeLost({ acknowledged, has: Math.min(has, acknowledged) });
    return true;
  }

  /** Reports that the latest messages to this member may be lost. */
  unreachable(id: string): void {
    const progress = this.#progress.get(id);
    if (progress?.state.kind === "replicate") progress.becomeProbe(progress.match + 1);
  }

  /**
   * Sends the entries that a {@link LogRead} asked for; none when they could not be read, because
   * they were trimmed meanwhile or the read failed.
   */
  entriesRead(to: string, entries: readonly Entry[]): void {
    const progress = this.#progress.get(to);
    if (progress === undefined) return;
    progress.readEnded();
    // Entries below the boundary cannot be sent: the term before them is no longer known.
    const isNext = entries[0]?.index === progress.next && progress.next > this.state.log.boundary.index;
    if (isNext && progress.maySend) this.#sendEntries(progress, entries);
  }

  /** Handles the result of a snapshot transfer. */
  snapshotSent(to: string, outcome: TransferOutcome): void {
    const progress = this.#progress.get(to);
    if (progress === undefined) return;
    const { log, snapshot } = this.state;
    if (outcome.kind === "failed") {
      if (outcome.hasProgressed === true) progress.transferProgressed();
      this.#retryLater(progress);
      return;
    }
    const reached = outcome.kind === "installed" ? outcome.matchIndex : outcome.commitIndex;
    // No correct member has a longer log than this leader.
    if (reached > log.last.index) {
      this.#retryLater(progress);
      return;
    }
    if (progress.state.kind === "lost") return;
    progress.heard();
    if (outcome.kind === "installed") progress.matched(reached);
    if (progress.state.kind !== "snapshot") return;
    const isEnough = reached >= log.boundary.index;
    // The follower needs a newer snapshot. If the one sent is the newest known, then its file was
    // older than it should be.
    if (!isEnough && snapshot?.index === progress.state.index) this.#retryLater(progress);
    else if (isEnough && outcome.kind === "installed") progress.becomeReplicate();
    else progress.becomeProbe(reached + 1);
  }

  /**
   * Schedules a retry with growing delays: a follower without room, or a leader without a good
   * snapshot, is unlikely to recover a moment later.
   */
  #retryLater(progress: Progress): void {
    const { timing } = this.state;
    const ticks = timing.heartbeatTicks * 2 ** Math.min(progress.failedTransfers, 30);
    progress.awaitRetry(Math.min(ticks, timing.electionTicks * RETRY_TIMEOUTS_MAX));
  }

  #accepted(progress: Progress, matchIndex: number): void {
    const { log } = this.state;
    // No correct member has more of this leader's log than this leader.
    if (matchIndex > log.last.index) return;
    const isProbed = matchIndex >= progress.next - 1;
    progress.matched(matchIndex);
    const acknowledged = Math.min(progress.match, log.commit);
    if (acknowledged > (this.state.acknowledged.get(progress.id) ?? 0)) {
      this.state.acknowledged.set(progress.id, acknowledged);
    }
    // A lower match is a stale answer, or comes from a follower mid-install.
    if (progress.state.kind === "probe" && isProbed) this.#agreed(progress);
    if (progress.state.kind !== "snapshot") return;
    // R14: once past the boundary, by whatever means, the follower resumes from the log. A follower
    // that could have had the log alone waits for its snapshot.
    const { isChosen, index } = progress.state;
    if (progress.match >= (isChosen ? Math.max(index, log.boundary.index) : log.boundary.index))
      progress.becomeReplicate();
  }

  /**
   * Handles the end of a probe. Decides once whether the follower gets log or snapshot; the
   * decision stands until the follower has what it lacked.
   */
  #agreed(progress: Progress): void {
    if (!progress.isByLog) {
      if (this.#isSnapshotSmaller(progress.match)) {
        this.#sendSnapshot(progress);
        return;
      }
      progress.decidedByLog(this.state.log.last.index);
    }
    progress.becomeReplicate();
  }

  /**
   * Whether the newest snapshot is smaller than the log that it replaces. The log above the
   * snapshot is sent in either case, and loading a snapshot costs a follower about as much as
   * applying a log of that size.
   */
  #isSnapshotSmaller(match: number): boolean {
    const { snapshot } = this.state;
    if (this.sizes === undefined || snapshot === undefined || match >= snapshot.index) return false;
    const snapshotBytes = this.sizes.snapshotBytes(snapshot.index);
    if (snapshotBytes === undefined) return false;
    const logBytes = this.sizes.logBytes(match + 1, snapshot.index);
    return logBytes > Math.max(snapshotBytes, this.bounds.snapshotInsteadBytes);
  }

  /** Handles a mismatch: probes further back (fast backtracking, end of Raft section 5.3). */
  #refused(progress: Progress, prevIndex: number, conflict: LogConflict): void {
    // A stale answer.
    if (prevIndex <= progress.match || progress.state.kind === "snapshot") return;
    if (progress.state.kind === "probe" && prevIndex !== progress.next - 1) return;
    progress.becomeProbe(Math.min(this.#nextAfter(conflict, prevIndex), prevIndex));
  }

  /**
   * Returns the next index to probe after a conflict. The follower has an entry of conflictTerm at
   * `prevIndex`, and of lower terms before conflictIndex; without a conflictTerm, its log is
   * shorter. The logs cannot agree at an index where this leader's term is above conflictTerm. If
   * this leader's term is below conflictTerm there, they cannot agree from conflictIndex on.
   */
  #nextAfter({ conflictTerm, conflictIndex }: LogConflict, prevIndex: number): number {
    if (conflictTerm === undefined) return conflictIndex;
    const { log } = this.state;
    const comparable = log.lastIndexOfTermAtMost(conflictTerm);
    if (comparable === undefined) return Math.min(conflictIndex, log.boundary.index);
    return comparable < prevIndex ? comparable + 1 : conflictIndex;
  }

  #fillOne(progress: Progress): void {
    while (progress.maySend) {
      const entries = this.#nextEntries(progress);
      if (entries === undefined) return;
      this.#sendEntries(progress, entries);
    }
  }

  /**
   * Returns the next entries to send. Returns undefined when the follower needs a snapshot, a read
   * from disk or a probe instead, and starts that.
   */
  #nextEntries(progress: Progress): readonly Entry[] | undefined {
    const { log } = this.state;
    if (progress.next <= log.boundary.index) this.#sendSnapshot(progress);
    else if (progress.next <= log.last.index) {
      const { appendEntries, appendBatchBytes } = this.bounds;
      const entries = log.entriesFrom(progress.next, appendEntries, appendBatchBytes);
      if (entries !== undefined) return entries;
      this.#readEntries(progress);
    } else if (progress.state.kind === "probe") this.#probe(progress);
    return undefined;
  }

  /** Probes where the logs agree when the leader has no entry to send. */
  #probe(progress: Progress): void {
    this.#append(progress, progress.next - 1, []);
    progress.probed();
  }

  #readEntries(progress: Progress): void {
    const { log, term } = this.state;
    progress.readBegun();
    const last = Math.min(log.persisted, progress.next + this.bounds.appendEntries - 1);
    const maxBytes = this.bounds.appendBatchBytes;
    this.#logReads.push({ to: progress.id, term, first: progress.next, last, maxBytes });
  }

  #sendEntries(progress: Progress, entries: readonly Entry[]): void {
    this.#append(progress, progress.next - 1, entries);
    const bytes = entries.reduce((sum, entry) => sum + entryBytes(entry), 0);
    progress.sentEntries(this.#round, entries.length, bytes);
  }

  #sendSnapshot(progress: Progress): void {
    const { snapshot, term, log } = this.state;
    assert(snapshot !== undefined && snapshot.index >= log.boundary.index, "a snapshot covers what is trimmed", {
      snapshot: snapshot?.index,
      boundary: log.boundary.index,
    });
    progress.becomeSnapshot(snapshot.index, progress.next > log.boundary.index);
    this.#snapshotSends.push({ to: progress.id, term });
  }

  /**
   * Sends an AppendEntries without entries. It asks whether the logs agree up to the index that
   * this leader assumes, so that it detects a loss; if that index lies in the trimmed range, it
   * only asks whether the member is alive.
   */
  #heartbeat(progress: Progress): void {
    const { boundary } = this.state.log;
    if (progress.state.kind === "lost") {
      this.#append(progress, 0, []);
      return;
    }
    // A probe at the boundary shows whether the follower has it.
    progress.probeFromBoundary(boundary.index);
    const prev = progress.next - 1;
    this.#append(progress, prev < boundary.index ? 0 : prev, []);
  }

  #append(progress: Progress, prevIndex: number, entries: readonly Entry[]): void {
    const { state } = this;
    const { log } = state;
    const prevTerm = prevIndex === 0 ? 0 : log.termAt(prevIndex);
    assert(prevTerm !== undefined, "the term before what is sent is known", { prevIndex, to: progress.id });
    this.#round += 1;
    progress.sent(this.#round, log.commit);
    state.send({
      type: "append_entries",
      from: state.id,
      to: progress.id,
      term: state.term,
      prev: { index: prevIndex, term: prevTerm },
      entries,
      leaderCommit: log.commit,
      acknowledged: Math.max(progress.match, state.acknowledged.get(progress.id) ?? 0),
      membershipIndex: state.memberships.latest.index,
      round: this.#round,
    });
  }
}

/**
 * Whether the answer is that of a member which follows this leader. One that refuses to promises
 * nothing: it confirms neither reads nor a lease, and gives no quorum.
 */
function isFollowing(answer: PeerAppendAnswer): boolean {
  if (answer.term < answer.request.term) return false;
  return answer.outcome === "accepted" || answer.rejection.reason !== "not_member";
}
