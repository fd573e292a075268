import {
  KeyValueService,
  type RangeResponse,
  type ResponseHeader,
  type WatchResponse,
} from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError, hasCode } from "../../base/errors.js";
import type { CallSettings } from "../../rpc/channel.js";
import type { SharedChannel } from "../../rpc/client.js";
import type { Clock } from "../../system/clock.js";
import { type AnyNode, type CallScope, isPassing } from "../any_node.js";
import { openRange } from "../range.js";
import { TimedAnswers } from "../timed_answers.js";
import { isFinal, Refusals } from "./refusals.js";
import { changeOf, existingOf, type WatchEvent } from "./watch_events.js";
import type { KeyMatch } from "./watch_keys.js";
import type { WatchSettings } from "./watch_options.js";
import { tokenOf, type WatchPosition } from "./watch_position.js";

/** Longest time between two answers of a node, in ms, unless the caller wants them sooner. */
const PROGRESS_MS = 60_000;
/** A node that is silent for this much longer than it may be is given up, in ms. */
const SILENCE_MS = 10_000;
/** Time for one round of attempts at all nodes, in ms. Another round follows a round in vain. */
const ROUND_MS = 10_000;
/** Time to wait for unreachable nodes when the others no longer have the history, in ms. */
const PATIENCE_MS = 5_000;
/** First and longest pause after streams that have brought nothing, in ms. */
const PAUSE_MS = 25;
const PAUSE_MS_MAX = 1_000;

/** The part of a client that watches use. */
export interface WatchSource {
  readonly nodes: AnyNode;
  readonly clock: Clock;
  readonly random: () => number;
  /** Time until a watch must be served for the first time, in ms. */
  readonly timeoutMs: number;
}

/** A stream of one node. */
interface OpenWatch {
  readonly address: string;
  readonly answers: TimedAnswers<WatchResponse>;
}

/**
 * Yields the changes of keys, over one stream after the other. Each begins behind the last index
 * that the one before has reported in full.
 */
export class WatchFeed {
  /** Undefined until a node has named it. */
  #position: WatchPosition | undefined;
  /** Token of the last event that was yielded, or of the last progress mark behind it. */
  #token: string | undefined;
  /** Why no node serves the watch at present. */
  #problem: CairnError | undefined;
  #isServed = false;
  /** Streams that ended, one after the other, and had brought nothing. */
  #fruitless = 0;
  readonly #refusals: Refusals;

  constructor(
    private readonly source: WatchSource,
    private readonly keys: KeyMatch,
    private readonly settings: WatchSettings,
    /** Called when the watch is served for the first time. */
    private readonly onServed: (token: string) => void,
  ) {
    this.#position = settings.from;
    const patienceMs = settings.initial ? 0 : PATIENCE_MS;
    this.#refusals = new Refusals(source.nodes.endpoints, source.clock, patienceMs);
  }

  get token(): string | undefined {
    return this.#token;
  }

  get problem(): CairnError | undefined {
    return this.#problem;
  }

  /** Yields all events, until the scope ends. */
  async *events(scope: CallScope): AsyncGenerator<WatchEvent, void, undefined> {
    for (;;) {
      const listing = this.settings.initial ? yield* this.#list(scope) : undefined;
      const reason = listing ?? (yield* this.#follow(scope));
      this.#token = undefined;
      // One list after the other would burden the cluster.
      this.#fruitless++;
      yield { type: "restarted", reason };
    }
  }

  /** Yields the keys that exist. Returns the error that the list has broken off with. */
  async *#list(scope: CallScope): AsyncGenerator<WatchEvent, CairnError | undefined, undefined> {
    const { clock } = this.source;
    await this.#pause(scope);
    const parts = await this.#askUntilServed(scope, (channel, { timeoutMs }) =>
      openRange(channel, this.keys.query, timeoutMs, scope.signal, clock),
    );
    try {
      const { clusterId, appliedIndex } = this.#checkedHeader(parts.first?.header);
      this.#problem = undefined;
      for (let part = parts.first; part !== undefined; ) {
        const isPast = part.kvs.findIndex(({ key }) => this.keys.isPast(key));
        for (const kv of isPast < 0 ? part.kvs : part.kvs.slice(0, isPast)) yield existingOf(kv);
        if (isPast >= 0) break;
        const next: RangeResponse | CairnError | undefined = await this.#attempt(scope, parts);
        if (next instanceof CairnError) {
          this.#lost(next);
          return next;
        }
        part = next;
      }
      this.#position = { clusterId, through: Number(appliedIndex) };
    } finally {
      parts.close();
    }
    const token = tokenOf(this.#position);
    this.#token = token;
    this.#refusals.clear();
    this.#served(token);
    yield { type: "listed", index: this.#position.through, token };
    return undefined;
  }

  /**
   * Yields changes. With `initial`, returns the error when no node has the history.
   * @throws CairnError OUT_OF_RANGE without `initial`
   */
  async *#follow(scope: CallScope): AsyncGenerator<WatchEvent, CairnError, undefined> {
    for (;;) {
      await this.#pause(scope);
      let stream: OpenWatch;
      try {
        stream = await this.#askUntilServed(scope, (channel, settings) => this.#open(scope, channel, settings));
      } catch (error) {
        if (this.settings.initial && hasCode(error, "OUT_OF_RANGE")) return error;
        throw error;
      }
      yield* this.#read(scope, stream);
    }
  }

  /** Yields the events of one stream, until it ends. */
  async *#read(scope: CallScope, { address, answers }: OpenWatch): AsyncGenerator<WatchEvent, void, undefined> {
    const silentMs = (this.settings.progressMs ?? PROGRESS_MS) + SILENCE_MS;
    try {
      for (let answer = answers.first!, isFirst = true; ; isFirst = false) {
        const position = this.#position!;
        const problem = problemIn(answer, position.through);
        if (problem !== undefined) return this.#lost(problem, address);
        if (!isFirst || answer.events.length > 0) this.#progressed();
        yield* this.#eventsIn(answer, position);
        const next = await this.#attempt(scope, answers, silentMs);
        if (next instanceof CairnError) return this.#lost(next, address);
        if (next === undefined) {
          return this.#lost(new CairnError("STOPPED", `${address} has ended the watch`), address);
        }
        answer = next;
      }
    } finally {
      answers.close();
    }
  }

  *#eventsIn({ events, through }: WatchResponse, before: WatchPosition): Generator<WatchEvent> {
    const { clusterId } = before;
    for (const [at, message] of events.entries()) {
      const more = events[at + 1]?.index === message.index;
      const change = changeOf(message, clusterId, more);
      this.#token = change.token;
      yield change;
    }
    // A watch that waits for a later index is told of earlier ones.
    this.#position = { clusterId, through: Math.max(before.through, Number(through)) };
    const token = tokenOf(this.#position);
    this.#token = token;
    const isWanted = this.settings.progressMs !== undefined && events.length === 0;
    if (isWanted) yield { type: "progress", index: this.#position.through, token };
  }

  /** Opens a stream at a node, and waits for its first answer. */
  async #open(scope: CallScope, channel: SharedChannel, { timeoutMs }: CallSettings): Promise<OpenWatch> {
    const { address } = channel;
    const verdict = this.#refusals.verdict;
    if (verdict !== undefined) throw verdict;
    const refusal = this.#refusals.of(address);
    if (refusal !== undefined) throw passing(refusal);
    const { previous, only, progressMs = PROGRESS_MS } = this.settings;
    const { clusterId = "", through } = this.#position ?? {};
    const request = {
      ...this.keys.request,
      startIndex: through === undefined ? 0n : BigInt(through + 1),
      clusterId,
      previous,
      noPuts: only === "deletes",
      noDeletes: only === "puts",
      progressMs,
    };
    const start = (signal: AbortSignal) => channel.client(KeyValueService).watch(request, { signal });
    try {
      const answers = await TimedAnswers.open(start, timeoutMs, scope.signal, this.source.clock);
      try {
        this.#begin(answers.first);
      } catch (error) {
        answers.close();
        throw error;
      }
      return { address, answers };
    } catch (error) {
      const problem = CairnError.from(error);
      scope.signal.throwIfAborted();
      this.#problem = problem;
      if (isFinal(problem)) throw problem;
      this.#refusals.add(address, problem);
      throw this.#refusals.verdict ?? passing(problem);
    }
  }

  /** Notes the cluster and the position that the first answer of a stream names. */
  #begin(answer: WatchResponse | undefined): void {
    const { clusterId } = this.#checkedHeader(answer?.header);
    this.#position = { clusterId, through: this.#position?.through ?? Number(answer!.through) };
    this.#token ??= tokenOf(this.#position);
    this.#served(this.#token);
  }

  #checkedHeader(header: ResponseHeader | undefined): ResponseHeader {
    const known = this.#position?.clusterId;
    if (header === undefined || header.clusterId === "") {
      throw new CairnError("INTERNAL", "the node's answer does not name its cluster");
    }
    if (!known || header.clusterId === known) return header;
    throw new CairnError("WRONG_CLUSTER", `the node belongs to cluster ${header.clusterId}, and the watch to ${known}`);
  }

  /** Waits for an answer. Returns an error of which another stream may know nothing. */
  async #attempt<Answer>(
    { signal }: CallScope,
    answers: TimedAnswers<Answer>,
    timeoutMs = this.settings.timeoutMs ?? this.source.timeoutMs,
  ): Promise<Answer | CairnError | undefined> {
    try {
      return await answers.next(timeoutMs);
    } catch (error) {
      signal.throwIfAborted();
      const problem = CairnError.from(error);
      // Credentials that a node had accepted were replaced: the next stream has the new ones.
      if (problem.code === "UNAUTHENTICATED") return passing(problem);
      if (isFinal(problem)) throw problem;
      return problem;
    }
  }

  /** Asks node after node, round after round. */
  async #askUntilServed<Answer>(
    scope: CallScope,
    ask: (channel: SharedChannel, settings: CallSettings) => Promise<Answer>,
  ): Promise<Answer> {
    const { nodes, clock, timeoutMs } = this.source;
    const limitMs = this.settings.timeoutMs ?? (this.#isServed ? Number.POSITIVE_INFINITY : timeoutMs);
    const deadline = clock.now() + limitMs;
    for (;;) {
      const roundMs = Math.min(ROUND_MS, deadline - clock.now());
      try {
        return await nodes.askWithin(scope, undefined, roundMs, ask);
      } catch (error) {
        if (!hasCode(error, "TIMEOUT") || clock.now() >= deadline) throw error;
        this.#problem = error;
      }
    }
  }

  #served(token: string): void {
    this.#problem = undefined;
    if (this.#isServed) return;
    this.#isServed = true;
    this.onServed(token);
  }

  #progressed(): void {
    this.#fruitless = 0;
    this.#refusals.clear();
  }

  #lost(problem: CairnError, address?: string): void {
    this.#problem = problem;
    this.#fruitless++;
    if (address !== undefined) this.#refusals.add(address, problem);
  }

  /** Waits for a moment when one stream after the other brings nothing. */
  async #pause({ signal }: CallScope): Promise<void> {
    if (this.#fruitless < 2) return;
    const longest = Math.min(PAUSE_MS * 2 ** (this.#fruitless - 2), PAUSE_MS_MAX);
    await this.source.nodes.pause(longest * (0.5 + this.source.random() / 2), signal);
  }
}

/** Returns a failure as one after which the next node is asked. */
function passing(error: CairnError): CairnError {
  if (isPassing(error)) return error;
  return new CairnError("UNREACHABLE", `the watch was refused: ${error.message}`, { cause: error });
}

/** Describes why an answer would repeat or disorder events; undefined when it does not. */
function problemIn({ events, through }: WatchResponse, reported: number): CairnError | undefined {
  let last = BigInt(reported) + 1n;
  for (const { index, kv } of events) {
    if (kv === undefined) return faulty("a change without its key");
    if (index < last) return faulty(`an event of index ${index} behind one of ${last - 1n}`);
    last = index;
  }
  if (events.length > 0 && last > through) return faulty(`an event of index ${last} in an answer through ${through}`);
  return undefined;
}

function faulty(what: string): CairnError {
  return new CairnError("INTERNAL", `the node sent ${what}`);
}
