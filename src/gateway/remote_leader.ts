import type { GetStatusResponse } from "../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../base/errors.js";
import { incarnationText, memberKey } from "../base/ids.js";
import { limits } from "../base/limits.js";
import { AppendStream } from "../peers/append/append_stream.js";
import type { Self } from "../peers/protocol.js";
import type { AppendRejection, PeerAppend, PeerAppendAnswer } from "../raft/messages.js";
import { type Entry, entriesWithin, type LogPosition } from "../raft/types.js";
import { Channel } from "../rpc/channel.js";
import { GatewayError, gatewayCodes } from "./errors.js";
import { NodeLog } from "./node_log.js";
import type { GatewayNode } from "./nodes.js";
import { within } from "./within.js";

const LEADER_ID = "gateway";

/** A node as a peer addresses it, and the gateway as that peer. */
export interface PeerNames {
  /** Member key of the node. */
  readonly to: string;
  readonly self: Self;
}

/** Entries that the node lacked and has accepted. */
export interface Replicated<Sent extends Entry> {
  readonly fresh: readonly Sent[];
  /** The node has applied its log up to here; 0 when it was not asked. */
  readonly appliedIndex: number;
}

/**
 * Acts as a node's leader over one AppendEntries stream. The node judges the entries: a refused
 * message changes nothing there.
 */
export class RemoteLeader {
  #stream: LeaderStream | undefined;
  #log: NodeLog | undefined;

  constructor(
    private readonly node: GatewayNode,
    private readonly timeoutMs: number,
  ) {}

  /**
   * Sends the entries that the node lacks, in as many messages as they need. The last message
   * commits up to `commitTo` of them. Resolves when the entries are durable, and when the committed
   * ones are applied, if the node can apply them now.
   * @param entries one or more
   * @throws GatewayError 22 when the node refuses them, or when no leader sends them
   */
  async replicate<Sent extends Entry>(
    entries: readonly Sent[],
    commitTo: (fresh: readonly Sent[]) => number,
  ): Promise<Replicated<Sent>> {
    checkOrder(entries);
    // This leader's knowledge of the log may be old: a refusal counts only after a look at the log.
    const known = this.#log;
    if (known !== undefined && known.termAt(entries[0]!.index - 1) !== undefined) {
      const sent = await this.#sendLacking(entries, known, commitTo);
      if (!(sent instanceof GatewayError)) return sent;
    }
    const sent = await this.#sendLacking(entries, await this.#look(), commitTo);
    if (sent instanceof GatewayError) throw sent;
    return sent;
  }

  /** Sends the entries that the log lacks; returns the error when the node refuses them. */
  async #sendLacking<Sent extends Entry>(
    entries: readonly Sent[],
    log: NodeLog,
    commitTo: (fresh: readonly Sent[]) => number,
  ): Promise<Replicated<Sent> | GatewayError> {
    const fresh = log.lacking(entries);
    const first = fresh[0];
    if (first === undefined) return { fresh, appliedIndex: 0 };
    const sent = unsendable(first, log) ?? (await this.#sendAll(fresh, log, commitTo(fresh)));
    return sent instanceof GatewayError ? sent : { fresh, appliedIndex: sent };
  }

  /**
   * Commits the log up to a position that the node has accepted in the current term. Returns the
   * index up to which the node has applied it.
   */
  async commit(term: number, position: LogPosition): Promise<number> {
    const answer = await this.#send({ term, prev: position, entries: [], leaderCommit: position.index });
    if (answer.outcome === "rejected") throw refusalOf(answer.rejection, answer.term, position);
    this.#log?.committedTo(position.index);
    return answer.appliedIndex ?? 0;
  }

  /** Returns the last position of the node's log. */
  async lastPosition(): Promise<LogPosition> {
    return (await this.#look()).last;
  }

  /** Closes the stream; the next message opens a new one. */
  close(): void {
    this.#stream?.close();
    this.#stream = undefined;
  }

  async #look(): Promise<NodeLog> {
    this.#log = new NodeLog(await this.node.admin.getLogInfo({}, { timeoutMs: this.timeoutMs }));
    return this.#log;
  }

  /**
   * Sends entries as the leaders of their terms: each message holds entries of one term. Terms only
   * rise, so if the node accepts the first message, it accepts all. Returns the applied index.
   */
  async #sendAll(entries: readonly Entry[], log: NodeLog, commitTo: number): Promise<number | GatewayError> {
    let sent = 0;
    let appliedIndex = 0;
    while (sent < entries.length) {
      const first = entries[sent]!;
      const batch = ofOneTerm(entriesWithin(entries, sent, limits.appendEntries, limits.appendBytes));
      sent += batch.length;
      const leaderCommit = sent === entries.length ? commitTo : 0;
      const prev = { index: first.index - 1, term: log.termAt(first.index - 1) ?? first.term };
      const answer = await this.#send({ term: first.term, prev, entries: batch, leaderCommit });
      if (answer.outcome === "rejected") return refusalOf(answer.rejection, answer.term, first);
      log.accepted(batch);
      log.committedTo(leaderCommit);
      appliedIndex = answer.appliedIndex ?? 0;
    }
    return appliedIndex;
  }

  async #send(message: LeaderMessage): Promise<PeerAppendAnswer> {
    this.#stream ??= await this.#open();
    return this.#stream.send(message);
  }

  async #open(): Promise<LeaderStream> {
    const names = namesOf(await this.node.admin.getStatus({}, { timeoutMs: this.timeoutMs }));
    return new LeaderStream(this.node, names, this.timeoutMs, (ended) => {
      if (this.#stream === ended) this.#stream = undefined;
    });
  }
}

/** Returns the names that a peer of the node with this status uses. */
export function namesOf({ clusterId, nodeId, incarnation }: GetStatusResponse): PeerNames {
  const to = memberKey({ id: nodeId, incarnation: incarnationText(incarnation) });
  return { to, self: { id: LEADER_ID, clusterId } };
}

type LeaderMessage = Pick<PeerAppend, "term" | "prev" | "entries" | "leaderCommit">;

/** An AppendEntries stream with one message at a time. */
class LeaderStream {
  readonly #channel: Channel;
  readonly #stream: AppendStream;
  #round = 0;
  #waiting: { resolve(answer: PeerAppendAnswer): void; reject(error: CairnError): void } | undefined;

  constructor(
    private readonly node: GatewayNode,
    private readonly names: PeerNames,
    private readonly timeoutMs: number,
    onEnd: (ended: LeaderStream) => void,
  ) {
    this.#channel = new Channel(node.address, node.channelSettings);
    this.#stream = new AppendStream(this.#channel, names.to, names.self, false, {
      answer: (answer) => this.#take()?.resolve(answer),
      ended: (error) => {
        this.#channel.close();
        onEnd(this);
        this.#take()?.reject(error);
      },
    });
  }

  async send(message: LeaderMessage): Promise<PeerAppendAnswer> {
    const { to, self } = this.names;
    const request = { type: "append_entries", to, from: self.id, round: ++this.#round, ...message } as const;
    const answer = new Promise<PeerAppendAnswer>((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#stream.send({ ...request, isConditional: true, awaitsApplied: message.leaderCommit > 0 });
    });
    try {
      return await within(this.timeoutMs, this.node.id, answer);
    } catch (error) {
      // A late answer must not be taken for that to a later message.
      this.#stream.cancel(CairnError.from(error));
      throw error;
    }
  }

  close(): void {
    this.#stream.cancel(new CairnError("CANCELLED", `the stream to node ${this.node.id} was closed`));
  }

  #take() {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    return waiting;
  }
}

/**
 * Checks that entries follow each other, as in a leader's log. A message with others is no message
 * of Raft, and the node would end the stream.
 */
function checkOrder(entries: readonly LogPosition[]): void {
  for (const [at, entry] of entries.entries()) {
    const before = entries[at - 1];
    if (before === undefined) continue;
    if (entry.index !== before.index + 1) throw misplaced(entry, before.index + 1);
    const problem = fallingTerm(entry, before.term);
    if (problem !== undefined) throw problem;
  }
}

/** Returns the error for entries that no message can hold; undefined when one can. */
function unsendable(first: LogPosition, log: NodeLog): GatewayError | undefined {
  if (first.index < 1 || first.index > limits.indexMax) return misplaced(first, log.last.index + 1);
  return fallingTerm(first, log.termAt(first.index - 1) ?? 0);
}

function fallingTerm({ index, term }: LogPosition, before: number): GatewayError | undefined {
  if (term >= before) return undefined;
  const text = `index ${index} has term ${term}, below the term ${before} before it: expected index ${index}`;
  return new GatewayError(gatewayCodes.preconditionFailed, text);
}

function misplaced({ index }: LogPosition, expected: number): GatewayError {
  return new GatewayError(gatewayCodes.preconditionFailed, `index ${index}: expected index ${expected}`);
}

/** Translates a node's refusal of entries that begin at `first`. */
function refusalOf(rejection: AppendRejection, term: number, first: LogPosition): GatewayError {
  return rejection.reason === "log_mismatch" && rejection.conflictTerm === undefined
    ? misplaced(first, rejection.conflictIndex)
    : new GatewayError(gatewayCodes.preconditionFailed, refusalText(rejection, term, first));
}

function refusalText(rejection: AppendRejection, term: number, first: LogPosition): string {
  if (rejection.reason === "stale_term") {
    return `entry ${first.index} has term ${first.term}, older than the node's term ${term}`;
  }
  if (rejection.reason === "safety" && rejection.contradicted !== undefined) {
    const { conflictTerm, conflictIndex } = rejection.contradicted;
    return `index ${first.index} is committed with term ${conflictTerm}, not ${first.term}: expected index ${conflictIndex}`;
  }
  return `${rejection.detail} (${rejection.reason.toUpperCase()})`;
}

/** Returns the entries at the beginning that have the first one's term. */
function ofOneTerm(entries: readonly Entry[]): readonly Entry[] {
  const at = entries.findIndex(({ term }) => term !== entries[0]!.term);
  return at < 0 ? entries : entries.slice(0, at);
}
