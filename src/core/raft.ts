import { campaign, cannotCampaign, onRequestVote } from "./election.js";
import { installedAnswer, onAppendEntries, onInstallSnapshot } from "./follower.js";
import { assert } from "./invariants.js";
import { Leader } from "./leader.js";
import { type LogStart, RaftLog } from "./log.js";
import { type MembershipCodec, MembershipHistory } from "./membership.js";
import type { InstallSnapshot, Request } from "./messages.js";
import type { ReadState } from "./read_index.js";
import type { Ready } from "./ready.js";
import { RaftState, type Role } from "./state.js";
import { entryBytes, type HardState, type IndexedMembership, type LogPosition, type SnapshotMeta } from "./types.js";

/** How a node comes to campaign: by its timer, or only when told to. */
export type ElectionMode = "automatic" | "manual";

export interface RaftOptions {
  readonly id: string;
  readonly elections: ElectionMode;
  /** A follower campaigns after electionTicks to 2 * electionTicks - 1 ticks without hearing from a leader. */
  readonly electionTicks: number;
  /** Random numbers from 0 to below 1. */
  readonly random: () => number;
  readonly codec: MembershipCodec;
  readonly hardState: HardState;
  readonly log: LogStart;
  /** Newest snapshot, if there is one. */
  readonly snapshot: LogPosition | undefined;
  /** Membership in force at the log's boundary or the newest snapshot, and those set by entries above, ascending by index. */
  readonly memberships: readonly IndexedMembership[];
}

/** What {@link Raft.propose} answers. */
export type Proposal = { readonly accepted: LogPosition } | { readonly refused: "not_leader" | "queue_full" };

/**
 * Raft as a machine: {@link step}, {@link tick}, {@link propose}, {@link campaign} and {@link readIndex} change it, {@link ready} says what must
 * happen in the world, {@link advance} reports that it has. Nothing here waits, reads a clock, draws a random number of its own or does I/O.
 */
export class Raft {
  readonly #state: RaftState;
  readonly #options: RaftOptions;
  #leader: Leader | undefined;
  #timeoutTicks = 0;
  /** The request whose snapshot is being installed. */
  #installing: InstallSnapshot | undefined;
  #lastHardState: HardState;
  #taken: Ready | undefined;

  constructor(options: RaftOptions) {
    const [base, ...later] = options.memberships;
    assert(base !== undefined, "a membership is given", { id: options.id });
    const memberships = new MembershipHistory(base);
    for (const membership of later) memberships.append(membership);
    this.#options = options;
    this.#state = new RaftState({
      id: options.id,
      log: new RaftLog(options.log),
      memberships,
      codec: options.codec,
      hardState: options.hardState,
      snapshot: options.snapshot,
    });
    this.#lastHardState = this.#state.hardState;
    this.#drawTimeout();
  }

  get term(): number {
    return this.#state.term;
  }

  get role(): Role {
    return this.#state.role;
  }

  /** The present term's leader, as far as this node knows. */
  get leader(): string | undefined {
    return this.#state.leader;
  }

  /** Read it; change it only through this class. */
  get log(): RaftLog {
    return this.#state.log;
  }

  /** Newest snapshot, taken here or installed. */
  get snapshot(): LogPosition | undefined {
    return this.#state.snapshot;
  }

  /** The membership in force. */
  get membership(): IndexedMembership {
    return this.#state.memberships.latest;
  }

  /** The membership in force at an index of the log. */
  membershipAt(index: number): IndexedMembership {
    return this.#state.memberships.at(index);
  }

  /** Whether this node leads and has committed an entry of its own term, so that it can answer reads. */
  get isEstablishedLeader(): boolean {
    return this.#state.role === "leader" && this.#state.log.commit >= this.#state.termStart;
  }

  /** Takes in a request of a peer. Its answer comes out of a later {@link ready}. */
  step(request: Request): void {
    const answer = this.#answer(request);
    if (answer !== undefined) this.#state.outbox.push(answer);
    if (this.#state.role !== "leader") this.#leader = undefined;
  }

  /** A unit of time has passed. */
  tick(): void {
    const state = this.#state;
    if (this.#options.elections === "manual" || state.role === "leader") return;
    state.elapsedTicks += 1;
    if (state.elapsedTicks < this.#timeoutTicks || cannotCampaign(state) !== undefined) return;
    this.#drawTimeout();
    this.#campaign();
  }

  /** Starts an election whatever the timers say. Returns why it cannot, or undefined; a leader stays one. */
  campaign(): string | undefined {
    if (this.#state.role === "leader") return undefined;
    const reason = cannotCampaign(this.#state);
    if (reason === undefined) this.#campaign();
    return reason;
  }

  /** Appends a command to the log, if this node leads. It is committed when {@link ready} hands it out among `committed`. */
  propose(data: Uint8Array): Proposal {
    if (this.#leader === undefined) return { refused: "not_leader" };
    const bytes = entryBytes({ index: 0, term: 0, type: "command", data });
    if (this.#leader.isFull(bytes)) return { refused: "queue_full" };
    return { accepted: this.#leader.propose(data) };
  }

  /** Asks for the index at which a linearizable read may be answered; it comes out of {@link takeReads}, now or later. */
  readIndex(requestId: number): void {
    this.#state.reads.add(requestId);
    if (this.#leader === undefined) this.#state.reads.fail();
    else this.#leader.confirmReads();
  }

  /**
   * The answers to {@link readIndex} that are known by now. They promise nothing that is still to be written, so they need not wait
   * for a Ready: reads go on while the disk is full.
   */
  takeReads(): readonly ReadState[] {
    return this.#state.reads.takeAnswers();
  }

  /**
   * A snapshot was taken here and is durable: the log forgets the entries up to `trimTo`, at most the snapshot's index. A snapshot that
   * is older than the newest one changes nothing (rule 5). Returns whether it is the newest one now.
   */
  snapshotTaken(snapshot: LogPosition, trimTo: number): boolean {
    const state = this.#state;
    assert(trimTo <= snapshot.index, "only what the snapshot covers is trimmed", { trimTo, snapshot: snapshot.index });
    if (state.snapshot !== undefined && snapshot.index <= state.snapshot.index) return false;
    assert(state.log.termAt(snapshot.index) === snapshot.term, "a snapshot has the term of its last entry", {
      snapshot: snapshot.index,
      term: snapshot.term,
      entry: state.log.termAt(snapshot.index),
    });
    state.snapshot = snapshot;
    // That it was taken proves that its entries are applied, though the Ready that handed them out may still be under way.
    state.log.appliedTo(Math.max(state.log.applied, snapshot.index));
    state.log.trimTo(trimTo);
    state.memberships.trimTo(trimTo);
    return true;
  }

  /** Whether {@link ready} has anything to say. */
  get hasReady(): boolean {
    const { log, outbox } = this.#state;
    return (
      this.#taken === undefined &&
      (outbox.length > 0 ||
        log.hasUnpersisted ||
        this.#state.pendingSnapshot !== undefined ||
        log.hasUnapplied ||
        this.#hardStateChange() !== undefined)
    );
  }

  /** What must happen next. Each Ready must be given to {@link advance} before the next one is taken. */
  ready(): Ready {
    assert(this.#taken === undefined, "one Ready at a time", {});
    const termChanged = this.#state.term !== this.#lastHardState.term;
    const ready = termChanged && this.#state.pendingSnapshot !== undefined ? this.#termOnly() : this.#everything();
    if (ready.hardState !== undefined) this.#lastHardState = ready.hardState;
    this.#taken = ready;
    return ready;
  }

  #everything(): Ready {
    const { log, outbox, pendingSnapshot } = this.#state;
    const hardState = this.#hardStateChange();
    const { term, vote } = this.#lastHardState;
    const termChanged = hardState !== undefined && hardState.term !== term;
    const voteChanged = hardState !== undefined && hardState.vote !== vote;
    const entries = log.takeUnpersisted();
    return {
      snapshot: pendingSnapshot,
      hardState,
      entries,
      mustSync: termChanged || voteChanged || entries.length > 0 || pendingSnapshot !== undefined,
      messages: outbox.splice(0),
      committed: pendingSnapshot !== undefined || termChanged ? [] : log.takeUnapplied(),
    };
  }

  /**
   * The term alone, ahead of a snapshot. What a leader says is committed must not outlast its term: a node that came back with the snapshot
   * but in an older term would listen to leaders that were deposed before the snapshot's sender, and tell them that its log agrees with
   * theirs up to a boundary that they never reached.
   */
  #termOnly(): Ready {
    const { term, vote } = this.#state.hardState;
    const hardState = { term, vote, commit: this.#lastHardState.commit };
    return { snapshot: undefined, hardState, entries: [], mustSync: true, messages: [], committed: [] };
  }

  /** All of `ready` was carried out: its writes are durable, its snapshot is installed, its entries are applied. */
  advance(ready: Ready): void {
    assert(ready === this.#taken, "the Ready that was taken is the one that is done", {});
    this.#taken = undefined;
    const state = this.#state;
    if (ready.snapshot !== undefined) this.#installed(ready.snapshot);
    const lastWritten = ready.entries.at(-1);
    if (lastWritten !== undefined) state.log.persistedTo(lastWritten.index);
    const lastApplied = ready.committed.at(-1);
    if (lastApplied !== undefined) state.log.appliedTo(lastApplied.index);
    this.#leader?.advanceCommit();
    this.#leader?.confirmReads();
  }

  #answer(request: Request) {
    switch (request.type) {
      case "append_entries":
        return onAppendEntries(this.#state, request);
      case "request_vote":
        return onRequestVote(this.#state, request);
      case "install_snapshot": {
        assert(this.#installing === undefined, "one snapshot is installed at a time", { from: request.from });
        const answer = onInstallSnapshot(this.#state, request);
        if (answer === undefined) this.#installing = request;
        return answer;
      }
    }
  }

  #installed(snapshot: SnapshotMeta): void {
    const state = this.#state;
    assert(this.#installing !== undefined && state.pendingSnapshot === snapshot, "the pending snapshot is installed", {
      snapshot: snapshot.index,
    });
    state.pendingSnapshot = undefined;
    state.log.appliedTo(snapshot.index);
    state.outbox.push(installedAnswer(state, this.#installing));
    this.#installing = undefined;
  }

  #campaign(): void {
    if (!campaign(this.#state)) return;
    this.#state.becomeLeader();
    this.#leader = new Leader(this.#state);
  }

  /** Randomised, so that voters do not split their votes for ever (Raft section 5.2). */
  #drawTimeout(): void {
    const { electionTicks, random } = this.#options;
    this.#timeoutTicks = electionTicks + Math.floor(random() * electionTicks);
  }

  #hardStateChange(): HardState | undefined {
    const { term, vote, commit } = this.#state.hardState;
    const last = this.#lastHardState;
    return term === last.term && vote === last.vote && commit === last.commit ? undefined : { term, vote, commit };
  }
}
