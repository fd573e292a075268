import { MachineService } from "../../../gen/cairn/v1/machine_pb.js";
import { CairnError, type CairnErrorCode } from "../../base/errors.js";
import type { StateMachine } from "../../machine/state_machine.js";
import type { CairnNode } from "../../node/node.js";
import type { Committed } from "../../node/requests/proposals.js";
import { checkFitsEntry } from "../../node/requests/refusals.js";
import { sharing } from "../../node/requests/waiter.js";
import { peerChannelSettings } from "../../rpc/grpc_options.js";
import { toIndex } from "../../rpc/message_counters.js";
import type { MemberCredentials } from "../../rpc/security/member_credentials.js";
import { Forwarding, OWN_CALL } from "../../server/forwarding.js";
import { decodedResult, type OwnMachine } from "../../server/machine/own_machine.js";
import { Patience } from "./patience.js";
import { SharedIndex } from "./shared_index.js";

/** Connections to leaders: see `ForwardingOptions`. */
interface LeaderOptions {
  readonly peerAddresses?: Readonly<Record<string, string>> | undefined;
  readonly members?: MemberCredentials | undefined;
}

/** Options of a proposal at any member; this file carries proposals and reads to the leader. */
export interface ProposeOptions {
  /** Ends the wait when it is aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds to wait for a leader and its answer, in total. Default 10,000. */
  readonly timeoutMs?: number | undefined;
  /**
   * The machine accepts a repetition of this command and gives the same answer, without a second
   * effect. While its outcome is unknown, it is proposed again. Default false.
   */
  readonly isIdempotent?: boolean | undefined;
}

export interface QueryOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds to wait for a leader and for the state, in total. Default 10,000. */
  readonly timeoutMs?: number | undefined;
  /**
   * Reads the present state of this member without asking the leader: it may be older than answered
   * commands. Default false.
   */
  readonly stale?: boolean | undefined;
  /**
   * Waits until this index is applied here, for example that of the member's own command. Default
   * 0.
   */
  readonly minAppliedIndex?: number | undefined;
}

const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * Pause before another attempt in milliseconds, unless a leader appears earlier; it doubles up to
 * the longest.
 */
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 500;

/**
 * Errors after which nothing has happened, and another attempt may find another leader, or the same
 * one less busy.
 */
const PASSING: readonly CairnErrorCode[] = ["NOT_LEADER", "UNREACHABLE", "STOPPED", "BUSY"];
/** Errors after which a command that was on its way to the leader may take effect. */
const UNKNOWN: readonly CairnErrorCode[] = ["OUTCOME_UNKNOWN", "TIMEOUT", "CANCELLED"];

/** The part of a member that its calls use. */
export interface CallingMember<Result, Machine extends StateMachine<Result>> {
  /** The node. It is another one after the directory has changed its identity. */
  readonly node: CairnNode<Result, Machine>;
  /** @throws CairnError STOPPED when the member has ended */
  assertRunning(): void;
  /**
   * Calls `changed` once when another member leads, or none, or the member has ended. Returns a
   * function that cancels that.
   */
  onceLeaderChanges(changed: () => void): () => void;
}

/**
 * Carries out proposals and linearizable reads of a member's application, no matter which member
 * leads.
 */
export class MemberCalls<Result, Machine extends StateMachine<Result>, View> {
  readonly #forwarding: Forwarding<typeof MachineService>;
  readonly #indexes: SharedIndex;

  constructor(
    private readonly member: CallingMember<Result, Machine>,
    private readonly machine: OwnMachine<Result, Machine, View>,
    options: LeaderOptions,
  ) {
    const node = {
      get id() {
        return member.node.id;
      },
      get clusterId() {
        return member.node.clusterId;
      },
      get raft() {
        return member.node.raft;
      },
    };
    this.#indexes = new SharedIndex((changed) => member.onceLeaderChanges(changed));
    this.#forwarding = new Forwarding(node, MachineService, { ...options, channels: peerChannelSettings });
  }

  /** See `CairnMember.propose`. */
  async propose(command: Uint8Array, options: ProposeOptions): Promise<Committed<Result>> {
    checkFitsEntry(command, "the command");
    const { isIdempotent = false } = options;
    let unknown: CairnError | undefined;
    return this.#patiently(
      options,
      async (patience) => {
        try {
          return await this.#proposeOnce(command, patience);
        } catch (cause) {
          const error = CairnError.from(cause);
          if (!UNKNOWN.includes(error.code)) throw error;
          unknown = outcomeUnknown(error);
          if (!isIdempotent || patience.isOver) throw unknown;
          return undefined;
        }
      },
      () => unknown,
    );
  }

  /** See `CairnMember.read`. */
  async read<Answer>(query: (view: View) => Answer, options: QueryOptions): Promise<Answer> {
    const { stale = false, minAppliedIndex = 0 } = options;
    const node = await this.#patiently(options, async (patience) => {
      const { node } = this.member;
      try {
        const index = stale ? 0 : await this.#readIndex(node, patience);
        await node.waitApplied(Math.max(index, minAppliedIndex), patience.signal);
        return node;
      } catch (error) {
        // A new leader answers where the old one does not.
        const { code } = CairnError.from(error);
        if (code === "CANCELLED" || code === "TIMEOUT" || patience.isOver) return undefined;
        throw error;
      }
    });
    return query(this.machine.view(node.machine));
  }

  /** Ends the calls to the leader that are under way. */
  close(): void {
    this.#forwarding.close();
  }

  /**
   * Makes attempts until one has an answer. An attempt that ends with undefined, or with an error
   * after which nothing has happened, is followed by another.
   */
  async #patiently<Answer extends object>(
    { signal, timeoutMs = DEFAULT_TIMEOUT_MS }: Pick<ProposeOptions, "signal" | "timeoutMs">,
    attempt: (patience: Patience) => Promise<Answer | undefined>,
    unknown: () => CairnError | undefined = () => undefined,
  ): Promise<Answer> {
    const patience = new Patience(signal, timeoutMs);
    let last: CairnError | undefined;
    try {
      for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
        if (patience.isOver) throw unknown() ?? givenUp(patience, timeoutMs, last);
        this.#assertRunning(unknown());
        try {
          const answer = await attempt(patience);
          if (answer !== undefined) return answer;
        } catch (error) {
          last = CairnError.from(error);
          // If this attempt did nothing, an earlier one may still have done something; a bug is
          // reported as it is.
          if (!PASSING.includes(last.code)) throw last.code === "INTERNAL" ? error : (unknown() ?? error);
        }
        this.#assertRunning(unknown());
        await this.#pause(Math.max(pauseMs, last?.retryAfterMs ?? 0), patience.signal);
      }
    } finally {
      patience.end();
    }
  }

  #assertRunning(unknown: CairnError | undefined): void {
    try {
      this.member.assertRunning();
    } catch (error) {
      throw unknown ?? error;
    }
  }

  async #proposeOnce(command: Uint8Array, { signal, deadlineMs }: Patience): Promise<Committed<Result>> {
    const { node } = this.member;
    return this.#forwarding.once(
      { ...OWN_CALL, signal, deadlineMs },
      () => node.propose(command, signal),
      async (leader, settings) => {
        const answer = await leader.propose({ command }, settings);
        const index = toIndex(answer.index, "index");
        return { index, result: decodedResult(this.machine, index, answer.result) };
      },
    );
  }

  /**
   * Asks for a read index, until another member leads: a leader that hangs is abandoned once it has
   * a successor.
   */
  async #readIndex(node: CairnNode<Result, Machine>, { signal, deadlineMs }: Patience): Promise<number> {
    const attempt = new AbortController();
    const end = () => attempt.abort();
    const forget = this.member.onceLeaderChanges(end);
    signal.addEventListener("abort", end, { once: true });
    try {
      return await this.#forwarding.once(
        { ...OWN_CALL, signal: attempt.signal, deadlineMs },
        () => node.linearizableRead(attempt.signal),
        (leader, { metadata }) => sharing(this.#indexes.get(leader, metadata), attempt.signal, "the leader's index"),
      );
    } finally {
      forget();
      signal.removeEventListener("abort", end);
    }
  }

  /** Resolves after the pause, or earlier when there may be a leader to ask. */
  #pause(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        forget();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      const forget = this.member.onceLeaderChanges(done);
      if (signal.aborted) done();
      else signal.addEventListener("abort", done, { once: true });
    });
  }
}

function outcomeUnknown(error: CairnError): CairnError {
  if (error.code === "OUTCOME_UNKNOWN") return error;
  const { text, leaderHint, leaderAddress } = error;
  const said = `the command may or may not take effect: ${text}`;
  return new CairnError("OUTCOME_UNKNOWN", said, { cause: error, leaderHint, leaderAddress });
}

/** Returns the error of a call that was given up. Nothing happened. */
function givenUp({ code }: Patience, timeoutMs: number, last: CairnError | undefined): CairnError {
  const what = code === "CANCELLED" ? "the caller gave up" : `there was no answer in ${timeoutMs} ms`;
  const why = last === undefined ? "" : `: ${last.text}`;
  return new CairnError(code, `${what}, and nothing has happened${why}`, { cause: last });
}
