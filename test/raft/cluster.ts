import type { LogRead, SnapshotSend, TransferOutcome } from "../../src/raft/leader/replication.js";
import {
  type AppendEntries,
  type InstallSnapshot,
  type InstallSnapshotAnswer,
  isAnswer,
  type PeerAnswer,
  type PeerRequest,
  type Request,
  type RequestVote,
  type Response,
} from "../../src/raft/messages.js";
import { Raft } from "../../src/raft/raft.js";
import type { Ready } from "../../src/raft/ready.js";
import type { Entry, IndexedMembership, Membership } from "../../src/raft/types.js";
import { advance, codec, logStart, type NodeSetup, takeAllMessages, voters } from "../support/nodes/core.js";
import { Disk } from "./model/disk.js";

/** On its way from one node to another. `snapshot`: the stream of a snapshot; lost when the receiver gets nothing, or its end does not come back. */
export type Flight = { readonly from: string; readonly to: string } & (
  | { readonly kind: "request"; readonly message: Request }
  | { readonly kind: "answer"; readonly message: PeerAnswer }
  | { readonly kind: "snapshot"; readonly message: InstallSnapshot; readonly send: SnapshotSend }
  | { readonly kind: "snapshot_end"; readonly message: InstallSnapshotAnswer; readonly send: SnapshotSend }
);

type Which = (flight: Flight) => boolean;

/** How a node starts: {@link NodeSetup} without what the cluster sees to. */
export type MemberSetup = Omit<NodeSetup, "id" | "memberships">;

interface Node {
  readonly disk: Disk;
  readonly setup: MemberSetup;
  raft: Raft;
  /** Taken, and not carried out yet, because its disk is held up. */
  ready: Ready | undefined;
  isDiskHeld: boolean;
  isDown: boolean;
  /** All that was ever applied here. */
  applied: Entry[];
}

/** Several cores, their disks, and a network that delivers what and when the test says. All elections are manual unless the setup says otherwise. */
export class Cluster {
  readonly #nodes = new Map<string, Node>();
  readonly #created: IndexedMembership;
  /** What a request was, for its answer. */
  readonly #asked = new Map<number, PeerRequest | SnapshotSend>();
  #flights: Flight[] = [];
  #groups: readonly (readonly string[])[] | undefined;
  /** Far from the numbers of requests that a test hands to a core itself: nobody waits for their answers. */
  #lastRequest = 1_000_000;

  /** Nodes of these ids, all voters unless `members` says otherwise. `each` overrides `all` for one node. */
  constructor(
    ids: readonly string[],
    private readonly all: MemberSetup = {},
    each: Readonly<Record<string, MemberSetup>> = {},
    members: Membership = voters(...ids),
  ) {
    this.#created = { index: 0, members };
    for (const id of ids) this.start(id, { ...all, ...each[id] });
  }

  /** Starts a node that is not there yet; it knows the members that the cluster was created with. */
  start(id: string, setup: MemberSetup = this.all): Raft {
    const disk = new Disk(this.#created);
    const { boundary, tail, commit, applied } = logStart(setup);
    Object.assign(disk, { boundary, applied, entries: [...tail] });
    if (boundary.index > 0) disk.snapshot = { ...boundary, membership: this.#created };
    disk.hardState = { term: setup.term ?? disk.last.term, vote: setup.vote, commit };
    const raft = this.#boot(id, disk, setup);
    this.#nodes.set(id, { disk, setup, raft, ready: undefined, isDiskHeld: false, isDown: false, applied: [] });
    return raft;
  }

  raft(id: string): Raft {
    return this.#node(id).raft;
  }

  disk(id: string): Disk {
    return this.#node(id).disk;
  }

  /** All that a node has ever applied: the state outlasts a crash. */
  applied(id: string): readonly Entry[] {
    return this.#node(id).applied;
  }

  get ids(): string[] {
    return [...this.#nodes.keys()];
  }

  get leaders(): string[] {
    return this.ids.filter((id) => !this.#node(id).isDown && this.raft(id).role === "leader");
  }

  /** Does something to a core, and carries out what comes of it. */
  act<Result>(id: string, what: (raft: Raft) => Result): Result {
    const result = what(this.raft(id));
    this.work(id);
    return result;
  }

  /** Makes a node the leader, with its first entry everywhere. */
  elect(id: string): Raft {
    const campaign = this.act(id, (raft) => raft.campaign());
    if ("refused" in campaign) throw new Error(`${id} does not campaign: ${campaign.refused}`);
    this.deliver();
    const raft = this.raft(id);
    if (raft.role !== "leader") throw new Error(`${id} was not elected: it is a ${raft.role}`);
    return raft;
  }

  propose(id: string, text: string): void {
    const proposal = this.act(id, (raft) => raft.propose(new TextEncoder().encode(text)));
    if ("refused" in proposal) throw new Error(`${id} refused a proposal: ${proposal.refused}`);
  }

  /** So many ticks at these nodes, without delivering anything. */
  tick(count = 1, ids: readonly string[] = this.ids): void {
    for (let tick = 0; tick < count; tick++) {
      for (const id of ids) if (!this.#node(id).isDown) this.act(id, (raft) => raft.tick());
    }
  }

  /** So many ticks everywhere, with all that is sent delivered after each. */
  pass(ticks: number): void {
    for (let tick = 0; tick < ticks; tick++) {
      this.tick();
      this.deliver();
    }
  }

  /** What is under way, oldest first. */
  flights(which: Which = () => true): Flight[] {
    return this.#flights.filter(which);
  }

  /** Delivers what is under way and what comes of it, until there is nothing more of it. */
  deliver(which: Which = () => true): void {
    for (let rounds = 0; rounds < 10_000; rounds++) {
      const flight = this.#flights.find(which);
      if (flight === undefined) return;
      this.deliverOne(flight);
    }
    throw new Error("the cluster does not come to rest");
  }

  deliverOne(flight: Flight): void {
    this.#flights = this.#flights.filter((each) => each !== flight);
    this.arrive(flight);
  }

  /** Hands a flight to its receiver, also when it was handed to it before or was lost. */
  arrive(flight: Flight): void {
    const { from, to } = flight;
    if (!this.isConnected(from, to)) {
      this.#lost(flight);
      return;
    }
    this.act(to, (raft) => {
      if (flight.kind === "answer") raft.receive(flight.message);
      else if (flight.kind === "snapshot_end") raft.snapshotSent(flight.send, outcomeOf(flight.message));
      else raft.step(flight.message);
    });
  }

  /** Loses what is under way. Returns it. */
  drop(which: Which = () => true): Flight[] {
    const lost = this.#flights.filter(which);
    this.#flights = this.#flights.filter((flight) => !which(flight));
    for (const flight of lost) this.#lost(flight);
    return lost;
  }

  /** From now on only the nodes of one group reach each other. */
  partition(...groups: readonly (readonly string[])[]): void {
    this.#groups = groups;
  }

  heal(): void {
    this.#groups = undefined;
  }

  isConnected(a: string, b: string): boolean {
    if (this.#node(a).isDown || this.#node(b).isDown) return false;
    return this.#groups === undefined || this.#groups.some((group) => group.includes(a) && group.includes(b));
  }

  crash(id: string): void {
    const node = this.#node(id);
    Object.assign(node, { isDown: true, ready: undefined, isDiskHeld: false });
    this.drop(({ from, to }) => from === id || to === id);
  }

  /** From what its disk holds. */
  restart(id: string): Raft {
    const node = this.#node(id);
    if (!node.isDown) this.crash(id);
    node.isDown = false;
    node.raft = this.#boot(id, node.disk, node.setup);
    this.work(id);
    return node.raft;
  }

  /** Takes a snapshot of all that is applied at a node, and trims its log up to there. */
  snapshot(id: string): void {
    const { raft, disk } = this.#node(id);
    const index = raft.log.applied;
    const meta = { index, term: raft.log.termAt(index)!, membership: raft.membershipAt(index) };
    disk.publish(meta);
    this.act(id, (raft) => raft.snapshotTaken(meta, index));
    disk.trim(index);
  }

  /** From now on the node's Readys are taken, and not carried out until {@link releaseDisk}. */
  holdDisk(id: string): void {
    this.#node(id).isDiskHeld = true;
  }

  releaseDisk(id: string): void {
    this.#node(id).isDiskHeld = false;
    this.work(id);
  }

  /** Carries out all that a core wants. */
  work(id: string): void {
    const node = this.#node(id);
    for (;;) {
      this.#serve(id, node);
      if (node.ready === undefined && node.raft.hasReady) node.ready = node.raft.ready();
      if (node.ready === undefined || node.isDiskHeld) return;
      this.#carryOut(id, node, node.ready);
    }
  }

  #serve(id: string, { raft, disk }: Node): void {
    for (const message of takeAllMessages(raft)) this.#post(id, message);
    for (const send of raft.takeSnapshotSends()) {
      const request = { type: "install_snapshot", from: id, term: send.term, snapshot: disk.snapshot! } as const;
      const message = { ...request, membershipIndex: raft.membership.index };
      const requestId = this.#number(send);
      this.#flights.push({ kind: "snapshot", from: id, to: send.to, send, message: { ...message, requestId } });
    }
    for (const read of raft.takeLogReads()) {
      raft.entriesRead(read, readLog(disk, read));
      for (const message of takeAllMessages(raft)) this.#post(id, message);
    }
  }

  #carryOut(id: string, node: Node, ready: Ready): void {
    const { disk, raft } = node;
    if (ready.snapshot !== undefined) {
      disk.publish(ready.snapshot);
      disk.startAt(ready.snapshot, ready.hardState ?? disk.hardState);
      disk.applied = ready.snapshot.index;
    }
    const first = ready.entries[0]?.index;
    if (first !== undefined) disk.truncateFor(first);
    disk.write(ready);
    node.applied.push(...ready.committed);
    disk.applied = ready.committed.at(-1)?.index ?? disk.applied;
    node.ready = undefined;
    advance(raft, ready);
    if (ready.snapshot !== undefined) raft.snapshotInstalled(ready.snapshot, ready.snapshot.index);
    for (const message of ready.messages) this.#post(id, message);
  }

  #post(from: string, message: Response | PeerRequest): void {
    const { to } = message;
    if (!isAnswer(message)) {
      const request = { ...message, requestId: this.#number(message) } as Request;
      this.#flights.push({ kind: "request", from, to, message: request });
      return;
    }
    const request = this.#asked.get(message.requestId);
    if (request === undefined) return;
    if (message.type === "install_snapshot_answer") {
      this.#flights.push({ kind: "snapshot_end", from, to, message, send: request as SnapshotSend });
    } else {
      this.#flights.push({ kind: "answer", from, to, message: answerTo(from, message, request as PeerRequest) });
    }
  }

  #number(request: PeerRequest | SnapshotSend): number {
    this.#lastRequest += 1;
    this.#asked.set(this.#lastRequest, request);
    return this.#lastRequest;
  }

  /** The sender of a snapshot finds out that its stream is broken; all else is lost without a word. */
  #lost(flight: Flight): void {
    const sender = flight.kind === "snapshot" ? flight.from : flight.kind === "snapshot_end" ? flight.to : undefined;
    if (sender === undefined || this.#node(sender).isDown) return;
    const { send } = flight as Flight & { send: SnapshotSend };
    this.act(sender, (raft) => raft.snapshotSent(send, { kind: "failed" }));
  }

  #boot(id: string, disk: Disk, setup: MemberSetup): Raft {
    const { elections = "manual", electionTicks = 10, random = () => 0, heartbeatTicks, reads, limits } = setup;
    const options = { id, elections, electionTicks, random, heartbeatTicks, reads, limits, codec };
    return new Raft({ ...options, ...disk.recover(false) });
  }

  #node(id: string): Node {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new Error(`there is no node ${id}`);
    return node;
  }
}

export const isTo =
  (...ids: string[]): Which =>
  ({ to }) =>
    ids.includes(to);

export const isFrom =
  (...ids: string[]): Which =>
  ({ from }) =>
    ids.includes(from);

export function isAppend(flight: Flight): flight is Flight & { kind: "request"; message: AppendEntries } {
  return flight.kind === "request" && flight.message.type === "append_entries";
}

export function isVoteRequest(flight: Flight): flight is Flight & { kind: "request"; message: RequestVote } {
  return flight.kind === "request" && flight.message.type === "request_vote";
}

function readLog(disk: Disk, { first, last }: LogRead): Entry[] {
  return disk.entries.filter(({ index }) => index >= first && index <= last);
}

function outcomeOf(answer: InstallSnapshotAnswer): TransferOutcome {
  if (answer.outcome === "installed") return { kind: "installed", matchIndex: answer.matchIndex };
  if (answer.outcome === "already_committed") return { kind: "ahead", commitIndex: answer.matchIndex };
  return { kind: "failed" };
}

/** The answer as its receiver gets it: with what it remembers of the request. */
function answerTo(from: string, answer: Response, request: PeerRequest): PeerAnswer {
  const { to: _, requestId: __, ...said } = answer;
  if (request.type === "append_entries") {
    const { term, round, prev } = request;
    return { ...said, from, request: { term, round, prevIndex: prev.index } } as PeerAnswer;
  }
  if (request.type === "request_vote") {
    const { term, preVote } = request;
    return { ...said, from, request: { term, preVote } } as PeerAnswer;
  }
  return { ...said, from } as PeerAnswer;
}
