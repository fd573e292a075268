import { expect } from "vitest";
import { assert } from "../../../src/base/assert.js";
import {
  type AppendEntriesAnswer,
  isAnswer,
  type PeerRequest,
  type Request,
  type Response,
} from "../../../src/raft/messages.js";
import { Raft } from "../../../src/raft/raft.js";
import type { Ready } from "../../../src/raft/ready.js";
import type { Entry, SnapshotMeta } from "../../../src/raft/types.js";
import { advance, codec } from "../../support/nodes/core.js";
import { ModelCluster, type ModelLeader } from "./cluster.js";
import { Disk } from "./disk.js";

/** How often what happened: shows that a run of the model gets anywhere. */
export type Counts = Record<string, number>;

/** A request of a model leader (a candidate when there is none) that is not answered yet. */
interface Asked {
  readonly request: Request;
  readonly leader: ModelLeader | undefined;
}

interface Step {
  readonly what: string;
  readonly run: () => void;
}

/** A snapshot that is being taken here. */
interface Taking {
  readonly meta: SnapshotMeta;
  stage: "captured" | "published" | "told";
  trimTo: number;
}

/** The node under test with its disk and its state machine, and the checks on all that it does. */
export class Harness {
  readonly cluster = new ModelCluster();
  readonly disk = new Disk();
  raft: Raft;
  /** What is left to do of the Ready that is being carried out, in order. */
  #work: Step[] = [];
  /** What is left to do to load a snapshot, beside that. */
  #loading: Step[] = [];
  #asked = new Map<number, Asked>();
  #lastRequest = 0;
  #taking: Taking | undefined;
  #seen = { term: 0, commit: 0, applied: 0, boundary: 0, snapshot: 0 };

  constructor(
    private readonly counts: Counts,
    private readonly random: () => number,
  ) {
    this.raft = this.#start(false);
  }

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  ask(request: Request, leader: ModelLeader | undefined): void {
    this.#asked.set(request.requestId, { request, leader });
    this.raft.step(request);
  }

  nextRequest(): number {
    return ++this.#lastRequest;
  }

  /** Whether a snapshot was given to the node and is not answered yet: no other is sent then. */
  get isInstalling(): boolean {
    return [...this.#asked.values()].some(({ request }) => request.type === "install_snapshot");
  }

  /** Whether nothing breaks in the model when this node campaigns: it has all that is committed, and its next term is new. */
  get mayCampaign(): boolean {
    const { raft, cluster } = this;
    const last = cluster.committed.at(-1);
    const isComplete = last === undefined || raft.log.termAt(last.index) === last.term;
    return raft.role === "leader" || (isComplete && raft.term >= cluster.highestTerm);
  }

  /** Carries out the next step of the present Ready or of a snapshot that is being loaded, or takes the next Ready. */
  work(applyFirst: boolean, loadFirst = true): void {
    const isIdle = this.#work.length === 0 && !this.raft.hasReady;
    const loads = this.#loading.length > 0 && (isIdle || loadFirst);
    const step = (loads ? this.#loading : this.#work).shift();
    if (step !== undefined) {
      this.count(step.what);
      step.run();
    } else if (this.raft.hasReady) {
      this.#work = this.#plan(this.raft.ready(), applyFirst);
    }
  }

  /** Carries out all that there is to do. */
  settle(): void {
    while (this.#work.length > 0 || this.#loading.length > 0 || this.raft.hasReady) {
      this.work(true);
      this.check();
    }
  }

  restart(powerFailed: boolean): void {
    for (const [next] of [this.#work, this.#loading]) if (next !== undefined) this.count(`crash before: ${next.what}`);
    this.raft = this.#start(powerFailed);
  }

  /** A snapshot is taken in four steps, with anything between. */
  takeSnapshot(trimTo: number): void {
    const { raft, disk } = this;
    const taking = this.#taking;
    if (taking === undefined) this.#capture(trimTo);
    else if (taking.stage === "captured") {
      disk.publish(taking.meta);
      taking.stage = "published";
    } else if (taking.stage === "published") {
      const before = { boundary: raft.log.boundary, snapshot: raft.snapshot };
      const isNewest = raft.snapshotTaken(taking.meta, taking.trimTo);
      this.count(isNewest ? "snapshot taken" : "snapshot outdated when taken");
      // R5.
      if (!isNewest) expect({ boundary: raft.log.boundary, snapshot: raft.snapshot }).toEqual(before);
      taking.stage = "told";
      if (!isNewest) this.#taking = undefined;
    } else {
      disk.trim(Math.min(taking.trimTo, raft.log.boundary.index));
      this.#taking = undefined;
    }
  }

  readIndex(): void {
    this.raft.readIndex(this.nextRequest());
    this.#checkReads();
  }

  /** The invariants, to be checked after each step. */
  check(): void {
    const { raft, disk, cluster } = this;
    const { boundary, last, applied, commit } = raft.log;
    if (raft.role === "leader") this.#learnOwnCommits();
    this.#checkReads();
    this.#checkAnswers(raft.takeMessages());
    const facts = { boundary: boundary.index, applied, commit, last: last.index, machine: disk.applied };
    assert(this.isInstalling || boundary.index <= applied, "boundary <= applied, unless a snapshot is pending", facts);
    assert(boundary.index <= commit && applied <= commit && commit <= last.index, "applied <= commit <= last", facts);
    assert(applied <= disk.applied, "what the core takes for applied is applied", facts);
    // R6; and nothing is committed here that is not committed there.
    expect(raft.log.termAt(boundary.index)).toBe(
      boundary.index === 0 ? 0 : cluster.committed[boundary.index - 1]?.term,
    );
    for (let index = boundary.index + 1; index <= commit; index++) {
      const [here, there] = [raft.log.termAt(index), cluster.committed[index - 1]?.term];
      if (here !== there) expect(here, `term of entry ${index}`).toBe(there);
    }
    this.#checkHint(disk.hardState.commit);
    this.#checkHint(disk.synced.commit);
    const snapshot = raft.snapshot?.index ?? 0;
    const now = { term: raft.term, commit, applied, boundary: boundary.index, snapshot };
    for (const name of ["term", "commit", "applied", "boundary", "snapshot"] as const) {
      if (now[name] < this.#seen[name]) expect(now[name], `${name} never falls`).toBe(this.#seen[name]);
    }
    this.#seen = now;
    if (this.#work.length === 0 && this.#loading.length === 0 && !raft.hasReady) this.#checkQuiet();
  }

  /** What a start would take for committed is committed. */
  #checkHint(commit: number): void {
    const { disk, cluster } = this;
    for (let index = Math.max(1, disk.boundary.index); index <= Math.min(commit, disk.last.index); index++) {
      const [here, there] = [disk.termAt(index), cluster.committed[index - 1]?.term];
      if (here !== there) expect(here, `term of entry ${index}, committed as the disk says`).toBe(there);
    }
  }

  /** With nothing left to do, the disk is what the core believes. */
  #checkQuiet(): void {
    const { raft, disk } = this;
    const { last, persisted, applied, commit } = raft.log;
    const facts = { term: raft.term, last: last.index, persisted, applied, commit, disk: disk.last.index };
    assert(disk.hardState.term === raft.term, "the term is on disk", { ...facts, disk: disk.hardState.term });
    assert(disk.last.index === last.index && persisted === last.index, "the log is on disk", facts);
    assert(applied === commit && disk.applied === applied, "what is committed is applied", facts);
    for (let index = raft.log.boundary.index; index <= last.index; index++) {
      const [there, here] = [disk.termAt(index), raft.log.termAt(index)];
      if (there !== here) expect(there, `term of entry ${index} on disk`).toBe(here);
    }
    expect(raft.membership).toEqual(disk.memberships().at(-1));
  }

  #start(powerFailed: boolean): Raft {
    const recovered = this.disk.recover(powerFailed);
    this.#work = [];
    this.#loading = [];
    this.#asked.clear();
    this.#taking = undefined;
    this.#seen = { term: this.disk.synced.term, commit: 0, applied: 0, boundary: 0, snapshot: 0 };
    return new Raft({
      id: "n1",
      elections: "automatic",
      listensTo: "everyone",
      electionTicks: 3,
      random: this.random,
      codec,
      ...recovered,
    });
  }

  /** The steps that a Ready asks for, in its order. Applying may come at any time. */
  #plan(ready: Ready, applyFirst: boolean) {
    const { disk } = this;
    const { snapshot, entries, committed } = ready;
    assert(snapshot === undefined || committed.length === 0, "nothing is applied beside a snapshot", {});
    const steps: Step[] = [];
    if (snapshot !== undefined) {
      const hardState = ready.hardState ?? disk.hardState;
      steps.push({ what: "publish", run: () => disk.publish(snapshot) });
      steps.push({
        what: "start log at snapshot",
        run: () => disk.startAt(snapshot, hardState, this.raft.log.last.index > snapshot.index),
      });
    }
    const first = entries[0]?.index;
    const replaces = first !== undefined && first <= disk.last.index && snapshot === undefined;
    if (replaces) steps.push({ what: "truncate", run: () => disk.truncateFor(first) });
    const apply = { what: "apply", run: () => this.#apply(committed) };
    if (committed.length > 0 && applyFirst) steps.push(apply);
    steps.push({ what: "write", run: () => this.#write(ready) });
    if (committed.length > 0 && !applyFirst) steps.push(apply);
    steps.push({ what: "advance", run: () => this.#advance(ready) });
    return steps;
  }

  #write(ready: Ready): void {
    const first = ready.entries[0]?.index;
    if (first !== undefined) this.disk.truncateFor(first);
    this.disk.write(ready);
  }

  #restore(snapshot: SnapshotMeta): void {
    const { disk, cluster } = this;
    expect(snapshot.index).toBeGreaterThan(disk.applied);
    expect(cluster.committed[snapshot.index - 1]?.term).toBe(snapshot.term);
    disk.applied = snapshot.index;
  }

  /** Applies from the disk at least up to what is in memory; any number of committed entries more does no harm. */
  #loaded(snapshot: SnapshotMeta): void {
    const { disk, raft } = this;
    const committed = Math.min(raft.log.commit, raft.log.persisted);
    const last = Math.max(
      raft.log.firstInMemory - 1,
      Math.floor(disk.applied + this.random() * (committed - disk.applied)),
    );
    const entries: Entry[] = [];
    for (let index = disk.applied + 1; index <= last; index++) entries.push(disk.entryAt(index)!);
    this.#apply(entries);
    raft.snapshotInstalled(snapshot, disk.applied);
  }

  #apply(committed: readonly Entry[]): void {
    const { disk, cluster } = this;
    for (const entry of committed) {
      expect(entry.index).toBe(disk.applied + 1);
      expect(entry).toEqual(cluster.committed[entry.index - 1]);
      expect(disk.entryAt(entry.index), "what is applied is durable").toEqual(entry);
      disk.applied = entry.index;
    }
  }

  #advance(ready: Ready): void {
    const { snapshot } = ready;
    advance(this.raft, ready);
    if (snapshot !== undefined) {
      this.#loading.push({ what: "restore state", run: () => this.#restore(snapshot) });
      this.#loading.push({ what: "report the state", run: () => this.#loaded(snapshot) });
    } else if (this.#loading.length > 0) this.count("carried out while a snapshot is loaded");
    this.#checkAnswers(ready.messages);
    this.#checkAnswers(this.raft.takeMessages());
  }

  #checkAnswers(messages: readonly (Response | PeerRequest)[]): void {
    for (const message of messages.filter(isAnswer)) {
      const asked = this.#asked.get(message.requestId);
      expect(asked, "each request is answered once").toBeDefined();
      this.#asked.delete(message.requestId);
      this.#checkAnswer(message, asked!);
    }
  }

  /** What an answer promises is durable when it is sent. */
  #checkAnswer(answer: Response, { request, leader }: Asked): void {
    const { synced } = this.disk;
    expect(answer.to).toBe(request.from);
    if (answer.type === "append_entries_answer") this.#checkAppended(answer, request, leader!);
    if (answer.type === "request_vote_answer" && answer.granted && request.type === "request_vote") {
      this.count(request.preVote ? "pre-vote granted" : "vote granted");
      if (request.preVote) return;
      expect(synced.term).toBeGreaterThanOrEqual(request.term);
      if (synced.term === request.term) expect(synced.vote).toBe(request.from);
    }
    if (answer.type === "install_snapshot_answer") {
      this.count(`snapshot ${answer.outcome}`);
      expect(answer.outcome).not.toBe("safety");
      if (answer.outcome !== "installed" && answer.outcome !== "already_committed") return;
      expect(answer.matchIndex).toBeLessThanOrEqual(this.disk.last.index);
      this.#checkMatch(answer.matchIndex, leader!);
      if (answer.outcome === "installed") {
        expect(this.disk.snapshot?.index).toBeGreaterThanOrEqual(answer.matchIndex);
        expect(this.disk.applied).toBeGreaterThanOrEqual(answer.matchIndex);
      }
    }
  }

  #checkAppended(answer: AppendEntriesAnswer, request: Request, leader: ModelLeader): void {
    if (request.type !== "append_entries") throw new Error(`an ${answer.type} to a ${request.type}`);
    this.count(answer.outcome === "accepted" ? "appended" : `refused: ${answer.rejection.reason}`);
    if (answer.outcome === "accepted") {
      expect(this.disk.synced.term).toBeGreaterThanOrEqual(leader.term);
      this.#checkMatch(answer.matchIndex, leader);
      return;
    }
    const { rejection } = answer;
    expect(rejection.reason, rejection.detail).not.toBe("safety");
    if (rejection.reason === "stale_term") expect(answer.term).toBeGreaterThan(request.term);
    if (rejection.reason === "log_mismatch") {
      expect(rejection.conflictIndex).toBeGreaterThan(0);
      expect(rejection.conflictIndex).toBeLessThanOrEqual(request.prev.index);
    }
  }

  /** The log on disk agrees with the leader's up to `index`, unless a later leader has changed it since. */
  #checkMatch(index: number, leader: ModelLeader): void {
    const { disk } = this;
    expect(index, "a leader is not told of entries that it does not have").toBeLessThanOrEqual(leader.log.length);
    if (disk.synced.term > leader.term) return;
    for (let at = Math.max(1, disk.boundary.index); at <= index; at++) {
      expect(disk.termAt(at)).toBe(leader.log[at - 1]!.term);
    }
  }

  #checkReads(): void {
    for (const { index } of this.raft.takeReads()) {
      this.count(index === undefined ? "read refused" : "read answered");
      if (index !== undefined) expect(index).toBe(this.cluster.committed.length);
    }
  }

  /** What this node commits as a leader is committed: it is alone. Only what is durable may be. */
  #learnOwnCommits(): void {
    const { cluster, disk, raft } = this;
    while (cluster.committed.length < raft.log.commit) {
      const entry = disk.entryAt(cluster.committed.length + 1);
      expect(entry, "what a leader alone commits is durable").toBeDefined();
      cluster.committed.push(entry!);
      this.count("committed by this node");
    }
  }

  #capture(trimmed: number): void {
    const index = this.disk.applied;
    const term = this.raft.log.termAt(index);
    if (index <= (this.raft.snapshot?.index ?? 0) || term === undefined) return;
    const meta = { index, term, membership: this.raft.membershipAt(index) };
    this.#taking = { meta, stage: "captured", trimTo: Math.max(0, index - trimmed) };
  }
}
