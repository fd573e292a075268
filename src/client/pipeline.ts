import type { ResponseHeader, SessionAnswer } from "../../gen/cairn/v1/kv_pb.js";
import type { Clock } from "../clock.js";
import { limits } from "../core/limits.js";
import { CairnError, type CairnErrorCode } from "../errors.js";
import type { SharedChannel } from "../transport/bridge_client.js";
import type { ChannelPool } from "../transport/channel_pool.js";
import { AbortWatch } from "./abort_watch.js";
import { Call, type CallAnswer, type CallRequest, clientIsClosed, closedDuringCall, errorOf, gaveUp } from "./call.js";
import { hintOf, type LeaderSearch, notLeader } from "./leader_search.js";
import type { CallOptions } from "./options.js";
import { afterAwake } from "./patient_timer.js";
import { SessionLink } from "./session_link.js";
import { WriteWindow } from "./write_window.js";

/** Pause before a write is sent again to a node that does not know what became of it, in ms. */
const RETRY_MS = 50;

/** Refusals that depend on what was sent alone: every node refuses it, also where it was sent before. */
const FINAL: ReadonlySet<CairnErrorCode> = new Set(["INVALID_ARGUMENT", "LIMIT_EXCEEDED", "UNIMPLEMENTED"]);

export interface PipelineOptions {
  readonly clientId: string;
  readonly channels: ChannelPool;
  readonly search: LeaderSearch;
  readonly clock: Clock;
  readonly random: () => number;
}

/**
 * All calls of a client that the leader answers, over one Session stream to it. When the stream breaks, or another node leads, it is opened
 * anew and what is not answered is sent again, with the same sequences: so every write has its effect once.
 */
export class Pipeline {
  /** Calls that wait for their turn, oldest first. */
  readonly #waitingWrites = new Set<Call>();
  readonly #waitingReads = new Set<Call>();
  /** Calls that have got it, by sequence, in its order. */
  readonly #active = new Map<number, Call>();
  readonly #writes = new WriteWindow();
  readonly #signals = new AbortWatch();
  #activeReads = 0;
  #lastSequence = 0;
  #link: SessionLink | undefined;
  /** Calls off the opening of a link after a pause. */
  #cancelOpening: (() => void) | undefined;
  /** Known once a node has answered; then no other cluster's node will do. */
  #clusterId = "";
  /** Why the leader was not reached at the last attempt. */
  #problem: CairnError | undefined;
  #isClosed = false;

  constructor(private readonly options: PipelineOptions) {}

  /** Where the leader is, as far as is known. */
  get leaderAddress(): string | undefined {
    return this.#link?.address;
  }

  /** Carries a call out. `bytes`: about how many it takes in a message. */
  submit(
    request: CallRequest,
    bytes: number,
    { signal, timeoutMs }: CallOptions & { readonly timeoutMs: number },
  ): Promise<CallAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(clientIsClosed());
      if (signal?.aborted) return reject(gaveUp(signal));
      const stopWatching = signal && this.#signals.add(signal, () => this.#giveUp(call, gaveUp(signal)));
      const late = () => new CairnError("TIMEOUT", `there was no answer in ${timeoutMs} ms`);
      const cancelTimer = afterAwake(this.options.clock, timeoutMs, () => this.#giveUp(call, late()));
      const ended = () => {
        cancelTimer();
        stopWatching?.();
        this.#ended(call);
      };
      const isWrite = request.case !== "get";
      const call = new Call(request, isWrite, bytes, { resolve, reject, ended });
      (isWrite ? this.#waitingWrites : this.#waitingReads).add(call);
      this.#admit();
    });
  }

  /** Ends all calls: CANCELLED, or OUTCOME_UNKNOWN for writes that were sent. */
  close(): void {
    this.#isClosed = true;
    this.#cancelOpening?.();
    const error = closedDuringCall();
    for (const calls of [this.#waitingWrites, this.#waitingReads, this.#active.values()]) {
      for (const call of [...calls]) call.reject(error);
    }
    this.#link?.close();
    this.#link = undefined;
  }

  /** Gives calls their turn while there is room. */
  #admit(): void {
    for (const call of this.#waitingWrites) {
      if (!this.#writes.hasRoom(call.bytes)) break;
      this.#waitingWrites.delete(call);
      this.#activate(call);
      this.#writes.begin(call.sequence, call.bytes);
    }
    for (const call of this.#waitingReads) {
      if (this.#activeReads === limits.clientReadsInFlight) break;
      this.#waitingReads.delete(call);
      this.#activate(call);
      this.#activeReads++;
    }
    this.#connect();
  }

  #activate(call: Call): void {
    call.sequence = ++this.#lastSequence;
    this.#active.set(call.sequence, call);
    this.#link?.push(call);
  }

  /** A call has its answer, or its caller does not wait for it any more. */
  #ended(call: Call): void {
    this.#waitingWrites.delete(call);
    this.#waitingReads.delete(call);
    if (!this.#active.delete(call.sequence)) return;
    this.#link?.drop(call);
    if (call.isWrite) this.#writes.done(call.sequence);
    else this.#activeReads--;
    if (!this.#isClosed) this.#admit();
  }

  #giveUp(call: Call, { code, text, cause }: CairnError): void {
    const problem = this.#problem;
    const { leaderHint, leaderAddress } = problem ?? {};
    const why = problem === undefined ? text : `${text}; the last problem was: ${problem.message}`;
    call.reject(new CairnError(code, why, { cause: cause ?? problem, leaderHint, leaderAddress }));
  }

  /** Opens a link, now or after a pause, unless there is one or nobody needs it. */
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
    const { channels, clientId, clock } = this.options;
    let channel: SharedChannel;
    try {
      channel = channels.get(address);
    } catch (error) {
      // An address that a node has named, and that is none.
      this.options.search.unreachable(address);
      this.#reconnect(CairnError.from(error));
      return;
    }
    const hello = { clientId, clusterId: this.#clusterId };
    const acknowledgedThrough = () => this.#writes.acknowledgedThrough;
    const link: SessionLink = new SessionLink(channel, hello, acknowledgedThrough, clock, {
      greeted: (header) => this.#greeted(link, header),
      answered: (answers) => this.#answered(link, answers),
      ended: (error) => this.#lost(link, error),
    });
    this.#link = link;
    for (const call of this.#active.values()) {
      call.cancelPause();
      link.push(call);
    }
  }

  #greeted(link: SessionLink, { nodeId, clusterId, leaderId, leaderAddress }: ResponseHeader): void {
    this.#clusterId = clusterId;
    this.options.search.met(nodeId, link.address);
    if (leaderId === nodeId) link.begin();
    else this.#leave(link, notLeader(nodeId, { id: leaderId, address: leaderAddress }));
  }

  #answered(link: SessionLink, answers: readonly SessionAnswer[]): void {
    let moved: CairnError | undefined;
    for (const { sequence, answer } of answers) {
      const call = this.#active.get(Number(sequence));
      if (call === undefined) continue;
      if (answer.case === "error") {
        moved = this.#failed(call, errorOf(answer.value), answer.value.retryable) ?? moved;
      } else if (answer.case === undefined) {
        call.rejectAsItIs(new CairnError("INTERNAL", "the answer is none that this version knows"));
      } else {
        this.#problem = undefined;
        this.options.search.found(link.address);
        call.resolve(answer);
      }
    }
    if (moved !== undefined) this.#leave(link, moved);
  }

  /** Deals with the failure of one call. Returns it when it means that the leader is elsewhere. */
  #failed(call: Call, error: CairnError, isRetryable: boolean): CairnError | undefined {
    switch (error.code) {
      case "NOT_LEADER":
      case "STOPPED":
        call.refused();
        return error;
      case "BUSY":
        call.refused();
        this.#problem = error;
        this.#sendAgain(call, error.retryAfterMs ?? RETRY_MS);
        return undefined;
      case "OUTCOME_UNKNOWN":
        if (isRetryable) this.#sendAgain(call, RETRY_MS);
        else call.rejectAsItIs(error);
        return undefined;
      default:
        call.refused();
        if (FINAL.has(error.code)) call.rejectAsItIs(error);
        else call.reject(error);
        return undefined;
    }
  }

  /** Sends a call again after a pause, to whoever leads then. */
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
    if (FINAL.has(error.code)) {
      for (const call of [...this.#active.values()]) call.reject(error);
    }
    this.#reconnect(error);
  }

  #reconnect(problem: CairnError): void {
    this.#link = undefined;
    this.#problem = problem;
    this.#connect();
  }
}
