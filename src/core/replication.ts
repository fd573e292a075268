import { Inflight } from "./inflight.js";
import { assert } from "./invariants.js";
import { limits } from "./limits.js";
import type { PeerAppendAnswer } from "./messages.js";
import { Progress } from "./progress.js";
import type { RaftState } from "./state.js";
import { type Entry, entryBytes } from "./types.js";

/** Limits on what a leader sends. */
export type FlowLimits = {
  readonly [Name in "appendEntries" | "appendBatchBytes" | "peerAppendsInFlight" | "peerBytesInFlight"]: number;
};

/** Entries that are to be read from the log on disk for a follower; hand them to {@link Raft.entriesRead}. */
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

/** How the sending of a snapshot has ended. */
export type SnapshotOutcome =
  /** The follower's log agrees up to here, durably. */
  | { readonly kind: "installed"; readonly matchIndex: number }
  /** It was refused: the follower has committed this index already. Where its log agrees durably remains to be asked. */
  | { readonly kind: "ahead"; readonly commitIndex: number }
  | { readonly kind: "failed" };

type Conflict = Pick<NonNullable<PeerAppendAnswer["rejection"]>, "conflictTerm" | "conflictIndex">;

/** How many election timeouts to wait at most before a snapshot is sent again that could not be sent. */
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
  ) {
    this.followMembership();
  }

  get peers(): Iterable<Progress> {
    return this.#progress.values();
  }

  /** A member's; this node itself has none. */
  progressOf(id: string): Progress {
    const progress = this.#progress.get(id);
    assert(progress !== undefined, "each other member is followed", { id });
    return progress;
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
    const { members } = state.memberships.latest;
    for (const { id } of members) {
      if (id === state.id || this.#progress.has(id)) continue;
      const inflight = new Inflight(bounds.peerAppendsInFlight, bounds.peerBytesInFlight);
      this.#progress.set(id, new Progress(id, inflight, state.log.last.index + 1));
    }
    for (const id of this.#progress.keys()) {
      if (!members.some((member) => member.id === id)) this.#progress.delete(id);
    }
  }

  /** Sends whatever may be sent now. */
  fill(): void {
    for (const progress of this.#progress.values()) {
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
    for (const progress of this.#progress.values()) this.#heartbeat(progress);
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
    if (rejection === undefined) this.#accepted(progress, answer.matchIndex ?? 0);
    else if (rejection.reason === "log_mismatch") this.#refused(progress, request.prevIndex, rejection);
    // Nothing that a correct leader's message can meet with: leave it until the next heartbeat, rather than turn in circles.
    else if (progress.state.kind === "probe") progress.state = { kind: "probe", isWaiting: true };
  }

  /** What was sent to it last may be lost. */
  unreachable(id: string): void {
    const progress = this.#progress.get(id);
    if (progress?.state.kind === "replicate") progress.becomeProbe(progress.match + 1);
  }

  /** Entries that {@link LogRead} asked for; none when they could not be read: trimmed meanwhile, or not now. */
  entriesRead(to: string, entries: readonly Entry[]): void {
    const progress = this.#progress.get(to);
    if (progress === undefined) return;
    progress.isReading = false;
    // What lies below the boundary now cannot be sent: the term before it is not known any more.
    const isNext = entries[0]?.index === progress.next && progress.next > this.state.log.boundary.index;
    if (isNext && progress.maySend) this.#sendEntries(progress, entries);
  }

  /** The sending of a snapshot has ended. Retries are spaced out: a follower that has no room will not have any a moment later. */
  snapshotSent(to: string, outcome: SnapshotOutcome): void {
    const progress = this.#progress.get(to);
    if (progress === undefined) return;
    const { log, timing } = this.state;
    const reached =
      outcome.kind === "installed" ? outcome.matchIndex : outcome.kind === "ahead" ? outcome.commitIndex : -1;
    // No correct member has more than this leader.
    if (reached < 0 || reached > log.last.index) {
      const ticks = timing.heartbeatTicks * 2 ** Math.min(progress.failedTransfers, 30);
      progress.awaitRetry(Math.min(ticks, timing.electionTicks * RETRY_TIMEOUTS_MAX));
      return;
    }
    progress.isActive = true;
    if (outcome.kind === "installed") progress.matched(reached);
    if (progress.state.kind === "snapshot") progress.becomeProbe(reached + 1);
  }

  #accepted(progress: Progress, matchIndex: number): void {
    const { log } = this.state;
    // No correct member has more of this leader's log than this leader.
    if (matchIndex > log.last.index) return;
    const isProbed = matchIndex >= progress.next - 1;
    progress.matched(matchIndex);
    const { kind } = progress.state;
    // Less is the answer to something older, or of one that is installing a snapshot.
    if (kind === "probe" && isProbed) progress.becomeReplicate();
    // Rule 14: however it got past the boundary, it goes on from there.
    if (kind === "snapshot" && progress.match >= log.boundary.index) progress.becomeProbe(progress.match + 1);
  }

  /** Fast backtracking (end of Raft section 5.3). */
  #refused(progress: Progress, prevIndex: number, conflict: Conflict): void {
    // An answer to something older.
    if (prevIndex <= progress.match || progress.state.kind === "snapshot") return;
    if (progress.state.kind === "probe" && prevIndex !== progress.next - 1) return;
    progress.becomeProbe(Math.min(this.#nextAfter(conflict, prevIndex), prevIndex));
  }

  /**
   * The follower has an entry of conflictTerm at `prevIndex`, and of lower terms before conflictIndex; 0: its log is shorter. Where this
   * leader's terms are above conflictTerm, the logs cannot agree; where they are below it, they cannot agree from conflictIndex on.
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

  /** What to send next; undefined when it is something else than entries that are at hand: then that is seen to. */
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
    progress.becomeSnapshot();
    this.#snapshotSends.push({ to: progress.id, term });
  }

  /**
   * Without entries. Asks whether the logs agree up to where this leader believes, so that a loss is found out; or only whether the member is
   * alive, when that lies in the trimmed range.
   */
  #heartbeat(progress: Progress): void {
    const prev = progress.next - 1;
    this.#append(progress, prev < this.state.log.boundary.index ? 0 : prev, []);
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
      round: this.#round,
    });
  }
}
