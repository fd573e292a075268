import { Handover } from "./handover.js";
import { limits } from "./limits.js";
import { changedMembership, type MembershipChange } from "./membership_change.js";
import type { PeerAppendAnswer } from "./messages.js";
import { majority, majorityIndex } from "./quorum.js";
import { type FlowLimits, Replication } from "./replication.js";
import type { RaftState } from "./state.js";
import { type EntryType, entryBytes, type LogPosition } from "./types.js";
import { Uncommitted } from "./uncommitted.js";

/** Why a leader does not take a proposal. */
export type ProposalRefusal = "not_leader" | "queue_full" | "transferring";

export type LeaderLimits = FlowLimits & { readonly uncommittedBytes: number };

/** Last index of a leader's log, and the number of its next message, at one moment. */
interface Mark {
  readonly index: number;
  readonly round: number;
}

/** What a leader keeps besides the state that all roles share, and what it does with it. */
export class Leader {
  readonly replication: Replication;
  readonly handover: Handover;
  readonly #uncommitted: Uncommitted;
  #ticks = 0;
  /** First round of each of the last ticks: tells when a message was sent. */
  #ticksOfRounds: { readonly tick: number; readonly round: number }[] = [{ tick: 0, round: 1 }];
  /** Answers to messages before this round say nothing about the lease: this node's clock may have stood still since. */
  #leaseFloor = 0;
  /** Where this leader was one election timeout ago, or up to two, and where it was when the present one began. */
  #earlierMark: Mark;
  #mark: Mark;

  constructor(
    private readonly state: RaftState,
    bounds: LeaderLimits = limits,
  ) {
    this.replication = new Replication(state, bounds);
    this.handover = new Handover(state, this.replication);
    this.#uncommitted = new Uncommitted(bounds.uncommittedBytes);
    // Raft section 8: a new leader commits an entry of its own term to learn what is committed.
    this.#append("no-op", new Uint8Array());
    this.#earlierMark = this.#mark = { index: state.log.last.index, round: 1 };
  }

  /** Whether it has committed an entry of its own term. */
  get isEstablished(): boolean {
    return this.state.log.commit >= this.state.termStart;
  }

  /** Appends a command to the log (Raft section 5.3). */
  propose(data: Uint8Array): LogPosition | ProposalRefusal {
    if (this.handover.target !== undefined) return "transferring";
    if (this.#uncommitted.isFull(data.byteLength)) return "queue_full";
    return this.#append("command", data);
  }

  /**
   * Appends a configuration. One change at a time, and only when an entry of this leader's own term is committed: else it might not know
   * of one that an earlier leader has begun (Raft section 6; thesis section 4.1, and the correction to it on the raft-dev list).
   */
  changeMembership(change: MembershipChange): LogPosition | { readonly impossible: string } {
    const { state } = this;
    const { index, members } = state.memberships.latest;
    if (this.handover.target !== undefined) return { impossible: "leadership is being handed over" };
    if (!this.isEstablished) return { impossible: "this leader has not committed an entry of its term yet" };
    if (index > state.log.commit) return { impossible: `the change at index ${index} is not committed yet` };
    const changed = changedMembership(members, change, (id) => this.#isCaughtUp(id));
    if ("impossible" in changed) return changed;
    const position = this.#append("configuration", state.codec.encode(changed.members));
    this.replication.followMembership();
    return position;
  }

  /** A member's answer in this term. */
  answered(answer: PeerAppendAnswer): void {
    this.replication.answered(answer);
    this.proceed();
  }

  /** Goes on with what a member's answer, or the end of a write here, may have made possible. */
  proceed(): void {
    this.#advanceCommit();
    this.handover.proceed();
    this.#confirmReads();
  }

  /**
   * Advances the commit index to what a majority has made durable, if that is an entry of this leader's own term (Raft section 5.4.2).
   * The leader counts itself with what is durable in its own log, like any other; and not at all when it is no voter any more.
   */
  #advanceCommit(): void {
    const { state } = this;
    const reached = majorityIndex(state.voters.map((id) => this.#matchOf(id)));
    if (reached <= state.log.commit || state.log.termAt(reached) !== state.term) return;
    state.log.commitTo(reached);
    this.#uncommitted.committed(reached);
  }

  /** Whether the membership that is committed leaves this leader out: it is to step down (thesis section 4.2.2). */
  get isRemoved(): boolean {
    const { state } = this;
    return state.memberships.latest.index <= state.log.commit && !state.isVoter;
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

  /** Answers the reads after whose arrival a majority has answered. */
  #confirmReads(): void {
    const { reads, voters, log } = this.state;
    if (reads.wantedRound === 0 || !this.isEstablished) return;
    const { replication } = this;
    const answered = (id: string) => replication.progressOf(id).ackedRound;
    const round = majorityIndex(voters.map((id) => (id === this.state.id ? replication.nextRound : answered(id))));
    reads.confirm(round, log.commit);
  }

  /** Time has passed. Returns false when this leader has lost touch with a majority and must step down (thesis section 6.2). */
  tick(): boolean {
    const { timing, log } = this.state;
    this.#ticks += 1;
    this.handover.tick();
    this.replication.tick();
    if (this.#ticks % timing.heartbeatTicks === 0) this.replication.heartbeats();
    if (timing.hasLeases) this.#rememberTick();
    if (this.#ticks % timing.electionTicks !== 0) return true;
    this.#earlierMark = this.#mark;
    this.#mark = { index: log.last.index, round: this.replication.nextRound };
    return this.#checkQuorum();
  }

  /** This node's clock may have stood still: what was answered before does not count for its lease. */
  distrustClock(): void {
    this.#leaseFloor = this.replication.nextRound;
  }

  #checkQuorum(): boolean {
    const { state, replication } = this;
    if (!state.timing.isAutomatic) return true;
    const active = state.voters.filter((id) => id === state.id || replication.progressOf(id).isActive);
    for (const progress of replication.peers) progress.isActive = false;
    return active.length >= majority(state.voters.length);
  }

  /** Thesis section 4.2.1: a learner has caught up when it lags behind by no more than an election timeout's worth of entries, and answers. */
  #isCaughtUp(id: string): boolean {
    const { state, match, ackedRound } = this.replication.progressOf(id);
    const { index, round } = this.#earlierMark;
    return state.kind === "replicate" && match >= index && ackedRound >= round;
  }

  #matchOf(id: string): number {
    return id === this.state.id ? this.state.log.persisted : this.replication.progressOf(id).match;
  }

  /**
   * Thesis section 6.4.1: a majority has answered messages so young that none of it votes for anybody yet. The clocks' part in this is
   * in {@link Timing.leaseTicks}.
   */
  get #hasLease(): boolean {
    const { state, replication } = this;
    if (!state.timing.hasLeases || this.handover.hasTold) return false;
    const least = this.#ticks - state.timing.leaseTicks;
    const sentAt = (id: string) => this.#tickOf(replication.progressOf(id).ackedRound);
    return majorityIndex(state.voters.map((id) => (id === state.id ? this.#ticks : sentAt(id)))) > least;
  }

  /** The tick in which a message was sent; -Infinity when that is too long ago to be known. */
  #tickOf(round: number): number {
    if (round < this.#leaseFloor) return Number.NEGATIVE_INFINITY;
    return this.#ticksOfRounds.findLast((each) => each.round <= round)?.tick ?? Number.NEGATIVE_INFINITY;
  }

  #rememberTick(): void {
    this.#ticksOfRounds.push({ tick: this.#ticks, round: this.replication.nextRound });
    if (this.#ticksOfRounds.length > this.state.timing.electionTicks + 1) this.#ticksOfRounds.shift();
  }

  #append(type: EntryType, data: Uint8Array): LogPosition {
    const { state } = this;
    const entry = { index: state.log.last.index + 1, term: state.term, type, data };
    state.append(entry);
    this.#uncommitted.add(entry.index, entryBytes(entry));
    // Not the entry: whoever waits for its commit would keep its data in memory.
    return { index: entry.index, term: entry.term };
  }
}
