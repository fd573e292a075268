import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService, type TxnResponse } from "../../gen/cairn/v1/kv_pb.js";
import {
  checkFlag,
  checkFunction,
  checkMethods,
  checkObject,
  checkSignal,
  checkWholeNumber,
} from "../base/arguments.js";
import { CairnError, hasCode } from "../base/errors.js";
import { checkKey, checkValue } from "../base/key_checks.js";
import { limits } from "../base/limits.js";
import { tracingOf } from "../base/telemetry/tracing.js";
import { messageBytes } from "../rpc/call_batches.js";
import type { CallSettings } from "../rpc/channel.js";
import { ChannelPool } from "../rpc/channel_pool.js";
import type { SharedChannel } from "../rpc/client.js";
import { asClientSpan, tracedCall } from "../rpc/spans/unary_spans.js";
import { type Clock, systemClock } from "../system/clock.js";
import { AnyNode, isPassing } from "./any_node.js";
import { answerTo, type CallAnswer, type CallRequest, clientIsClosed } from "./call.js";
import { CallLimiter } from "./call_limiter.js";
import { QueueRoom } from "./call_queue.js";
import { type CompareAndSetOptions, type CompareAndSetResult, type Expected, expectation } from "./compare_and_set.js";
import { LeaderSearch } from "./leader_search.js";
import { KeeperThread } from "./leases/keeper_thread.js";
import { LoopKeeping } from "./leases/keeping.js";
import { ClientLeases } from "./leases/leases.js";
import { type ElectedLeader, electionPrefix, type LeaderHandle, leadersIn, takePart } from "./locks/election.js";
import { type AcquireOptions, acquire, type LockHandle, type QueueOptions } from "./locks/lock.js";
import { OnceHandle, type OnceOptions, type OnceRun, type Schedule } from "./locks/once.js";
import { type QueueClient, untilMissing } from "./locks/place.js";
import {
  type CallOptions,
  type ClientOptions,
  type ConditionalOptions,
  callOptionsIn,
  checkEndpoint,
  checkEndpoints,
  checkTimeout,
  DEFAULT_TIMEOUT_MS,
  ifVersionIn,
  leaseIdOf,
  type PutOptions,
  type RangeOptions,
  type ReadOptions,
  readsStale,
} from "./options.js";
import { readRange } from "./range.js";
import { protectedSettings } from "./security/connection.js";
import { newIdentity } from "./session/identity.js";
import { Pipeline } from "./session/pipeline.js";
import { StaleReads } from "./session/stale_reads.js";
import { type NodeStatus, statusOf } from "./status.js";
import { type AtomicallyOptions, type AtomicTx, atomically } from "./txn/atomically.js";
import { compare } from "./txn/conditions.js";
import { canBeReadAgain } from "./txn/messages.js";
import { op } from "./txn/steps.js";
import { Txn, type TxnMessage } from "./txn/txn.js";
import {
  type Key,
  type KeyValue,
  keyToBytes,
  keyValueOf,
  type StoredValue,
  storedValueOf,
  type Value,
  valueToBytes,
} from "./values.js";
import { KeyWatch } from "./watch/key_watch.js";
import { keyMatch, type WatchKeys } from "./watch/watch_keys.js";
import { type WatchOptions, watchSettings } from "./watch/watch_options.js";

/**
 * Removed; or not removed, with the current value (undefined: the key does not exist).
 */
export type ConditionalDeleteResult =
  | { readonly deleted: true }
  | { readonly deleted: false; readonly current: StoredValue | undefined };

export interface StatusOptions extends CallOptions {
  /** host:port of the node to ask. Default: the first of the client's endpoints that answers. */
  readonly endpoint?: string | undefined;
}

/** Options of {@link CairnClient.observe}. */
export interface ObserveOptions {
  /** Ends the loop with CANCELLED. */
  readonly signal?: AbortSignal | undefined;
  /** As in {@link WatchOptions.timeoutMs}. */
  readonly timeoutMs?: number | undefined;
}

/** Approximate number of bytes that a message adds to the key and the value of one call. */
const CALL_BYTES = 64;

/**
 * A client of a Cairn cluster. It finds the leader and follows it, sends all calls of one turn of
 * the event loop in one message, and repeats calls that a broken connection or a change of leader
 * left unanswered. Each write takes effect once, however often it was sent.
 *
 * One client serves a whole process, with any number of concurrent calls. Calls that are not
 * awaited one after the other are carried out concurrently, in any order. Beyond 128 writes (up
 * to 1,024 while the cluster keeps up) or 512 reads in flight, or 16 MiB of writes, calls wait in
 * the client for their turn: at most 131,072 of them, or 128 MiB. A client with no call in flight
 * does not keep its process alive; {@link close} closes its connections immediately.
 *
 * Every method rejects with a CairnError. INVALID_ARGUMENT and LIMIT_EXCEEDED: the call can never
 * succeed. TIMEOUT and CANCELLED: time was up, or the caller gave up, and nothing happened.
 * OUTCOME_UNKNOWN: the same for a write that had been sent: it may or may not take effect, once,
 * even now. DISK_FULL: the leader has no room, and nothing happened. QUEUE_FULL: too many calls
 * wait in the client, and nothing happened. FAILED_PRECONDITION: the client is closed. The error's
 * `cause` names the problem that kept the client from an answer; `retryable` tells whether the same
 * call may be made again without a second effect.
 *
 * ```ts
 * await using client = new CairnClient({
 *   endpoints: ["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"],
 * });
 * await client.put("greeting", "hello");
 * console.log((await client.get("greeting"))?.text());
 * ```
 */
export class CairnClient implements AsyncDisposable {
  readonly #channels: ChannelPool;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #timeoutMs: number;
  readonly #pipeline: Pipeline;
  readonly #nodes: AnyNode;
  readonly #staleReads: StaleReads;
  /** The leases of this client, which one stream keeps alive. */
  readonly leases: ClientLeases;
  #isClosed = false;

  /**
   * Connects when the first call needs it.
   * @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED for invalid options
   */
  constructor(options: ClientOptions) {
    checkObject("options", options);
    const endpoints = checkEndpoints(options.endpoints);
    const connection = protectedSettings(options, endpoints);
    this.#channels = new ChannelPool({ ...connection, isBackground: true });
    const random = checkFunction("random", options.random ?? Math.random);
    this.#clock = checkMethods("clock", options.clock ?? systemClock, ["now", "after", "soon"]);
    this.#random = random;
    this.#timeoutMs = checkTimeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const room = new QueueRoom();
    const identity = newIdentity();
    const channels = this.#channels;
    this.#pipeline = new Pipeline({
      identity,
      channels,
      search: new LeaderSearch(endpoints, random),
      clock: this.#clock,
      random,
      room,
    });
    const limiter = new CallLimiter(limits.clientReadsInFlight, room, this.#clock);
    this.#nodes = new AnyNode(endpoints, channels, limiter, this.#clock, random);
    const { clientId } = identity;
    this.#staleReads = new StaleReads({ clientId, endpoints, channels, limiter, clock: this.#clock, random });
    const hasThread = checkFlag("leaseThread", options.leaseThread ?? true);
    this.leases = new ClientLeases({
      nodes: this.#nodes,
      clock: this.#clock,
      limitsOf: (each) => this.#limits(each),
      makeKeeping: () =>
        hasThread
          ? new KeeperThread({ ...options, endpoints }, this.#clock)
          : new LoopKeeping({ endpoints, channels, clock: this.#clock, random }),
    });
  }

  /**
   * The name under which the cluster remembers this client's writes. It changes when the cluster
   * has forgotten the client.
   */
  get clientId(): string {
    return this.#pipeline.clientId;
  }

  /** Reads a key. Resolves with undefined when it does not exist. */
  async get(key: Key, options: ReadOptions = {}): Promise<KeyValue | undefined> {
    const request = { key: keyToBytes(key) };
    checkKey(request.key);
    const { kv } = readsStale(options)
      ? await this.#staleGet(request.key, options)
      : answerTo("get", await this.#submit({ case: "get", value: request }, request.key.byteLength, options));
    return kv === undefined ? undefined : keyValueOf(kv);
  }

  /**
   * Sets a key if it has a version; the same as {@link compareAndSet} with `{ version }`.
   */
  put(key: Key, value: Value, options: PutOptions & ConditionalOptions): Promise<CompareAndSetResult>;
  /** Sets a key. Resolves with its new version when the write is durable on a majority. */
  put(key: Key, value: Value, options?: PutOptions): Promise<number>;
  async put(
    key: Key,
    value: Value,
    options: PutOptions | (PutOptions & ConditionalOptions) = {},
  ): Promise<number | CompareAndSetResult> {
    const version = ifVersionIn(options);
    const { lease } = options;
    if (version !== undefined) return this.compareAndSet(key, { version }, value, { ...callOptionsIn(options), lease });
    const request = { key: keyToBytes(key), value: valueToBytes(value), leaseId: leaseIdOf(lease) };
    checkKey(request.key);
    checkValue(request.value);
    const bytes = request.key.byteLength + request.value.byteLength;
    const answer = await this.#submit({ case: "put", value: request }, bytes, options);
    return Number(answerTo("put", answer).version);
  }

  /** Removes a key if it has a version. Resolves as {@link compareAndSet} does. */
  delete(key: Key, options: ConditionalOptions): Promise<ConditionalDeleteResult>;
  /** Removes a key. Resolves when that is durable on a majority, with true if the key existed. */
  delete(key: Key, options?: CallOptions): Promise<boolean>;
  async delete(key: Key, options: CallOptions | ConditionalOptions = {}): Promise<boolean | ConditionalDeleteResult> {
    const version = ifVersionIn(options);
    if (version !== undefined) return this.#deleteIf(key, version, callOptionsIn(options));
    const request = { key: keyToBytes(key) };
    checkKey(request.key);
    const answer = await this.#submit({ case: "delete", value: request }, request.key.byteLength, options);
    return answerTo("delete", answer).deleted;
  }

  /**
   * Sets a key if it is as expected. Resolves when that is durable on a majority, or with the
   * current value if the key was not as expected.
   */
  async compareAndSet(
    key: Key,
    expected: Expected,
    value: Value,
    options: CompareAndSetOptions = {},
  ): Promise<CompareAndSetResult> {
    const request = {
      key: keyToBytes(key),
      expected: expectation(expected),
      newValue: valueToBytes(value, "the new value"),
      createIfMissing: checkFlag("createIfMissing", checkObject("options", options).createIfMissing),
      leaseId: leaseIdOf(options.lease),
    };
    checkKey(request.key);
    checkValue(request.newValue);
    const { expected: against } = request;
    const bytes = request.key.byteLength + request.newValue.byteLength;
    const expectedBytes = against.case === "value" ? against.value.byteLength : 0;
    const call = { case: "compareAndSet", value: request } as const;
    const { swapped, version, current } = await this.#remembered(options, async (callOptions) => {
      const answer = answerTo("compareAndSet", await this.#submit(call, bytes + expectedBytes, callOptions));
      return { answer, isForgotten: answer.currentForgotten };
    });
    if (swapped) return { swapped, version: Number(version) };
    return { swapped, current: current === undefined ? undefined : storedValueOf(current) };
  }

  /**
   * Reads keys in the order of their bytes. All keys come from one state of the store, unless a
   * `pageSize` is given. The time limit applies to each step that waits for the network. When the
   * connection breaks, the loop throws UNREACHABLE: resume with `after`.
   *
   * ```ts
   * const users = client.range({ prefix: "user:" });
   * for await (const { key, version } of users) console.log(key, version);
   * ```
   */
  async *range(options: RangeOptions = {}): AsyncGenerator<KeyValue, void, undefined> {
    const source = { nodes: this.#nodes, clock: this.#clock };
    yield* readRange(source, () => this.#pipeline.leaderAddress, options, this.#limits(options));
  }

  /**
   * Begins a transaction: conditions, steps for when they hold, and steps for when they do not.
   *
   * ```ts
   * const { succeeded } = await client
   *   .txn()
   *   .when(compare("stock").version("=", stock.version), compare("order:7").missing())
   *   .then(op.put("stock", "41"), op.put("order:7", "1 piece"))
   *   .else(op.get("stock"))
   *   .commit();
   * ```
   */
  txn(): Txn {
    return new Txn((message, options) => this.#txn(message, options));
  }

  /**
   * Runs a function that reads and writes through `tx`, and commits its writes if nobody else has
   * changed a key that it read; else runs it again, after a pause that grows and is partly random,
   * up to `attempts` times. Resolves with the result of the run that was committed. The function
   * must have no other effects, since it may run more than once. `timeoutMs` applies to each call,
   * `signal` to all of it.
   * @throws CairnError CONFLICT after the last attempt: nothing happened. OUTCOME_UNKNOWN when a
   * commit may have taken effect: the function is not run again. Errors of the function end it
   *
   * ```ts
   * await client.atomically(async (tx) => {
   *   const count = Number((await tx.get("count"))?.text() ?? 0);
   *   tx.put("count", `${count + 1}`);
   * });
   * ```
   */
  async atomically<Result>(
    work: (tx: AtomicTx) => Result | Promise<Result>,
    options: AtomicallyOptions = {},
  ): Promise<Result> {
    const source = {
      clock: this.#clock,
      random: this.#random,
      get: (key: Uint8Array, callOptions: CallOptions) => this.get(key, callOptions),
      txn: () => this.txn(),
    };
    return atomically(source, work, options);
  }

  /**
   * Follows the changes of a key, of a span of keys, or of all keys when `keys` is undefined:
   * committed changes only, in the order of their index, each once, without a gap. When its node
   * fails, restarts or is removed, or has cut it off as too slow, the watch resumes at any member.
   * A consumer that does not read costs no memory: the stream waits. An event's `token` resumes the
   * watch later, in any process.
   * @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED at once for invalid arguments. The loop
   * throws OUT_OF_RANGE when no node knows all changes since `from`, or since the last event: the
   * error's `oldestIndex` is where a watch may begin (not with `initial`, which starts over).
   * WRONG_CLUSTER when a node belongs to another cluster than the token. CANCELLED, TIMEOUT
   *
   * ```ts
   * for await (const event of client.watch({ prefix: "config/" }, { initial: true })) {
   *   const { type } = event;
   *   if (type === "existing" || type === "put") settings.set(event.key, event.value.json());
   *   if (type === "delete") settings.delete(event.key);
   *   if (type === "restarted") settings.clear();
   * }
   * ```
   */
  watch(keys?: WatchKeys, options: WatchOptions = {}): KeyWatch {
    const { timeoutMs } = this.#limits({});
    const source = { nodes: this.#nodes, clock: this.#clock, random: this.#random, timeoutMs };
    return new KeyWatch(source, keyMatch(keys), watchSettings(options));
  }

  /**
   * Waits for a lock, and resolves when this process holds it. Those who wait come in turn, in the
   * order in which they have joined, and the end of one wakes only the next. A thread of its own
   * keeps the lock while the event loop is blocked. When its holder dies, the lock ends after
   * `ttlMs`. When this process loses its place while it waits, it takes another one.
   * docs/locks.md says what a lock promises, and why a holder needs a fencing token.
   * @throws CairnError TIMEOUT after `waitMs`, or when the cluster gives no answer; CANCELLED by
   * `signal`: the lock is not held
   *
   * ```ts
   * const lock = await client.lock("nightly-report", { ttlMs: 10_000 });
   * try {
   *   await writeReport({ signal: lock.signal, fencingToken: lock.token });
   * } finally {
   *   await lock.release();
   * }
   * ```
   */
  async lock(name: string, options: AcquireOptions = {}): Promise<LockHandle> {
    return acquire(this.#queues(), name, options);
  }

  /**
   * Takes part in an election, and resolves when this process leads. The candidates lead in turn,
   * in the order in which they have joined. It leads until it resigns, dies, or is cut off from the
   * cluster for longer than `ttlMs`: see {@link LeaderHandle.signal}.
   * @throws CairnError as {@link lock}
   *
   * ```ts
   * const leader = await client.elect("scheduler", "10.0.0.7:8080");
   * leader.signal.addEventListener("abort", () => process.exit(1));
   * ```
   */
  async elect(name: string, value: Value, options: QueueOptions = {}): Promise<LeaderHandle> {
    return takePart(this.#queues(), name, value, options);
  }

  /**
   * Yields the leader of an election, first the present one, and then whenever it or its value
   * changes; undefined when nobody leads. A change that is followed by another one at once may be
   * left out. An observer may be behind: the leader's fencing token tells an old one from a new
   * one.
   *
   * ```ts
   * for await (const leader of client.observe("scheduler")) console.log(leader?.value.text());
   * ```
   */
  observe(name: string, options: ObserveOptions = {}): AsyncGenerator<ElectedLeader | undefined, void, undefined> {
    const { signal, timeoutMs } = checkObject("options", options);
    return leadersIn(this.watch({ prefix: electionPrefix(name) }, { initial: true, signal, timeoutMs }));
  }

  /**
   * Runs a job once in the whole fleet for each time of a schedule, from now on: every process
   * calls this with the same name and schedule, and for each time one of them runs the job. A time
   * is claimed before the job runs, so it is never run twice: not when its process dies, either.
   * While one run lasts, no other begins.
   *
   * The processes judge by their own wall clocks, which should agree within a fraction of the
   * interval. A time that one of them has claimed too early counts as done for the others.
   *
   * ```ts
   * const nightly = client.once("report", { everyMs: 86_400_000 }, async ({ signal, token }) => {
   *   await writeReport({ signal, fencingToken: token });
   * });
   * await nightly.stop();
   * ```
   */
  once(name: string, schedule: Schedule, job: (run: OnceRun) => unknown, options: OnceOptions = {}): OnceHandle {
    this.#limits({});
    const source = {
      ...this.#queues(),
      get: (key: string, each: CallOptions) => this.get(key, each),
      unixMs: Date.now,
    };
    return new OnceHandle(source, name, schedule, job, options);
  }

  /** Returns a node's identity, role and log positions. */
  async status(options: StatusOptions = {}): Promise<NodeStatus> {
    const callLimits = this.#limits(options);
    const { endpoint } = options;
    if (endpoint !== undefined) {
      const address = checkEndpoint("endpoint", endpoint);
      return statusOf(await this.#channels.get(address).client(AdminService).getStatus({}, callLimits));
    }
    return this.#nodes.ask(CALL_BYTES, callLimits, async (channel, settings) =>
      statusOf(await channel.client(AdminService).getStatus({}, settings)),
    );
  }

  /**
   * Closes all connections. Calls in flight end immediately, with CANCELLED or, for writes that
   * were sent, OUTCOME_UNKNOWN: await them first. May be called more than once.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.leases.close(new CairnError("CANCELLED", "the client was closed, and keeps no lease alive any more"));
    this.#pipeline.close();
    this.#nodes.close();
    this.#staleReads.close();
    this.#channels.close();
  }

  /** {@link close}, for `await using` (TypeScript 5.2; JavaScript from Node 24). */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #staleGet(key: Uint8Array, options: ReadOptions) {
    const minAppliedIndex = BigInt(checkWholeNumber("minAppliedIndex", options.minAppliedIndex ?? 0, 0));
    const callLimits = this.#limits(options);
    const bytes = key.byteLength + CALL_BYTES;
    const madeAt = this.#clock.now();
    // A read that waits for its node to catch up may be answered sooner by another node.
    const overStream = minAppliedIndex === 0n ? this.#staleReads.get(key, bytes, callLimits) : undefined;
    if (overStream !== undefined) {
      try {
        return await overStream;
      } catch (error) {
        if (!isPassing(CairnError.from(error)) || hasCode(error, "TIMEOUT")) throw error;
      }
    }
    const request = { key, stale: true, minAppliedIndex };
    const ask = (channel: SharedChannel, settings: CallSettings) =>
      channel.client(KeyValueService).get(request, settings);
    return this.#nodes.ask(bytes, callLimits, ask, overStream === undefined ? undefined : madeAt);
  }

  async #deleteIf(key: Key, version: number, options: CallOptions): Promise<ConditionalDeleteResult> {
    // Not a delete with if_version: a node of an earlier version would take no notice of that.
    const { succeeded, results } = await this.txn()
      .when(compare(key).version("=", version))
      .then(op.delete(key))
      .else(op.get(key))
      .commit(options);
    const [result] = results;
    if (succeeded && version > 0) return { deleted: true };
    return { deleted: false, current: result.type === "get" ? result.found : undefined };
  }

  async #txn(message: TxnMessage, options: CallOptions): Promise<TxnResponse> {
    const value = {
      compare: [...message.compare],
      then: [...message.then],
      otherwise: [...message.otherwise],
    };
    const bytes = messageBytes(value);
    return this.#remembered(options, async (callOptions) => {
      const answer = answerTo("txn", await this.#submit({ case: "txn", value }, bytes, callOptions));
      const steps = answer.succeeded ? message.then : message.otherwise;
      return { answer, isForgotten: canBeReadAgain(steps, answer) };
    });
  }

  /**
   * When a call was sent twice, the cluster may remember that it changed nothing, but not all that
   * it read. Then the call is made once more, as another write.
   */
  async #remembered<Answer>(
    options: CallOptions,
    ask: (options: CallOptions) => Promise<{ readonly answer: Answer; readonly isForgotten: boolean }>,
  ): Promise<Answer> {
    const { timeoutMs } = this.#limits(options);
    const deadline = this.#clock.now() + timeoutMs;
    for (let leftMs = timeoutMs; leftMs > 0; leftMs = deadline - this.#clock.now()) {
      const { answer, isForgotten } = await ask({ ...options, timeoutMs: leftMs });
      if (!isForgotten) return answer;
    }
    throw new CairnError("TIMEOUT", `nothing was changed, and the present value could not be read in ${timeoutMs} ms`);
  }

  /** Returns the parts of this client that locks and elections use. */
  #queues(): QueueClient {
    return {
      clock: this.#clock,
      grant: (options) => this.leases.grant(options),
      txn: () => this.txn(),
      range: (options) => this.range(options),
      untilMissing: (key, signal) => untilMissing(this.watch(key, { initial: true, signal })),
    };
  }

  /** Has the leader carry out a call. */
  #submit(request: CallRequest, bytes: number, options: CallOptions): Promise<CallAnswer> {
    const callLimits = this.#limits(options);
    const tracing = tracingOf();
    if (tracing === undefined) return this.#pipeline.submit(request, bytes + CALL_BYTES, callLimits);
    return asClientSpan(tracing, tracedCall(request.case, this.#pipeline.leaderAddress), (trace) =>
      this.#pipeline.submit(request, bytes + CALL_BYTES, callLimits, trace),
    );
  }

  #limits(options: CallOptions): CallOptions & { readonly timeoutMs: number } {
    if (this.#isClosed) throw clientIsClosed();
    const { signal, timeoutMs } = checkObject("options", options);
    return {
      signal: checkSignal(signal),
      timeoutMs: timeoutMs === undefined ? this.#timeoutMs : checkTimeout(timeoutMs),
    };
  }
}
