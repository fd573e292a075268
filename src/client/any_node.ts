import { CairnError, type CairnErrorCode } from "../base/errors.js";
import type { CallSettings } from "../rpc/channel.js";
import type { ChannelPool } from "../rpc/channel_pool.js";
import type { SharedChannel } from "../rpc/client.js";
import type { Clock } from "../system/clock.js";
import { AbortWatch } from "./abort_watch.js";
import { closedDuringCall, gaveUp } from "./call.js";
import type { CallLimiter } from "./call_limiter.js";
import { hintOf, LeaderSearch } from "./leader_search.js";
import type { CallOptions } from "./options.js";

/** Shortest time that one node has to answer before another one is asked, in ms. */
const ATTEMPT_MS = 2_000;

/** Failures after which another node, or the same node later, may succeed. */
const PASSING: ReadonlySet<CairnErrorCode> = new Set(["NOT_LEADER", "STOPPED", "UNREACHABLE", "BUSY", "TIMEOUT"]);

/** Whether another node, or the same node later, may succeed after this failure. */
export function isPassing({ code }: CairnError): boolean {
  return PASSING.has(code);
}

/**
 * Lets the caller's signal, or the end of the client, end a call. {@link CallScope.end} must
 * be called when the call has ended.
 */
export interface CallScope {
  /** Its reason is the CairnError that the call ends with. */
  readonly signal: AbortSignal;
  /** Ends the call with this error. */
  cancel(error: CairnError): void;
  end(): void;
}

/**
 * Makes calls that change nothing and that any node may answer: asks one node after the other until
 * one answers.
 */
export class AnyNode {
  readonly #signals = new AbortWatch();
  readonly #running = new Set<AbortController>();

  constructor(
    readonly endpoints: readonly string[],
    private readonly channels: ChannelPool,
    private readonly limiter: CallLimiter,
    private readonly clock: Clock,
    private readonly random: () => number,
  ) {}

  begin(own: AbortSignal | undefined): CallScope {
    const controller = new AbortController();
    this.#running.add(controller);
    if (own?.aborted) controller.abort(gaveUp(own));
    const stopWatching = own && this.#signals.add(own, () => controller.abort(gaveUp(own)));
    const end = () => {
      this.#running.delete(controller);
      stopWatching?.();
    };
    return { signal: controller.signal, cancel: (error) => controller.abort(error), end };
  }

  /**
   * Waits for a turn, then asks within a new scope: see {@link askWithin}. `bytes` is the
   * approximate size of the request; `madeAt` the moment from which the time limit counts, if the
   * call was made before.
   */
  async ask<Answer>(
    bytes: number,
    { signal, timeoutMs }: CallOptions & { readonly timeoutMs: number },
    call: (channel: SharedChannel, settings: CallSettings) => Promise<Answer>,
    madeAt?: number,
  ): Promise<Answer> {
    const scope = this.begin(signal);
    try {
      const startedAt = await this.limiter.begin(bytes, timeoutMs, scope.signal);
      let isAnswered = false;
      try {
        const answer = await this.askWithin(scope, undefined, timeoutMs, call, madeAt ?? startedAt);
        isAnswered = true;
        return answer;
      } finally {
        this.limiter.end(isAnswered);
      }
    } finally {
      scope.end();
    }
  }

  /**
   * Resolves with the result of `call`. `first` is the node to ask first; `startedAt` is the moment
   * from which the time limit counts.
   * @throws CairnError TIMEOUT when no node answers in time (its cause is the last failure),
   * CANCELLED, or any failure that is not passing
   */
  async askWithin<Answer>(
    { signal }: CallScope,
    first: string | undefined,
    timeoutMs: number,
    call: (channel: SharedChannel, settings: CallSettings) => Promise<Answer>,
    startedAt = this.clock.now(),
  ): Promise<Answer> {
    const search = new LeaderSearch(this.#inTurn(), this.random);
    if (first !== undefined) search.found(first);
    const deadline = startedAt + timeoutMs;
    // A caller with a long time limit expects large values over slow networks.
    const attemptMs = Math.max(ATTEMPT_MS, timeoutMs / (this.endpoints.length + 1));
    for (let problem: CairnError | undefined; ; ) {
      const { address, pauseMs } = search.next();
      await this.pause(pauseMs, signal);
      signal.throwIfAborted();
      const leftMs = deadline - this.clock.now();
      if (leftMs <= 0) throw tooLate(timeoutMs, problem);
      try {
        return await call(this.channels.get(address), { signal, timeoutMs: Math.min(leftMs, attemptMs) });
      } catch (error) {
        const failure = CairnError.from(error);
        signal.throwIfAborted();
        if (!isPassing(failure)) throw failure;
        if (failure.code === "NOT_LEADER") search.notLeader(address, hintOf(failure));
        else search.unreachable(address);
        // An attempt that was cut short says less than the one before it.
        if (problem === undefined || failure.code !== "TIMEOUT" || leftMs > attemptMs) problem = failure;
      }
    }
  }

  /** Ends the calls in flight. */
  close(): void {
    for (const controller of this.#running) controller.abort(closedDuringCall());
  }

  /** Returns the endpoints from a random start, so that reads spread over the nodes. */
  #inTurn(): string[] {
    const start = Math.floor(this.random() * this.endpoints.length);
    return [...this.endpoints.slice(start), ...this.endpoints.slice(0, start)];
  }

  /** Waits; the end of the signal ends the wait, too. */
  pause(ms: number, signal: AbortSignal): Promise<void> {
    if (ms === 0 || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        cancel();
        signal.removeEventListener("abort", end);
        resolve();
      };
      const cancel = this.clock.after(ms, end);
      signal.addEventListener("abort", end, { once: true });
    });
  }
}

function tooLate(timeoutMs: number, problem: CairnError | undefined): CairnError {
  const why = problem === undefined ? "" : `; the last problem was: ${problem.message}`;
  const { leaderHint, leaderAddress } = problem ?? {};
  const text = `there was no answer in ${timeoutMs} ms${why}`;
  return new CairnError("TIMEOUT", text, { cause: problem, leaderHint, leaderAddress });
}
