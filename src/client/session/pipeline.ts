import type { ResponseHeader, SessionAnswer } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError, type CairnErrorCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { TraceHeaders } from "../../base/telemetry/tracing.js";
import type { ChannelPool } from "../../rpc/channel_pool.js";
import type { SharedChannel } from "../../rpc/client.js";
import { fromCallError } from "../../rpc/status.js";
import type { Clock } from "../../system/clock.js";
import { AbortWatch } from "../abort_watch.js";
import {
  Call,
  type CallAnswer,
  type CallRequest,
  clientIsClosed,
  closedDuringCall,
  type EventLoopTurn,
  gaveUp,
  sentByForgotten,
  unknownAnswer,
} from "../call.js";
import { CallQueue, type QueueRoom } from "../call_queue.js";
import { hintOf, type LeaderSearch, notLeader } from "../leader_search.js";
import type { CallOptions } from "../options.js";
import { afterAwake } from "../patient_timer.js";
import { type ClientIdentity, identitySince } from "./identity.js";
import { SessionLink } from "./session_link.js";
import { WriteWindow } from "./write_window.js";

/** Pause before a write is sent again to a node that does not know its outcome, in ms. */
const RETRY_MS = 50;

/**
 * Refusals that depend only on the request: every node refuses it, also where it was sent before.
 */
const FINAL: ReadonlySet<CairnErrorCode> = new Set(["INVALID_ARGUMENT", "LIMIT_EXCEEDED", "UNIMPLEMENTED"]);

/** Refusals of the caller: another node would refuse the session, too. */
const NOT_ALLOWED: ReadonlySet<CairnErrorCode> = new Set(["UNAUTHENTICATED", "PERMISSION_DENIED"]);

export interface PipelineOptions {
  readonly identity: ClientIdentity;
  readonly channels: ChannelPool;
  readonly search: LeaderSearch;
  readonly clock: Clock;
  readonly random: () => number;
  /** Bounds the calls that wait for their turn. */
  readonly room: QueueRoom;
}

/**
 * Carries all calls of a client that the leader answers, over one Session stream. When the stream
 * breaks, or another node leads, the pipeline opens a new stream and sends the unanswered calls
 * again with the same sequences: so every write takes effect once.
 *
 * When the cluster has forgotten the client, it refuses all writes under that name. The pipeline
 * then waits for the answers to the writes that it has sent, takes a new name, and sends again
 * those writes that were sent once and refused. A write that was sent twice has an unknown outcome.
 */
export class Pipeline {
  /** Calls that wait for their turn. */
  readonly #waitingWrites: CallQueue<Call>;
  readonly #waitingReads: CallQueue<Call>;
  /** Calls that have their turn, by sequence and in its order. */
  readonly #active = new Map<number, Call>();
  readonly #writes = new WriteWindow();
  readonly #signals = new AbortWatch();
  #identity: ClientIdentity;
  /**
   * The next name; taken when the link that uses the forgotten name has received its last answer.
   */
  #successor: ClientIdentity | undefined;
  #activeReads = 0;
  #lastSequence = 0;
  #link: SessionLink | undefined;
  /** Cancels the opening of a link after a pause. */
  #cancelOpening: (() => void) | undefined;
  /** Known once a node has answered; from then on, nodes of other clusters are refused. */
  #clusterId = "";
  /** The failure of the last attempt to reach the leader. */
  #problem: CairnError | undefined;
  /** When the leader last answered a call; 0: never. */
  #answeredAt = 0;
  #currentTurn: EventLoopTurn | undefined;
  #isClosed = false;

  constructor(private readonly options: PipelineOptions) {
    this.#identity = options.identity;
    this.#waitingWrites = new CallQueue(options.room);
    this.#waitingReads = new CallQueue(options.room);
  }

  get clientId(): string {
    return this.#identity.clientId;
  }

  /** The leader's address, as far as it is known. */
  get leaderAddress(): string | undefined {
    return this.#link?.address;
  }

  /**
   * Carries out a call. `bytes` is the approximate size of the call in a message. The time limit
   * applies to the leader: while a call waits here behind others, it expires only if the leader
   * answers none of those either.
   */
  submit(
    request: CallRequest,
    bytes: number,
    { signal, timeoutMs }: CallOptions & { readonly timeoutMs: number },
    trace?: TraceHeaders,
  ): Promise<CallAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(clientIsClosed());
      if (signal?.aborted) return reject(gaveUp(signal));
      const call = new Call(request, bytes, this.#turn(), resolve, reject, this.#ended, trace);
      try {
        this.#begin(call);
      } catch (error) {
        return reject(CairnError.from(error));
      }
      const late = () => this.#giveUp(call, new CairnError("TIMEOUT", `there was no answer in ${timeoutMs} ms`));
      const startedAt = () => this.#startOf(call);
      call.watch(
        afterAwake(this.options.clock, timeoutMs, late, { startedAt }),
        signal && this.#signals.add(signal, () => this.#giveUp(call, gaveUp(signal))),
      );
    });
  }

  /** Ends all calls: CANCELLED, or OUTCOME_UNKNOWN for writes that were sent. */
  close(): void {
    this.#isClosed = true;
    this.#cancelOpening?.();
    const error = closedDuringCall();
    for (const queue of [this.#waitingWrites, this.#waitingReads]) {
      for (let place = queue.first; place !== undefined; place = queue.first) place.item.reject(error);
    }
    for (const call of [...this.#active.values()]) call.reject(error);
    this.#link?.close();
    this.#link = undefined;
  }

  /** Returns the current turn of the event loop. */
  #turn(): EventLoopTurn {
    if (this.#currentTurn !== undefined) return this.#currentTurn;
    const turn: EventLoopTurn = { endedAt: undefined };
    this.#currentTurn = turn;
    this.options.clock.soon(() => {
      turn.endedAt = this.options.clock.now();
      this.#currentTurn = undefined;
    });
    return turn;
  }

  /** Starts a call, now or after those that wait. @throws CairnError QUEUE_FULL */
  #begin(call: Call): void {
    const queue = call.isWrite ? this.#waitingWrites : this.#waitingReads;
    if (queue.first !== undefined || !this.#hasRoom(call)) {
      call.place = queue.add(call);
      return;
    }
    this.#activate(call);
    this.#connect();
  }

  /** Gives waiting calls their turn while there is room. */
  #admit(): void {
    this.#admitFrom(this.#waitingWrites);
    this.#admitFrom(this.#waitingReads);
    this.#connect();
  }

  #admitFrom(queue: CallQueue<Call>): void {
    for (let place = queue.first; place !== undefined && this.#hasRoom(place.item); place = queue.first) {
      queue.remove(place);
      this.#activate(place.item);
    }
  }

  #hasRoom(call: Call): boolean {
    return call.isWrite ? this.#writes.hasRoom(call.bytes) : this.#activeReads < limits.clientReadsInFlight;
  }

  #activate(call: Call): void {
    call.sequence = ++this.#lastSequence;
    call.answeredBefore = this.#answeredAt;
    this.#active.set(call.sequence, call);
    if (call.isWrite) this.#writes.begin(call.sequence, call.bytes);
    else this.#activeReads++;
    this.#link?.push(call);
  }

  /** A call has its answer, or its caller has given up. */
  readonly #ended = (call: Call): void => {
    if (call.place !== undefined) (call.isWrite ? this.#waitingWrites : this.#waitingReads).remove(call.place);
    if (!this.#active.delete(call.sequence)) return;
    this.#link?.drop(call);
    if (call.isWrite) this.#writes.done(call.sequence);
    else this.#activeReads--;
    if (!this.#isClosed) this.#admit();
  };

  /**
   * Returns the moment from which a call's time limit counts: the end of the turn in which the call
   * was made, however long that turn takes. While the call waits behind others, each answer to one
   * of them restarts its time. A turn that comes because others were given up does not.
   */
  #startOf({ turn, answeredBefore = this.#answeredAt }: Call): number {
    return Math.max(turn.endedAt ?? this.options.clock.now(), answeredBefore);
  }

  #giveUp(call: Call, { code, text, cause }: CairnError): void {
    const problem = this.#problem;
    const { leaderHint, leaderAddress } = problem ?? {};
    const why = problem === undefined ? text : `${text}; the last problem was: ${problem.message}`;
    call.reject(new CairnError(code, why, { cause: cause ?? problem, leaderHint, leaderAddress }));
    this.#renewWhenDrained();
  }

  /** Opens a link, now or after a pause, unless a link exists or no call needs one. */
  #connect(): void {
    if (this.#isClosed || this.#link !== undefined || this.#cancelOpening !== undefined) return;
    if (this.#active.size === 0) return;
    const { address, pauseMs } = this.options.search.next();
    const open = () => {
      this.#cancelOpening = undefined;
      this.#open(address);
    };
    if (pauseMs === 0) open();
    else this.#cancelOpening = this.options.clock.after(pauseMs, open);
  }

  #open(address: string): void {
    const { channels, clock } = this.options;
    let channel: SharedChannel;
    try {
      channel = channels.get(address);
    } catch (error) {
      // A node has named an address that is not valid.
      this.options.search.unreachable(address);
      this.#reconnect(CairnError.from(error));
      return;
    }
    const hello = { clientId: this.clientId, clusterId: this.#clusterId };
    const writeIdentity = () => ({
      acknowledgedThrough: this.#writes.acknowledgedThrough,
      since: this.#identity.since ?? 0,
    });
    const link: SessionLink = new SessionLink(channel, hello, writeIdentity, clock, {
      greeted: (header, rememberedWrites) => {
        this.#writes.remembered(rememberedWrites);
        this.#greeted(link, header);
      },
      answered: (answers) => this.#answered(link, answers),
      ended: (error) => this.#lost(link, error),
    });
    this.#link = link;
    for (const call of this.#active.values()) {
      call.cancelPause();
      link.push(call);
    }
  }

  #greeted(link: SessionLink, { nodeId, clusterId, leaderId, leaderAddress, appliedIndex }: ResponseHeader): void {
    this.#clusterId = clusterId;
    if (this.#identity.since === undefined) this.#identity = { ...this.#identity, since: Number(appliedIndex) };
    this.options.search.met(nodeId, link.address);
    if (leaderId === nodeId) link.begin();
    else this.#leave(link, notLeader(nodeId, { id: leaderId, address: leaderAddress }));
  }

  #answered(link: SessionLink, answers: readonly SessionAnswer[]): void {
    let moved: CairnError | undefined;
    let writes = 0;
    for (const { sequence, answer } of answers) {
      const call = this.#active.get(Number(sequence));
      if (call === undefined) continue;
      if (answer.case === "error") {
        moved = this.#failed(link, call, fromCallError(answer.value), answer.value.retryable) ?? moved;
      } else if (answer.case === undefined) {
        call.rejectAsItIs(unknownAnswer());
      } else {
        this.#problem = undefined;
        this.#answeredAt = this.options.clock.now();
        this.options.search.found(link.address);
        if (call.isWrite) writes++;
        call.resolve(answer);
      }
    }
    if (this.#waitingWrites.first !== undefined) this.#writes.grow(writes);
    if (moved !== undefined) this.#leave(link, moved);
    else this.#renewWhenDrained();
  }

  /**
   * Handles the failure of one call. Returns the error when it means that the leader is elsewhere.
   */
  #failed(link: SessionLink, call: Call, error: CairnError, isRetryable: boolean): CairnError | undefined {
    switch (error.code) {
      case "NOT_LEADER":
      case "STOPPED":
        call.refused();
        return error;
      case "BUSY":
        call.refused();
        this.#problem = error;
        this.#writes.shrink();
        this.#sendAgain(call, error.retryAfterMs ?? RETRY_MS);
        return undefined;
      case "SESSION_EXPIRED":
        call.refused();
        this.#forgotten(link, error.since ?? 0);
        return undefined;
      case "OUTCOME_UNKNOWN":
        if (isRetryable) this.#sendAgain(call, RETRY_MS);
        else call.rejectAsItIs(error);
        return undefined;
      default:
        this.#answeredAt = this.options.clock.now();
        call.refused();
        if (FINAL.has(error.code)) call.rejectAsItIs(error);
        else call.reject(error);
        return undefined;
    }
  }

  /** The cluster has forgotten this client. */
  #forgotten(link: SessionLink, index: number): void {
    this.#successor = identitySince(Math.max(index, this.#successor?.since ?? 0));
    link.drain();
  }

  /** Continues under the new name once every write under the old name has its answer. */
  #renewWhenDrained(): void {
    const link = this.#link;
    if (link === undefined || this.#successor === undefined) return;
    for (const call of this.#active.values()) if (call.isWrite && link.owes(call)) return;
    link.close();
    this.options.search.found(link.address);
    this.#reconnect(
      new CairnError("SESSION_EXPIRED", "the cluster has forgotten this client, which takes a new client id"),
    );
  }

  /**
   * Takes the new name, if there is one. A write that was sent under the old name must not be sent
   * under another.
   */
  #takeName(): void {
    if (this.#successor === undefined) return;
    this.#identity = this.#successor;
    this.#successor = undefined;
    const cause = new CairnError("SESSION_EXPIRED", "the cluster has forgotten this client");
    for (const call of [...this.#active.values()]) if (call.mayHappen) call.rejectAsItIs(sentByForgotten(cause));
  }

  /** Sends a call again after a pause, to the node that leads then. */
  #sendAgain(call: Call, ms: number): void {
    const pauseMs = ms * (1 + this.options.random());
    call.cancelPause = this.options.clock.after(pauseMs, () => this.#link?.push(call));
  }

  /** The leader is elsewhere. */
  #leave(link: SessionLink, problem: CairnError): void {
    link.close();
    this.#lost(link, problem);
  }

  #lost(link: SessionLink, error: CairnError): void {
    if (error.code === "NOT_LEADER") this.options.search.notLeader(link.address, hintOf(error));
    else this.options.search.unreachable(link.address);
    // The token that the link began with has been replaced: the next link has another.
    const isReplaced = link.isGreeted && error.code === "UNAUTHENTICATED";
    if (!isReplaced && (FINAL.has(error.code) || NOT_ALLOWED.has(error.code))) {
      for (const call of [...this.#active.values()]) call.reject(error);
    }
    this.#reconnect(error);
  }

  #reconnect(problem: CairnError): void {
    this.#takeName();
    this.#link = undefined;
    this.#problem = problem;
    this.#connect();
  }
}
