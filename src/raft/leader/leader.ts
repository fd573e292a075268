import { logExhaustion } from "../../base/counters.js";
import { memberKey } from "../../base/ids.js";
import { limits } from "../../base/limits.js";
import { type Permission, unless } from "../../base/permission.js";
import { changedMembership, type MembershipChange, promoted } from "../membership/membership_change.js";
import { membersProblem } from "../membership/membership_rules.js";
import { majorityIndex } from "../membership/quorum.js";
import type { PeerAppendAnswer } from "../messages.js";
import type { ChangeProposal, Proposal } from "../raft_answers.js";
import type { RaftState } from "../state.js";
import { type EntryType, entryBytes, type LogPosition, type Membership } from "../types.js";
import { LeadershipTransfer } from "./leadership_transfer.js";
import { Lease } from "./lease.js";
import type { Progress } from "./progress.js";
import { type FlowLimits, Replication, type SendSizes } from "./replication.js";
import { Resignation } from "./resignation.js";
import { Uncommitted } from "./uncommitted.js";

/** Limits on what a leader sends, and on what it holds uncommitted. */
export type LeaderLimits = FlowLimits & { readonly uncommittedBytes: number };

/** A leader's last index, and the number of its next message, at one moment. */
interface Mark {
  readonly index: number;
  readonly round: number;
}

/**
 * The leader's role: its state beyond the state that all roles share, and the rules that it acts
 * by.
 */
export class Leader {
  readonly replication: Replication;
  readonly leadershipTransfer: LeadershipTransfer;
  readonly #uncommitted: Uncommitted;
  readonly #lease: Lease;
  readonly #resignation: Resignation;
  /** Index of the first entry of this leader's term. */
  readonly #termStart: number;
  #ticks = 0;
  /**
   * Marks the log and the round as they were one to two election timeouts ago (`#earlierMark`), and
   * at the start of the current election timeout (`#mark`).
   */
  #earlierMark: Mark;
  #mark: Mark;
  /**
   * Set after this node paused: the leader steps down unless a majority answers a message from this
   * round on before the ticks run out.
   */
  #doubt: { readonly round: number; ticksLeft: number } | undefined;
  /** Whether this leader is removed and is handing over. */
  #isLeaving = false;

  constructor(
    private readonly state: RaftState,
    bounds: LeaderLimits = limits,
    sizes?: SendSizes,
  ) {
    this.replication = new Replication(state, bounds, sizes);
    this.leadershipTransfer = new LeadershipTransfer(state, this.replication);
    this.#uncommitted = new Uncommitted(bounds.uncommittedBytes);
    this.#lease = new Lease(state.timing);
    this.#resignation = new Resignation(state, this.leadershipTransfer);
    // Raft section 8: a new leader commits an entry of its own term to learn what is committed.
    this.#termStart = this.#append("no-op", new Uint8Array()).index;
    this.#earlierMark = this.#mark = { index: state.log.last.index, round: 1 };
  }

  /** Whether this leader has committed an entry of its own term. */
  get isEstablished(): boolean {
    return this.state.log.commit >= this.#termStart;
  }

  /** Appends a command to the log (Raft section 5.3). */
  propose(data: Uint8Array, type: "command" | "no-op"): Proposal {
    if (this.leadershipTransfer.target !== undefined) return { refused: "transferring" };
    if (this.#uncommitted.isFull(data.byteLength)) return { refused: "queue_full" };
    if (logExhaustion(this.state.log.last.index) !== undefined) return { refused: "log_exhausted" };
    return { accepted: this.#append(type, data) };
  }

  /**
   * Appends a configuration. Changes are made one at a time, and only after an entry of this
   * leader's own term is committed: otherwise the leader might not know of a change that an earlier
   * leader began (Raft section 6; thesis section 4.1, and the correction to it on the raft-dev
   * list).
   */
  changeMembership(change: MembershipChange): ChangeProposal {
    const { members } = this.state.memberships.latest;
    const permission = this.#mayChangeMembership;
    if ("refused" in permission) return { impossible: permission.refused };
    const changed = changedMembership(members, change, {
      isCaughtUp: (key) => this.#isCaughtUp(key),
      answers: (key) => key === this.state.id || this.#answers(key),
    });
    if ("impossible" in changed || "unchanged" in changed) return changed;
    const problem = membersProblem(changed.members);
    if (problem !== undefined) return { impossible: problem };
    return { accepted: this.#setMembership(changed.members) };
  }

  /**
   * Whether a member answers and counts as alive. A member that has lost data (T3) answers, but
   * nothing waits for it.
   */
  #answers(key: string): boolean {
    const progress = this.replication.find(key);
    return progress?.answers === true && progress.state.kind !== "lost";
  }

  /** Whether a membership change may begin now. */
  get #mayChangeMembership(): Permission {
    const { memberships, log } = this.state;
    const { index } = memberships.latest;
    if (this.leadershipTransfer.target !== undefined) return { refused: "leadership is being handed over" };
    if (!this.isEstablished) return { refused: "this leader has not committed an entry of its term yet" };
    if (index > log.commit) return { refused: `the change at index ${index} is not committed yet` };
    return unless(logExhaustion(log.last.index));
  }

  #setMembership(members: Membership): LogPosition {
    const position = this.#append("configuration", this.state.codec.encode(members));
    this.replication.followMembership();
    return position;
  }

  /** Promotes a learner that is to vote as soon as it has caught up (T4). */
  #promoteNext(): void {
    const { members } = this.state.memberships.latest;
    const waiting = members.filter(({ role, wantsVote }) => role === "learner" && wantsVote === true);
    if (waiting.length === 0 || "refused" in this.#mayChangeMembership) return;
    const ready = waiting.find((member) => this.#isCaughtUp(memberKey(member)));
    if (ready !== undefined) this.#setMembership(promoted(members, ready));
  }

  /** Handles a member's answer in this term. */
  answered(answer: PeerAppendAnswer): void {
    this.replication.answered(answer);
    this.proceed();
  }

  /**
   * Takes the steps that a member's answer, or the end of a local write, may have made possible.
   */
  proceed(): void {
    this.#advanceCommit();
    this.leadershipTransfer.proceed();
    this.#confirmReads();
  }

  /**
   * Advances the commit index to the highest index that a majority has made durable, if its entry
   * is of this leader's own term (Raft section 5.4.2). The leader counts itself by the durable part
   * of its own log, like any other voter, and not at all when it is no longer a voter.
   */
  #advanceCommit(): void {
    const { state } = this;
    const reached = this.#ofMajority(state.log.persisted, ({ match }) => match);
    if (reached <= state.log.commit || state.log.termAt(reached) !== state.term) return;
    state.log.commitTo(reached);
    this.#uncommitted.committed(reached);
  }

  /**
   * Whether this leader must step down now, because the committed membership leaves it out (thesis
   * section 4.2.2). It first hands over, so that the cluster need not wait for an election timeout:
   * the target may lack entries that are still in flight.
   */
  stepsDownRemoved(): boolean {
    const { state, leadershipTransfer } = this;
    if (state.isVoter || state.memberships.latest.index > state.log.commit) return false;
    if (!this.#isLeaving) leadershipTransfer.begin(undefined);
    this.#isLeaving = true;
    return leadershipTransfer.isDone;
  }

  readIndex(requestId: number): void {
    const { reads, log } = this.state;
    const index = this.isEstablished ? log.commit : undefined;
    if (index !== undefined && this.#hasLease) {
      reads.answer(requestId, index);
      return;
    }
    reads.add(requestId, this.replication.nextRound, index);
    this.#confirmReads();
  }

  /** Answers the reads that a majority has confirmed by answers to later messages. */
  #confirmReads(): void {
    const { reads, log } = this.state;
    if (reads.wantedRound === undefined || !this.isEstablished) return;
    const round = this.#ofMajority(this.replication.nextRound, ({ ackedRound }) => ackedRound);
    reads.confirm(round, log.commit);
  }

  /**
   * Counts a tick. Returns false when this leader must step down: it has lost contact with a
   * majority (thesis section 6.2), or it cannot do a leader's work (T8).
   */
  tick(): boolean {
    const { replication } = this;
    const { timing, log } = this.state;
    this.#ticks += 1;
    this.#lease.tick(replication.nextRound);
    if (this.#ticks % timing.electionTicks === 0) {
      this.#earlierMark = this.#mark;
      this.#mark = { index: log.last.index, round: replication.nextRound };
      if (!this.#checkQuorum()) return false;
    }
    if (!this.#doubtResolved() || this.#resignation.tick()) return false;
    this.leadershipTransfer.tick();
    replication.tick();
    this.#promoteNext();
    if (this.#ticks % timing.heartbeatTicks === 0) replication.heartbeats();
    return true;
  }

  /**
   * Reports that this node's clock may have stopped: answers to earlier messages do not count for
   * its lease.
   */
  distrustClock(): void {
    this.#lease.distrustBefore(this.replication.nextRound);
  }

  /**
   * Reports that this node paused for longer than an election timeout, so another may lead (T8).
   * Answers that arrived meanwhile are as old as the pause: check-quorum and the lease must not
   * rely on them. The leader asks at once, and steps down unless a majority answers within an
   * election timeout. It still accepts proposals: an entry that no majority writes has no effect.
   */
  stoodStill(): void {
    const { timing } = this.state;
    this.distrustClock();
    if (!timing.isAutomatic) return;
    this.#doubt = { round: this.replication.nextRound, ticksLeft: timing.electionTicks };
    this.replication.heartbeats();
  }

  /** Returns false when no majority has confirmed in time that this node still leads. */
  #doubtResolved(): boolean {
    const doubt = this.#doubt;
    if (doubt === undefined) return true;
    if (this.#ofMajority(doubt.round, ({ ackedRound }) => ackedRound) >= doubt.round) this.#doubt = undefined;
    else doubt.ticksLeft -= 1;
    return doubt.ticksLeft > 0;
  }

  #checkQuorum(): boolean {
    const isHeard = this.#ofMajority(1, ({ isActive }) => (isActive ? 1 : 0)) === 1;
    let isRefused = false;
    for (const progress of this.replication.peers) {
      isRefused ||= progress.hasRefused;
      progress.looked();
    }
    if (isHeard) return true;
    // Nobody would succeed a leader of a manual election; but while others are held to follow
    // another one in this term, only a new term helps.
    return !this.state.timing.isAutomatic && (this.isEstablished || !isRefused);
  }

  /**
   * Whether a learner has caught up (thesis section 4.2.1): it answers, and lags by no more than an
   * election timeout's worth of entries.
   */
  #isCaughtUp(key: string): boolean {
    const { state, match, ackedRound } = this.replication.progressOf(key);
    const { index, round } = this.#earlierMark;
    return state.kind === "replicate" && match >= index && ackedRound >= round;
  }

  get #hasLease(): boolean {
    if (this.leadershipTransfer.hasTold) return false;
    return this.#lease.lasts(this.#ofMajority(this.#lease.now, ({ ackedRound }) => this.#lease.sentAt(ackedRound)));
  }

  /**
   * Returns the highest value that a majority of the voters has reached. This leader, if it is a
   * voter, has reached `own`. A member that has lost data has reached nothing (T3).
   */
  #ofMajority(own: number, reached: (progress: Progress) => number): number {
    const { state, replication } = this;
    const reachedBy = (key: string) => {
      if (key === state.id) return own;
      const progress = replication.progressOf(key);
      return progress.state.kind === "lost" ? Number.NEGATIVE_INFINITY : reached(progress);
    };
    return majorityIndex(state.voters.map(reachedBy));
  }

  #append(type: EntryType, data: Uint8Array): LogPosition {
    const { state } = this;
    const entry = { index: state.log.last.index + 1, term: state.term, type, data };
    state.append(entry);
    this.#uncommitted.add(entry.index, entryBytes(entry));
    // Return the position only: a caller that waits for the commit would keep the entry's data in
    // memory.
    return { index: entry.index, term: entry.term };
  }
}
