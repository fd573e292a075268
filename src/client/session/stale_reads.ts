import type { GetResponse, SessionAnswer } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../base/errors.js";
import type { ChannelPool } from "../../rpc/channel_pool.js";
import { fromCallError } from "../../rpc/status.js";
import type { Clock } from "../../system/clock.js";
import { AbortWatch } from "../abort_watch.js";
import { Call, closedDuringCall, gaveUp, unknownAnswer } from "../call.js";
import type { CallLimiter } from "../call_limiter.js";
import type { CallOptions } from "../options.js";
import { afterAwake } from "../patient_timer.js";
import { SessionLink } from "./session_link.js";

/** Pause before a stream to a node that failed is opened again, in ms. */
const PAUSE_MS = 1_000;

export interface StaleReadsOptions {
  readonly clientId: string;
  readonly endpoints: readonly string[];
  readonly channels: ChannelPool;
  /** Bounds the reads of a client, these and those outside of streams. */
  readonly limiter: CallLimiter;
  readonly clock: Clock;
  readonly random: () => number;
}

/**
 * Reads keys from the state of any node, over one Session stream to each node. The reads of one
 * turn of the event loop go to one node in one message, those of the next turn to the next node.
 */
export class StaleReads {
  readonly #links = new Map<string, ReadLink>();
  /** When a node that has failed may be asked again. */
  readonly #notBefore = new Map<string, number>();
  readonly #signals = new AbortWatch();
  /** Number of the endpoint that was asked last. */
  #last: number;
  /** The node that the reads of this turn go to. */
  #ofTurn: ReadLink | undefined;
  #lastSequence = 0;

  constructor(private readonly options: StaleReadsOptions) {
    this.#last = Math.floor(options.random() * options.endpoints.length);
  }

  /**
   * Reads a key. `bytes` is the approximate size of the call in a message. Returns undefined when
   * the read has no turn now, or no node can be asked over a stream.
   * @throws CairnError UNREACHABLE when the node is gone: another one may answer; TIMEOUT,
   * CANCELLED, and what the node answers
   */
  get(
    key: Uint8Array,
    bytes: number,
    { signal, timeoutMs }: CallOptions & { readonly timeoutMs: number },
  ): Promise<GetResponse> | undefined {
    if (signal?.aborted) return Promise.reject(gaveUp(signal));
    const { clock, limiter } = this.options;
    const link = this.#choose();
    if (link === undefined || !limiter.tryBegin()) return undefined;
    return new Promise((resolve, reject) => {
      const call = new Call(
        { case: "get", value: { key, stale: true } },
        bytes,
        TURN,
        (answer) => {
          limiter.end(true);
          resolve(answer.value as GetResponse);
        },
        (error) => {
          limiter.end(false);
          reject(error);
        },
        (ended) => link.ended(ended),
      );
      call.sequence = ++this.#lastSequence;
      const late = () => call.reject(new CairnError("TIMEOUT", `there was no answer in ${timeoutMs} ms`));
      call.watch(
        afterAwake(clock, timeoutMs, late),
        signal && this.#signals.add(signal, () => call.reject(gaveUp(signal))),
      );
      link.push(call);
    });
  }

  /** Ends all reads with CANCELLED. */
  close(): void {
    for (const link of this.#links.values()) link.close(closedDuringCall());
    this.#links.clear();
  }

  /** Returns the node for a read: nodes that have greeted come first. */
  #choose(): ReadLink | undefined {
    if (this.#ofTurn?.isOpen === true) return this.#ofTurn;
    const links = this.#inTurn();
    const chosen = links.find(({ isReady }) => isReady) ?? links[0];
    this.#ofTurn = chosen;
    this.options.clock.soon(() => {
      this.#ofTurn = undefined;
    });
    return chosen;
  }

  /** Returns the links to all nodes that may be asked, from the next one on; opens missing ones. */
  #inTurn(): ReadLink[] {
    const { endpoints, clock } = this.options;
    this.#last = (this.#last + 1) % endpoints.length;
    const now = clock.now();
    return [...endpoints.slice(this.#last), ...endpoints.slice(0, this.#last)].flatMap((address) => {
      const link = this.#links.get(address);
      if (link !== undefined) return link;
      return now < (this.#notBefore.get(address) ?? 0) ? [] : this.#open(address);
    });
  }

  #open(address: string): ReadLink {
    const { clientId, channels, clock } = this.options;
    const channel = channels.get(address);
    const link: ReadLink = new ReadLink(
      (events) => {
        return new SessionLink(channel, { clientId, clusterId: "" }, NO_WRITES, clock, events, { needsLeader: false });
      },
      () => {
        this.#links.delete(address);
        this.#notBefore.set(address, clock.now() + PAUSE_MS);
      },
    );
    this.#links.set(address, link);
    return link;
  }
}

/** One stream, and the reads that it owes. */
class ReadLink {
  readonly #calls = new Map<number, Call>();
  readonly #link: SessionLink;
  isReady = false;
  isOpen = true;

  constructor(
    open: (events: ConstructorParameters<typeof SessionLink>[4]) => SessionLink,
    private readonly failed: () => void,
  ) {
    this.#link = open({
      greeted: () => {
        this.isReady = true;
        this.#link.begin();
      },
      answered: (answers) => this.#answered(answers),
      ended: (error) => this.#lost(error),
    });
  }

  push(call: Call): void {
    this.#calls.set(call.sequence, call);
    this.#link.push(call);
  }

  ended(call: Call): void {
    if (this.#calls.delete(call.sequence)) this.#link.drop(call);
  }

  close(error: CairnError): void {
    this.isOpen = this.isReady = false;
    this.#link.close();
    for (const call of [...this.#calls.values()]) call.reject(error);
  }

  #answered(answers: readonly SessionAnswer[]): void {
    for (const { sequence, answer } of answers) {
      const call = this.#calls.get(Number(sequence));
      if (call === undefined) continue;
      if (answer.case === "error") call.reject(fromCallError(answer.value));
      else if (answer.case === undefined) call.reject(unknownAnswer());
      else call.resolve(answer);
    }
  }

  #lost({ text, cause }: CairnError): void {
    this.failed();
    this.close(new CairnError("UNREACHABLE", text, { cause }));
  }
}

/** Reads do not depend on the turn in which they were made. */
const TURN = { endedAt: undefined };

const NO_WRITES = () => ({ acknowledgedThrough: 0, since: 0 });
