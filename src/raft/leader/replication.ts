import { assert } from "../../base/assert.js";
import { memberKey } from "../../base/ids.js";
import { limits } from "../../base/limits.js";
import type { PeerAppendAnswer } from "../messages.js";
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
  /** Bytes that the log's entries from `first` to `last`, both included, take. */
  logBytes(first: number, last: number): number;
  /** Size of the newest snapshot, the one at `index`; undefined when it cannot be sent. */
  snapshotBytes(index: number): number | undefined;
}

/**
 * Entries that are to be read from the log on disk for a follower; hand them to {@link
 * Raft.entriesRead}.
 */
export interface LogRead {
  readonly to: string;
  /** The leader's term: a later one has another log. */
  readonly term: number;
  /** Both included. Read at least the first one, and no more than count `maxBytes`. */
  readonly first: number;
  readonly last: number;
  readonly maxBytes: number;
}

/** The newest snapshot is to be sent to a follower; report the end to {@link Raft.snapshotSent}. */
export interface SnapshotSend {
  readonly to: string;
  readonly term: number;
}

/** The result of a snapshot transfer. */
export type SnapshotOutcome =
  /** The follower's log agrees up to here, durably. */
  | { readonly kind: "installed"; readonly matchIndex: number }
  /**
   * It was refused: the follower has committed this index already. Where its log agrees durably
   * remains to be asked.
   */
  | { readonly kind: "ahead"; readonly commitIndex: number }
  | {
      readonly kind: "failed";
      /** The next one has less to send: part of the snapshot has arrived, and was kept. */
      readonly hasProgressed?: boolean;
    };

type Conflict = Pick<NonNullable<PeerAppendAnswer["rejection"]>, "conflictTerm" | "conflictIndex">;

/** Caps the delay before a failed snapshot transfer is retried, in election timeouts. */
const RETRY_TIMEOUTS_MAX = 8;

/** The leader's sending side: what each other member gets, and when. */
export class Replication {
  readonly #progress = new Map<string, Progress>();
  /** Rounds sent so far. */
  #round = 0;
  #logReads: LogRead[] = [];
  #snapshotSends: SnapshotSend[] = [];

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

  /** A member's; this node itself has none. */
  progressOf(key: string): Progress {
    const progress = this.#progress.get(key);
    assert(progress !== undefined, "each other member is followed", { key });
    return progress;
  }

  /** A member's; undefined for this node itself, and for others than members. */
  find(key: string): Progress | undefined {
    return this.#progress.get(key);
  }

  /** Number of the next message. */
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

  /** The membership has changed: from now on its members are sent to, and nobody else. */
  followMembership(): void {
    const { state, bounds } = this;
    // By key: another directory under the same name is another member, of which nothing is known
    // (T1).
    const keys = new Set(state.memberships.latest.members.map(memberKey));
    for (const key of keys) {
      if (key === state.id || this.#progress.has(key)) continue;
      const inflight = new Inflight(bounds.peerAppendsInFlight, bounds.peerBytesInFlight);
      this.#progress.set(key, new Progress(key, inflight, state.log.last.index + 1));
    }
    for (const key of this.#progress.keys()) if (!keys.has(key)) this.#progress.delete(key);
  }

  /** Sends whatever may be sent now. */
  fill(): void {
    for (const progress of this.#progress.values()) {
      if (!this.#mayHear(progress.id)) continue;
      this.#fillOne(progress);
      const { reads, log } = this.state;
      const isBehind = progress.state.kind === "replicate" && progress.sentCommit < log.commit;
      const isQuiet = progress.inflight.isEmpty && !progress.isReading;
      // So that a follower learns of a commit without waiting for the next entry or heartbeat.
      if (progress.sentRound < reads.wantedRound || (isBehind && isQuiet)) this.#heartbeat(progress);
    }
  }

  /** Raft section 5.2. Also sends again what may have been lost. */
  heartbeats(): void {
    for (const progress of this.#progress.values()) if (this.#mayHear(progress.id)) this.#heartbeat(progress);
  }

  /**
   * T1: nothing goes to a directory that joins before the entry that makes it a learner is
   * committed. With a crash in between, it would have a log, so it would no longer ask for a place,
   * and no membership would name it. A voter is sent everything at once, because its
   * acknowledgement may be needed to commit the entry.
   */
  #mayHear(key: string): boolean {
    const { memberships, log } = this.state;
    if (memberships.after(log.commit).length === 0) return true;
    const isNamed = (each: Member) => memberKey(each) === key;
    const member = memberships.latest.members.find(isNamed);
    if (member?.role !== "learner" || member.incarnation === undefined) return true;
    return memberships.at(log.commit).members.some(isNamed);
  }

  /** Counts the time until a snapshot is sent again. */
  tick(): void {
    for (const progress of this.#progress.values()) {
      if (progress.tickRetry()) this.#sendSnapshot(progress);
    }
  }

  /** A follower's answer, of this leader's term. */
  answered(answer: PeerAppendAnswer): void {
    const progress = this.#progress.get(answer.from);
    if (progress === undefined) return;
    const { request, rejection } = answer;
    progress.isActive = true;
    progress.ackedRound = Math.max(progress.ackedRound, request.round);
    progress.inflight.answered(request.round);
    if (this.#hasLost(progress, answer)) return;
    if (rejection === undefined) this.#accepted(progress, answer.matchIndex ?? 0);
    else if (rejection.reason === "log_mismatch") this.#refused(progress, request.prevIndex, rejection);
    // Nothing that a correct leader's message can meet with: leave it until the next heartbeat,
    // rather than turn in circles.
    else if (progress.state.kind === "probe") progress.state = { kind: "probe", isWaiting: true };
  }

  /**
   * T3: whether a member has less than it had acknowledged when the request was sent. Its answer
   * proves that when its log ends before that, or does not agree there.
   */
  #hasLost(progress: Progress, { request, rejection, matchIndex = 0, lastIndex }: PeerAppendAnswer): boolean {
    if (progress.state.kind === "lost") return true;
    const { acknowledged = 0 } = request;
    const has = Math.max(lastIndex, matchIndex);
    const { prevIndex } = request;
    const disagrees = rejection?.reason === "log_mismatch" && prevIndex > 0 && prevIndex <= acknowledged;
    if (rejection?.reason !== "lost" && has >= acknowledged && !disagrees) return false;
    progress.becomeLost({ acknowledged, has: Math.min(has, acknowledged) });
    return true;
  }

  /** Reports that the latest messages to this member may be lost. */
  unreachable(id: string): void {
    const progress = this.#progress.get(id);
    if (progress?.state.kind === "replicate") progress.becomeProbe(progress.match + 1);
  }

  /**
   * Entries that {@link LogRead} asked for; none when they could not be read: trimmed meanwhile, or
   * not now.
   */
  entriesRead(to: string, entries: readonly Entry[]): void {
    const progress = this.#progress.get(to);
    if (progress === undefined) return;
    progress.isReading = false;
    // Entries below the boundary cannot be sent: the term before them is no longer known.
    const isNext = entries[0]?.index === progress.next && progress.next > this.state.log.boundary.index;
    if (isNext && progress.maySend) this.#sendEntries(progress, entries);
  }

  /** The sending of a snapshot has ended. */
  snapshotSent(to: string, outcome: SnapshotOutcome): void {
    const progress = this.#progress.get(to);
    if (progress === undefined) return;
    const { log, snapshot } = this.state;
    const reached =
      outcome.kind === "installed" ? outcome.matchIndex : outcome.kind === "ahead" ? outcome.commitIndex : -1;
    // No correct member has more than this leader.
    if (reached < 0 || reached > log.last.index) {
      if (outcome.kind === "failed" && outcome.hasProgressed === true) progress.failedTransfers = 0;
      this.#retryLater(progress);
      return;
    }
    if (progress.state.kind === "lost") return;
    progress.isActive = true;
    if (outcome.kind === "installed") progress.matched(reached);
    if (progress.state.kind !== "snapshot") return;
    const isEnough = reached >= log.boundary.index;
    // It needs a newer one. When the one that was sent is the newest that is known of, the file was
    // older than it should be.
    if (!isEnough && snapshot?.index === progress.state.index) this.#retryLater(progress);
    else if (isEnough && outcome.kind === "installed") progress.becomeReplicate();
    else progress.becomeProbe(reached + 1);
  }

  /**
   * Retries that come to nothing are spaced out: a follower that has no room, or a leader that has
   * no good snapshot, will not have any a moment later.
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
    // Less is the answer to something older, or of one that is installing a snapshot.
    if (progress.state.kind === "probe" && isProbed) this.#agreed(progress);
    if (progress.state.kind !== "snapshot") return;
    // R14: however it got past the boundary, it goes on from there. One that would have had enough
    // with the log waits for its snapshot.
    const { isChosen, index } = progress.state;
    if (progress.match >= (isChosen ? Math.max(index, log.boundary.index) : log.boundary.index))
      progress.becomeReplicate();
  }

  /**
   * It is known where the logs agree. Decides once how the follower gets what it lacks: until it
   * has that, another look changes nothing.
   */
  #agreed(progress: Progress): void {
    if (progress.match >= progress.byLogUpTo) {
      if (this.#isSnapshotSmaller(progress.match)) {
        this.#sendSnapshot(progress);
        return;
      }
      progress.byLogUpTo = this.state.log.last.index;
    }
    progress.becomeReplicate();
  }

  /**
   * Whether the newest snapshot is less to send than the part of the log in its place. What follows
   * the snapshot has to be sent either way, and loading a snapshot costs a follower about as much
   * as applying a log of that size.
   */
  #isSnapshotSmaller(match: number): boolean {
    const { snapshot } = this.state;
    if (this.sizes === undefined || snapshot === undefined || match >= snapshot.index) return false;
    const snapshotBytes = this.sizes.snapshotBytes(snapshot.index);
    if (snapshotBytes === undefined) return false;
    const logBytes = this.sizes.logBytes(match + 1, snapshot.index);
    return logBytes > Math.max(snapshotBytes, this.bounds.snapshotInsteadBytes);
  }

  /** Fast backtracking (end of Raft section 5.3). */
  #refused(progress: Progress, prevIndex: number, conflict: Conflict): void {
    // An answer to something older.
    if (prevIndex <= progress.match || progress.state.kind === "snapshot") return;
    if (progress.state.kind === "probe" && prevIndex !== progress.next - 1) return;
    progress.becomeProbe(Math.min(this.#nextAfter(conflict, prevIndex), prevIndex));
  }

  /**
   * The follower has an entry of conflictTerm at `prevIndex`, and of lower terms before
   * conflictIndex; 0: its log is shorter. Where this leader's terms are above conflictTerm, the
   * logs cannot agree; where they are below it, they cannot agree from conflictIndex on.
   */
  #nextAfter({ conflictTerm, conflictIndex }: Conflict, prevIndex: number): number {
    if (conflictTerm === 0) return conflictIndex;
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

  /** Finds out where the logs agree when there is no entry to ask with. */
  #probe(progress: Progress): void {
    this.#append(progress, progress.next - 1, []);
    progress.state = { kind: "probe", isWaiting: true };
  }

  #readEntries(progress: Progress): void {
    const { log, term } = this.state;
    progress.isReading = true;
    const last = Math.min(log.persisted, progress.next + this.bounds.appendEntries - 1);
    const maxBytes = this.bounds.appendBatchBytes;
    this.#logReads.push({ to: progress.id, term, first: progress.next, last, maxBytes });
  }

  #sendEntries(progress: Progress, entries: readonly Entry[]): void {
    this.#append(progress, progress.next - 1, entries);
    if (progress.state.kind === "probe") {
      progress.state = { kind: "probe", isWaiting: true };
      return;
    }
    progress.next += entries.length;
    progress.inflight.add(
      this.#round,
      entries.reduce((sum, entry) => sum + entryBytes(entry), 0),
    );
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
   * Without entries. Asks whether the logs agree up to where this leader believes, so that a loss
   * is found out; or only whether the member is alive, when that lies in the trimmed range.
   */
  #heartbeat(progress: Progress): void {
    const { boundary } = this.state.log;
    if (progress.state.kind === "lost") {
      this.#append(progress, 0, []);
      return;
    }
    // The probed position is trimmed. A probe at the boundary shows whether the follower has it.
    if (progress.state.kind === "probe") progress.next = Math.max(progress.next, boundary.index + 1);
    const prev = progress.next - 1;
    this.#append(progress, prev < boundary.index ? 0 : prev, []);
  }

  #append(progress: Progress, prevIndex: number, entries: readonly Entry[]): void {
    const { state } = this;
    const { log } = state;
    const prevTerm = prevIndex === 0 ? 0 : log.termAt(prevIndex);
    assert(prevTerm !== undefined, "the term before what is sent is known", { prevIndex, to: progress.id });
    this.#round += 1;
    progress.sentRound = this.#round;
    progress.sentCommit = log.commit;
    state.send({
      type: "append_entries",
      from: state.id,
      to: progress.id,
      term: state.term,
      prev: { index: prevIndex, term: prevTerm },
      entries,
      leaderCommit: log.commit,
      acknowledged: Math.max(progress.match, state.acknowledged.get(progress.id) ?? 0),
      round: this.#round,
    });
  }
}
