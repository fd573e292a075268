import { assert } from "../../../src/base/assert.js";
import type { LogRead, SnapshotSend } from "../../../src/raft/leader/replication.js";
import type { PeerRequest, Response } from "../../../src/raft/messages.js";
import { Raft, type RaftLimits } from "../../../src/raft/raft.js";
import type { Ready } from "../../../src/raft/ready.js";
import type { TimingOptions } from "../../../src/raft/timing.js";
import { type Entry, entryBytes, type LogPosition, type SnapshotMeta } from "../../../src/raft/types.js";
import { advance, codec, takeAllMessages } from "../../support/nodes/core.js";
import type { Disk } from "../model/disk.js";
import type { SnapshotTransfer } from "./network.js";
import { entriesText, hardStateText, membersText, positionText, snapshotText } from "./words.js";

export type NodeSettings = Omit<TimingOptions, "random"> & {
  /** Its election timeout is always this, so that a script can tell who campaigns first. */
  readonly timeoutTicks: number;
  readonly limits: Partial<RaftLimits>;
};

/** What surrounds a node. */
export interface Surroundings {
  say(line: string): void;
  send(from: string, message: Response | PeerRequest): void;
  sendSnapshot(from: string, transfer: SnapshotTransfer): void;
  applied(id: string, entries: readonly Entry[]): void;
}

/** A core with its disk, and what src/node does around it, in steps that a script may stop between. */
export class ScenarioNode {
  raft: Raft;
  isRunning = true;
  #taken: Ready | undefined;
  #logReads: LogRead[] = [];
  #snapshotSends: SnapshotSend[] = [];
  #told: readonly string[] = [];

  constructor(
    readonly id: string,
    readonly disk: Disk,
    private readonly settings: NodeSettings,
    private readonly surroundings: Surroundings,
  ) {
    this.raft = this.#start(false);
  }

  /** Lets the core take something in; says what has changed, and sends what may be sent at once. */
  change<Result>(act: (raft: Raft) => Result): Result {
    const result = act(this.raft);
    this.#tell();
    this.#turn();
    return result;
  }

  /** Whether {@link work} has anything to do. */
  get isBusy(): boolean {
    const hasReady = this.#taken === undefined && this.raft.hasReady;
    return this.isRunning && (hasReady || this.#logReads.length > 0 || this.#snapshotSends.length > 0);
  }

  /** Does all that there is to do, except to finish a Ready that a script has begun. */
  work(): void {
    while (this.isBusy) {
      this.readDisk();
      this.sendSnapshots(undefined);
      if (this.#taken === undefined && this.raft.hasReady) this.ready();
    }
  }

  /** Takes a Ready and carries it out. */
  ready(): void {
    this.begin();
    this.finish();
  }

  /** Takes a Ready. The disk is slow: nothing of it is done before {@link finish}. */
  begin(): void {
    this.#taken = this.raft.ready();
    this.#tell();
  }

  finish(): void {
    const ready = this.#taken;
    if (ready === undefined) throw new Error(`${this.id} has not begun a Ready`);
    this.#taken = undefined;
    if (ready.snapshot !== undefined) this.#install(ready.snapshot, ready);
    this.#write(ready);
    this.#apply(ready.committed);
    this.change((raft) => advance(raft, ready));
    const { snapshot } = ready;
    if (snapshot !== undefined) this.change((raft) => raft.snapshotInstalled(snapshot, snapshot.index));
    for (const message of ready.messages) this.surroundings.send(this.id, message);
  }

  /** Reads from the disk what followers need, as the write-ahead log does: nothing of a range that is not there as a whole. */
  readDisk(): void {
    for (const read of this.#logReads.splice(0)) {
      const { to, first, last, maxBytes } = read;
      const { boundary, last: end } = this.disk;
      const isThere = first > boundary.index && last <= end.index;
      const entries = isThere ? within(this.disk.entries.slice(first - boundary.index - 1), last, maxBytes) : [];
      this.#say(`reads ${first}..${last} from disk for ${to}: ${entriesText(entries) || "not there"}`);
      this.change((raft) => raft.entriesRead(read, entries));
    }
  }

  /** Sends the newest snapshot, or another one, to the followers that need one. */
  sendSnapshots(snapshot: SnapshotMeta | undefined): void {
    for (const send of this.#snapshotSends.splice(0)) {
      const newest = snapshot ?? this.disk.snapshot;
      assert(newest !== undefined, "there is a snapshot to send", { to: send.to });
      this.surroundings.sendSnapshot(this.id, { send, snapshot: newest });
    }
  }

  /** Followers that a snapshot is to be sent to. */
  get waitingForSnapshots(): readonly string[] {
    return this.#snapshotSends.map(({ to }) => to);
  }

  /** A snapshot that was begun when `at` was the last applied entry is done: now, or long after. */
  takeSnapshot(at: LogPosition, trimTo: number): void {
    if (at.index > this.disk.applied) throw new Error(`${at.index} is not applied`);
    const isNewest = this.change((raft) => raft.snapshotTaken(at, trimTo));
    if (!isNewest) {
      this.#say(`has taken snapshot ${positionText(at)}, which is outdated`);
      return;
    }
    const snapshot = { ...at, membership: this.raft.membershipAt(at.index) };
    this.disk.publish(snapshot);
    this.disk.trim(trimTo);
    this.#say(`has taken snapshot ${snapshotText(snapshot)}, and trimmed its log up to ${trimTo}`);
  }

  stop(): void {
    this.isRunning = false;
    this.#taken = undefined;
    this.#logReads = [];
    this.#snapshotSends = [];
  }

  restart(powerFailed: boolean): void {
    this.stop();
    this.raft = this.#start(powerFailed);
    this.isRunning = true;
  }

  #start(powerFailed: boolean): Raft {
    const { timeoutTicks, electionTicks } = this.settings;
    const random = () => (timeoutTicks - electionTicks + 0.5) / electionTicks;
    const raft = new Raft({ id: this.id, codec, ...this.settings, random, ...this.disk.recover(powerFailed) });
    this.#told = factsOf(raft);
    return raft;
  }

  /** What src/node does in each turn of the event loop. */
  #turn(): void {
    const { raft } = this;
    for (const message of takeAllMessages(raft)) this.surroundings.send(this.id, message);
    for (const { requestId, index } of raft.takeReads()) {
      this.#say(index === undefined ? `cannot answer read ${requestId}` : `answers read ${requestId} at ${index}`);
    }
    this.#logReads.push(...raft.takeLogReads());
    for (const send of raft.takeSnapshotSends()) {
      this.#say(`wants to send ${send.to} a snapshot`);
      this.#snapshotSends.push(send);
    }
  }

  #install(snapshot: SnapshotMeta, ready: Ready): void {
    const { disk } = this;
    this.#say(`installs snapshot ${positionText(snapshot)}`);
    disk.publish(snapshot);
    disk.startAt(snapshot, { ...(ready.hardState ?? disk.hardState), commit: snapshot.index });
    disk.applied = snapshot.index;
  }

  #write(ready: Ready): void {
    const { entries, hardState, mustSync } = ready;
    const first = entries[0]?.index;
    if (first !== undefined && first <= this.disk.last.index) this.#say(`removes ${first}..${this.disk.last.index}`);
    if (first !== undefined) this.disk.truncateFor(first);
    this.disk.write(ready);
    const isWorthTelling = entries.length > 0 || (hardState !== undefined && mustSync);
    const parts = [entriesText(entries), hardState === undefined ? "" : hardStateText(hardState)];
    if (isWorthTelling) this.#say(`writes ${parts.filter((part) => part !== "").join("; ")}`);
  }

  #apply(entries: readonly Entry[]): void {
    if (entries.length === 0) return;
    for (const { index } of entries) {
      assert(index === this.disk.applied + 1, "entries are applied one after the other", { index });
      this.disk.applied = index;
    }
    this.#say(`applies ${entriesText(entries)}`);
    this.surroundings.applied(this.id, entries);
  }

  #tell(): void {
    const facts = factsOf(this.raft);
    for (const fact of facts) if (!this.#told.includes(fact)) this.#say(fact);
    const wasHandingOver = this.#told.some((fact) => fact.startsWith("hands over"));
    if (wasHandingOver && this.raft.role === "leader" && this.raft.transferTarget === undefined) {
      this.#say("gives up handing over");
    }
    this.#told = facts;
  }

  #say(what: string): void {
    this.surroundings.say(`${this.id} ${what}`);
  }
}

/** What is told when it changes. */
function factsOf(raft: Raft): string[] {
  const { role, term, leader, membership, log, transferTarget } = raft;
  const roles = {
    follower: `follows ${leader ?? "nobody"} in term ${term}`,
    "pre-candidate": `is a pre-candidate in term ${term}`,
    candidate: `is a candidate in term ${term}`,
    leader: `leads in term ${term}`,
  };
  return [
    roles[role],
    `has members ${membersText(membership.members)} since ${membership.index}`,
    `has committed ${log.commit}`,
    ...(raft.isInstalling ? ["has a snapshot to install"] : []),
    ...(transferTarget === undefined ? [] : [`hands over to ${transferTarget}`]),
  ];
}

/** The entries up to `last` that count no more than `maxBytes`, at least one. */
function within(entries: readonly Entry[], last: number, maxBytes: number): Entry[] {
  const taken: Entry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    bytes += entryBytes(entry);
    if (entry.index > last || (taken.length > 0 && bytes > maxBytes)) break;
    taken.push(entry);
  }
  return taken;
}
