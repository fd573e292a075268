import type { LogStart } from "../../../src/raft/log.js";
import type { MembershipCodec } from "../../../src/raft/membership/membership.js";
import {
  type AppendEntries,
  type AppendEntriesAnswer,
  type AppendRejection,
  type InstallSnapshot,
  type InstallSnapshotAnswer,
  isAnswer,
  type PeerAppend,
  type PeerAppendAnswer,
  type PeerRequest,
  type PeerVoteAnswer,
  type Request,
  type RequestVote,
  type RequestVoteAnswer,
  type Response,
  type TimeoutNow,
} from "../../../src/raft/messages.js";
import { type ProgressInfo, Raft, type RaftOptions } from "../../../src/raft/raft.js";
import type { Ready } from "../../../src/raft/ready.js";
import {
  type Entry,
  type IndexedMembership,
  LOG_START,
  type LogPosition,
  type Membership,
} from "../../../src/raft/types.js";

/** Memberships as JSON: the core does not care. */
export const codec: MembershipCodec = {
  encode: (members) => new TextEncoder().encode(JSON.stringify(members)),
  decode: (data) => JSON.parse(new TextDecoder().decode(data)) as Membership,
};

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function voters(...ids: string[]): Membership {
  return ids.map((id) => ({ id, address: "", role: "voter" }));
}

export function command(index: number, term: number, text = `${term}.${index}`): Entry {
  return { index, term, type: "command", data: bytes(text) };
}

export function configuration(index: number, term: number, members: Membership): Entry {
  return { index, term, type: "configuration", data: codec.encode(members) };
}

/** Entries from `first`, one for each of the terms. */
export function commands(first: number, terms: readonly number[]): Entry[] {
  return terms.map((term, at) => command(first + at, term));
}

/** A log as it is at a start, from the terms of its entries above the boundary. All entries are given to the core. */
export function logStart(setup: {
  boundary?: LogPosition;
  terms?: readonly number[];
  commit?: number;
  applied?: number;
}): LogStart {
  const boundary = setup.boundary ?? LOG_START;
  const tail = commands(boundary.index + 1, setup.terms ?? []);
  return {
    boundary,
    ranges: tail.map(({ index, term }) => ({ firstIndex: index, term })),
    lastIndex: boundary.index + tail.length,
    tail,
    commit: setup.commit ?? boundary.index,
    applied: setup.applied ?? boundary.index,
  };
}

export interface NodeSetup {
  /** n1 when left out. */
  id?: string;
  boundary?: LogPosition;
  /** Of the entries above the boundary. */
  terms?: readonly number[];
  commit?: number;
  applied?: number;
  /** Present term; that of the last entry when left out. */
  term?: number;
  vote?: string;
  memberships?: readonly IndexedMembership[];
  elections?: RaftOptions["elections"];
  /** Everyone when left out: most tests are about a sender's role, whoever it is. */
  listensTo?: RaftOptions["listensTo"];
  electionTicks?: number;
  heartbeatTicks?: number;
  reads?: RaftOptions["reads"];
  random?: () => number;
  limits?: RaftOptions["limits"];
  sizes?: RaftOptions["sizes"];
}

/** The node n1, alone unless other members are given, with all of its log durable. */
export function startNode(setup: NodeSetup = {}): Raft {
  const { id = "n1", memberships = [{ index: 0, members: voters("n1") }] } = setup;
  const log = logStart(setup);
  const lastTerm = log.ranges.at(-1)?.term ?? log.boundary.term;
  return new Raft({
    id,
    elections: setup.elections ?? "manual",
    listensTo: "listensTo" in setup ? setup.listensTo : "everyone",
    electionTicks: setup.electionTicks ?? 10,
    heartbeatTicks: setup.heartbeatTicks,
    reads: setup.reads,
    random: setup.random ?? (() => 0),
    codec,
    hardState: { term: setup.term ?? lastTerm, vote: setup.vote, commit: log.commit },
    log,
    snapshot: log.boundary.index === 0 ? undefined : log.boundary,
    memberships,
    limits: setup.limits,
    sizes: setup.sizes,
  });
}

/** n1, leading alone, with its no-op committed and applied. */
export function startLeader(setup: NodeSetup = {}): Raft {
  const raft = startNode(setup);
  raft.campaign();
  settle(raft);
  return raft;
}

/** Everything that came of carrying out Readys until there was nothing more to do. */
export interface Settled {
  readonly readys: readonly Ready[];
  /** What was sent, before the Readys or with them. */
  readonly messages: readonly Response[];
  readonly requests: readonly PeerRequest[];
  /** Written, in this order. */
  readonly entries: readonly Entry[];
  readonly committed: readonly Entry[];
}

/** Takes the messages of a node to which nothing more is proposed: a leader tells of its commits at once. */
export function takeAllMessages(raft: Raft): readonly (Response | PeerRequest)[] {
  const messages = raft.takeMessages();
  if (!raft.hasUntoldCommit) return messages;
  raft.announceCommit();
  return [...messages, ...raft.takeMessages()];
}

/** Reports that a Ready is carried out: its entries are applied, its writes and its snapshot durable. */
export function advance(raft: Raft, ready: Ready): void {
  raft.applied(ready.committed);
  raft.written(ready);
}

export function settle(raft: Raft): Settled {
  const readys: Ready[] = [];
  const sent: (Response | PeerRequest)[] = [...takeAllMessages(raft)];
  while (raft.hasReady) {
    const ready = raft.ready();
    readys.push(ready);
    advance(raft, ready);
    if (ready.snapshot !== undefined) raft.snapshotInstalled(ready.snapshot, ready.snapshot.index);
    sent.push(...ready.messages, ...takeAllMessages(raft));
  }
  return {
    readys,
    messages: sent.filter(isAnswer),
    requests: sent.filter((message) => !isAnswer(message)),
    entries: readys.flatMap((ready) => ready.entries),
    committed: readys.flatMap((ready) => ready.committed),
  };
}

let lastRequest = 0;

/** AppendEntries of n2, which leads in `term` (by default that of the last entry); `prev` is [index, term]. */
export function append(message: {
  from?: string;
  term?: number;
  prev?: readonly [number, number];
  entries?: readonly Entry[];
  commit?: number;
  isConditional?: boolean;
  acknowledged?: number;
  membershipIndex?: number;
}): AppendEntries {
  const [index, term] = message.prev ?? [0, 0];
  const entries = message.entries ?? [];
  return {
    type: "append_entries",
    from: message.from ?? "n2",
    requestId: ++lastRequest,
    term: message.term ?? entries.at(-1)?.term ?? term,
    prev: { index, term },
    entries,
    leaderCommit: message.commit ?? 0,
    membershipIndex: message.membershipIndex ?? 0,
    ...(message.acknowledged !== undefined && { acknowledged: message.acknowledged }),
    ...(message.isConditional && { isConditional: true }),
  };
}

/** InstallSnapshot of n2, which leads in `leaderTerm` (by default that of the snapshot). */
export function install(
  at: readonly [number, number],
  options: { from?: string; leaderTerm?: number; membership?: IndexedMembership; membershipIndex?: number } = {},
): InstallSnapshot {
  const [index, term] = at;
  return {
    type: "install_snapshot",
    from: options.from ?? "n2",
    requestId: ++lastRequest,
    term: options.leaderTerm ?? term,
    membershipIndex: options.membershipIndex ?? 0,
    snapshot: { index, term, membership: options.membership ?? { index: 0, members: voters("n1") } },
  };
}

/** RequestVote of n2, whose log ends at `last`. */
export function requestVote(
  term: number,
  last: readonly [number, number],
  options: { from?: string; preVote?: boolean; leadershipTransfer?: boolean; membershipIndex?: number } = {},
): RequestVote {
  return {
    type: "request_vote",
    from: options.from ?? "n2",
    requestId: ++lastRequest,
    term,
    last: { index: last[0], term: last[1] },
    preVote: options.preVote ?? false,
    leadershipTransfer: options.leadershipTransfer ?? false,
    membershipIndex: options.membershipIndex ?? 0,
  };
}

/** TimeoutNow of n2, which leads in `term`. */
export function timeoutNow(term: number, from = "n2"): TimeoutNow {
  return { type: "timeout_now", from, requestId: ++lastRequest, term };
}

/** The answer to a request, all that it promises being durable. */
export function ask(raft: Raft, request: AppendEntries): AppendEntriesAnswer;
export function ask(raft: Raft, request: InstallSnapshot): InstallSnapshotAnswer;
export function ask(raft: Raft, request: RequestVote): RequestVoteAnswer;
export function ask(raft: Raft, request: Request): Response {
  raft.step(request);
  const answer = settle(raft).messages.find((message) => message.requestId === request.requestId);
  if (answer === undefined) throw new Error(`request ${request.requestId} (${request.type}) was not answered`);
  return answer;
}

/** n1, elected by the others of these ids, with the first messages that it sends as a leader. */
export function elected(ids: readonly string[], setup: NodeSetup = {}): { raft: Raft; requests: PeerAppend[] } {
  const raft = startNode({ memberships: [{ index: 0, members: voters("n1", ...ids) }], ...setup });
  // With leases nobody campaigns right after its start.
  for (let tick = 0; setup.reads === "lease" && tick < (setup.electionTicks ?? 10); tick++) raft.tick();
  raft.campaign();
  for (const request of settle(raft).requests) raft.receive(vote(request, true));
  return { raft, requests: appendsOf(settle(raft)) };
}

/** The same, when all members have the whole log and know that it is committed. */
export function startLeaderOf(ids: readonly string[], setup: NodeSetup = {}): Raft {
  const { raft, requests } = elected(ids, setup);
  for (let sent = requests; sent.length > 0; sent = appendsOf(settle(raft))) {
    for (const request of sent) raft.receive(accept(request));
  }
  return raft;
}

/** What n2 is sent by its leader. */
export function toN2(raft: Raft): PeerAppend[] {
  return appendsOf(settle(raft)).filter(({ to }) => to === "n2");
}

/** Proposes so many commands. */
export function propose(raft: Raft, count: number): void {
  for (let at = 0; at < count; at++) raft.propose(bytes(`${at}`));
}

export function appendsOf({ requests }: Pick<Settled, "requests">): PeerAppend[] {
  return requests.filter((request) => request.type === "append_entries");
}

/** A voter's answer to a request for its vote, in the request's term unless `term` says otherwise. */
export function vote(request: PeerRequest, granted: boolean, term = request.term): PeerVoteAnswer {
  if (request.type !== "request_vote") throw new Error(`a ${request.type} is not answered with a vote`);
  const asked = { term: request.term, preVote: request.preVote };
  return { type: "request_vote_answer", from: request.to, term, granted, request: asked };
}

/** A follower's answer to AppendEntries: its log agrees up to `matchIndex`, by default with all of it. */
export function accept(request: PeerRequest, matchIndex?: number): PeerAppendAnswer {
  const { last, ...answer } = answerBase(request);
  return { ...answer, outcome: "accepted", lastIndex: matchIndex ?? last, matchIndex: matchIndex ?? last };
}

/** A follower's rejection of AppendEntries; with a conflict when its log has not the entry at `prev`. */
export function refuse(
  request: PeerRequest,
  { term = request.term, ...setup }: RefusalSetup & { readonly term?: number },
): PeerAppendAnswer {
  const { last: _, ...answer } = answerBase(request);
  return {
    ...answer,
    term,
    lastIndex: request.type === "append_entries" ? (request.acknowledged ?? 0) : 0,
    outcome: "rejected",
    rejection:
      "reason" in setup
        ? { reason: setup.reason, detail: "" }
        : { reason: "log_mismatch", detail: "", conflictTerm: undefined, ...setup },
  };
}

/** The reason, or a conflict. Without `conflictTerm` the follower's log is shorter. */
export type RefusalSetup =
  | { readonly reason: Exclude<AppendRejection["reason"], "log_mismatch"> }
  | { readonly conflictTerm?: number; readonly conflictIndex: number };

function answerBase(request: PeerRequest) {
  if (request.type !== "append_entries") throw new Error(`a ${request.type} is not answered as AppendEntries`);
  const { to: from, term, round, prev, entries } = request;
  const asked = { term, round, prevIndex: prev.index };
  const last = prev.index + entries.length;
  return { type: "append_entries_answer", from, term, request: asked, last } as const;
}

/** One of the members as its leader sees it. */
export function progressOf(raft: Raft, id: string): ProgressInfo | undefined {
  return raft.progress.find((member) => member.id === id);
}

/** Terms of the log above its boundary. */
export function termsOf(raft: Raft): (number | undefined)[] {
  const { boundary, last } = raft.log;
  return Array.from({ length: last.index - boundary.index }, (_, at) => raft.log.termAt(boundary.index + 1 + at));
}

/** What must not change when a message is refused. */
export function logFacts(raft: Raft) {
  const { boundary, last, commit, applied, ranges } = raft.log;
  return { boundary, last, commit, applied, ranges: [...ranges], membership: raft.membership };
}
