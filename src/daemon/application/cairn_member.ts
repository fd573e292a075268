import { checkFunction, checkObject, checkSignal, checkText, checkWholeNumber } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import type { StateMachine } from "../../machine/state_machine.js";
import { rethrow } from "../../node/ending.js";
import type { CairnNode } from "../../node/node.js";
import type { Committed } from "../../node/requests/proposals.js";
import type { MemberCredentials } from "../../rpc/security/member_credentials.js";
import { ownMachineServices } from "../../server/machine/services.js";
import { limitRepeats, type RepeatLimitedLogger } from "../../system/log_repeats.js";
import { silentLogger } from "../../system/logger.js";
import { type LaunchedMember, launch, transferLeadershipBeforeStop } from "../launch.js";
import { type ClusterEvent, type LeaderEvent, lagOf, NodeWatch } from "./cluster_events.js";
import { MemberCalls, type ProposeOptions, type QueryOptions } from "./member_calls.js";
import { type CairnMemberOptions, checkMemberOptions, launchOptions } from "./member_options.js";

type Listener = (event: ClusterEvent) => void;

/**
 * A member of a cluster that runs an application's own state machine: the node, its server for
 * peers and operators, and the work that keeps it a member. It finds or founds its cluster, returns
 * after a lost disk, and takes, sends and installs snapshots. Start it with {@link start}; end it
 * with {@link stop}.
 */
export class CairnMember<Result, Machine extends StateMachine<Result>, View> {
  readonly #options: CairnMemberOptions<Result, Machine, View>;
  readonly #logger: RepeatLimitedLogger;
  readonly #watch: NodeWatch;
  readonly #calls: MemberCalls<Result, Machine, View>;
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #leaderWaiters = new Set<() => void>();
  #member!: LaunchedMember<CairnNode<Result, Machine>>;
  /** The error with which calls are refused; undefined while the member runs. */
  #over: CairnError | undefined;
  #stopping: Promise<void> | undefined;

  private constructor(options: CairnMemberOptions<Result, Machine, View>) {
    this.#logger = limitRepeats(options.logger ?? silentLogger);
    this.#options = { ...options, logger: this.#logger };
    this.#watch = new NodeWatch(options.lagEntries ?? 1_000, (event) => this.#emit(event));
    const { machine, peerAddresses } = options;
    const self = this;
    const calling = {
      get node() {
        return self.node;
      },
      assertRunning: () => this.#assertRunning(),
      onceLeaderChanges: (changed: () => void) => this.#onceLeaderChanges(changed),
    };
    const hasCredentials = options.tls !== undefined || options.peerToken !== undefined;
    const members: MemberCredentials | undefined = hasCredentials
      ? {
          to: (name) => self.#member.members!.to(name),
          get token() {
            return self.#member.members?.token;
          },
        }
      : undefined;
    this.#calls = new MemberCalls(calling, machine, { peerAddresses, members });
  }

  /**
   * Starts a member on its data directory, which is created if it does not exist. On return it
   * serves; it may still wait for its cluster to be founded, or for a leader, as {@link propose}
   * and {@link read} do.
   * @throws CairnError INVALID_ARGUMENT, naming the option; DATA_DIRECTORY or CORRUPT when the
   * directory cannot be used
   */
  static async start<Result, Machine extends StateMachine<Result>, View>(
    options: CairnMemberOptions<Result, Machine, View>,
  ): Promise<CairnMember<Result, Machine, View>> {
    checkMemberOptions(options);
    const member = new CairnMember(options);
    await member.#launch();
    return member;
  }

  /** The member's name. */
  get id(): string {
    return this.#options.id;
  }

  /** The address that it listens on: host:port with the real port. */
  get address(): string {
    return this.#member.address;
  }

  /**
   * The node, for an operator's requests. It is another one after the directory has changed its
   * identity.
   */
  get node(): CairnNode<Result, Machine> {
    return this.#member.node;
  }

  /** The leader, as reported by the last `leader` event. */
  get leader(): Omit<LeaderEvent, "kind"> {
    const { leader, term, isSelf } = this.#watch.leader;
    return { leader, term, isSelf };
  }

  /**
   * Number of committed entries that this member knows of and has not applied: its distance behind
   * the leader.
   */
  get lag(): number {
    return lagOf(this.node);
  }

  /**
   * Has the cluster carry out a command, no matter which member leads. On return it is durable on a
   * majority and applied by the leader; this member may apply it later (read with
   * `minAppliedIndex`). The result is the machine's answer.
   * @throws CairnError OUTCOME_UNKNOWN when the command may or may not take effect: it is not
   * proposed again unless `isIdempotent`. TIMEOUT, CANCELLED, STOPPED, DISK_FULL, LIMIT_EXCEEDED,
   * INVALID_ARGUMENT: nothing happened. INTERNAL when it has taken effect, but its result is lost
   */
  async propose(command: Uint8Array, options: ProposeOptions = {}): Promise<Committed<Result>> {
    checkCall(options);
    return this.#calls.propose(command, options);
  }

  /**
   * Reads the state of this member's machine. It shows every command that was answered, at any
   * member, before the call; a `stale` read shows the entries that this member has applied. The
   * query must look at the state before its first await: the state changes afterwards.
   * @throws CairnError TIMEOUT, CANCELLED, STOPPED, DISK_FULL; and any error that the query throws
   */
  async read<Answer>(query: (view: View) => Answer, options: QueryOptions = {}): Promise<Answer> {
    checkFunction("query", query);
    checkCall(options);
    if (options.minAppliedIndex !== undefined) checkWholeNumber("minAppliedIndex", options.minAppliedIndex, 0);
    return this.#calls.read(query, options);
  }

  /**
   * Calls a listener with each event of a kind from now on, one after the other, soon after it
   * happened. Returns a function that ends this. Errors of a listener are logged.
   */
  on<Kind extends ClusterEvent["kind"]>(
    kind: Kind,
    listener: (event: Extract<ClusterEvent, { readonly kind: Kind }>) => void,
  ): () => void {
    checkText("kind", kind);
    checkFunction("listener", listener);
    const listeners = this.#listeners.get(kind) ?? new Set();
    this.#listeners.set(kind, listeners);
    // A listener that is registered twice is called twice.
    const each: Listener = (event) => listener(event as never);
    listeners.add(each);
    return () => void listeners.delete(each);
  }

  /**
   * Stops: hands leadership over if it leads, lets the calls of others end, and closes the data
   * directory. Its own proposals that are not answered by then fail with OUTCOME_UNKNOWN. May be
   * called more than once.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #launch(): Promise<void> {
    const { machine } = this.#options;
    const launched = launchOptions(this.#options, {
      onEvent: (event) => this.#emit(event),
      onTurn: () => this.#look(),
      onFatal: (error) => this.#fail(error),
      servicesOf: (node, members) => ownMachineServices(node, machine, members),
    });
    this.#member = await launch(launched);
    this.#member.failed.catch((error: unknown) => this.#fail(error));
    this.#look();
  }

  async #stop(): Promise<void> {
    const stopped = new CairnError("STOPPED", `member ${this.id} has stopped`);
    const isBroken = this.#over !== undefined;
    this.#over ??= stopped;
    this.#watch.stop();
    this.#wakeLeaderWaiters();
    try {
      if (!isBroken) await transferLeadershipBeforeStop(this.node, this.#options);
      await this.#member.stop();
    } finally {
      this.#calls.close();
      this.#logger.flush();
    }
  }

  /** Looks for changes of the node, after its turn. */
  #look(): void {
    // A node may have its first turn before its member has it.
    if (this.#member !== undefined && this.#over === undefined) this.#watch.look(this.#member.node);
  }

  #fail(error: unknown): void {
    if (this.#over !== undefined) return;
    this.#over = new CairnError("STOPPED", `member ${this.id} failed and stopped: ${CairnError.from(error).text}`);
    this.#watch.stop();
    this.#wakeLeaderWaiters();
    this.#logger.flush();
    (this.#options.onFatal ?? rethrow)(error);
  }

  #assertRunning(): void {
    if (this.#over !== undefined) throw this.#over;
  }

  #onceLeaderChanges(changed: () => void): () => void {
    this.#leaderWaiters.add(changed);
    return () => void this.#leaderWaiters.delete(changed);
  }

  #wakeLeaderWaiters(): void {
    const waiters = [...this.#leaderWaiters];
    this.#leaderWaiters.clear();
    for (const wake of waiters) wake();
  }

  /**
   * Calls the listeners in a microtask, not at once: a listener may call the node, which is in the
   * middle of its work.
   */
  #emit(event: ClusterEvent): void {
    if (event.kind === "leader") this.#wakeLeaderWaiters();
    queueMicrotask(() => {
      const { onEvent } = this.#options;
      for (const listener of [
        ...(onEvent === undefined ? [] : [onEvent]),
        ...(this.#listeners.get(event.kind) ?? []),
      ]) {
        try {
          listener(event);
        } catch (error) {
          this.#logger.error({ err: error, kind: event.kind }, "a listener of the application threw an error");
        }
      }
    });
  }
}

/**
 * Checks the options of a call.
 * @throws CairnError INVALID_ARGUMENT
 */
function checkCall(options: ProposeOptions | QueryOptions): void {
  const { signal, timeoutMs } = checkObject("options", options);
  checkSignal(signal);
  if (timeoutMs !== undefined) checkWholeNumber("timeoutMs", timeoutMs, 0);
}
