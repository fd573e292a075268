import type { CommandResult } from "../../gen/cairn/v1/storage_pb.js";
import type { PeerRequest, Response } from "../../src/core/messages.js";
import type { Entry, Membership, SnapshotMeta } from "../../src/core/types.js";
import { CairnError } from "../../src/errors.js";
import type { SessionLimits } from "../../src/machine/session_limits.js";
import type { ApplyResult } from "../../src/machine/state_machine.js";
import type { Call } from "../support/faulty_fs.js";
import { AppliedOrder } from "./checkers/applied_order.js";
import type { Checker, Observed } from "./checkers/checker.js";
import { CommittedLog } from "./checkers/committed_log.js";
import { Configuration } from "./checkers/configuration.js";
import { DurablePromises } from "./checkers/durable_promises.js";
import { LeaderCompleteness } from "./checkers/leader_completeness.js";
import { LogMatching } from "./checkers/log_matching.js";
import { Majorities } from "./checkers/majorities.js";
import { OneLeader } from "./checkers/one_leader.js";
import { OneLife } from "./checkers/one_life.js";
import { Reference } from "./checkers/reference.js";
import { Requests } from "./checkers/requests.js";
import { Snapshots } from "./checkers/snapshots.js";
import { States } from "./checkers/states.js";
import { TrimmedLog } from "./checkers/trimmed_log.js";
import { Votes } from "./checkers/votes.js";
import type { SimNode } from "./sim_node.js";

/** Errors with which a node may end a stream that brings it a snapshot. */
const streamErrors: ReadonlySet<string> = new Set([
  "CANCELLED",
  "UNREACHABLE",
  "INVALID_ARGUMENT",
  "STALE_TERM",
  "STOPPED",
  "DISK_FULL",
  "BUSY",
]);

/** All checkers, told of everything. What one of them finds is thrown, or rejects what {@link settled} returns. */
export class Checks {
  readonly committed = new CommittedLog();
  readonly requests: Requests;
  readonly leaders = new OneLeader();
  readonly states: States;
  readonly snapshots: Snapshots;
  readonly #all: readonly Checker[];
  /** Those that want to know, by what they want to know. */
  readonly #touched: readonly Checker[];
  #looking: Promise<void>[] = [];
  #failure: { readonly error: unknown } | undefined;

  constructor(members: Membership, sessionLimits: SessionLimits) {
    const { committed } = this;
    const reference = new Reference(committed, members, sessionLimits);
    this.requests = new Requests(sessionLimits);
    this.states = new States(reference);
    this.snapshots = new Snapshots(reference);
    this.#all = [
      committed,
      this.leaders,
      new LogMatching(),
      new LeaderCompleteness(committed),
      new OneLife(committed),
      new AppliedOrder(),
      new Votes(),
      new Majorities(),
      new DurablePromises(committed),
      new TrimmedLog(),
      this.requests,
      this.states,
      this.snapshots,
      new Configuration(committed, reference),
    ];
    this.#touched = this.#all.filter((checker) => checker.touched !== undefined);
  }

  /** An event that touched this node is over. */
  settled(place: SimNode | undefined): Promise<void> | undefined {
    const node = place === undefined ? undefined : observed(place);
    if (node !== undefined) for (const checker of this.#touched) this.#look(checker.touched!(node));
    this.#throwFailure();
    if (this.#looking.length === 0) return undefined;
    return this.#wait();
  }

  started(place: SimNode): void {
    this.#each((checker) => checker.started?.(observed(place)!));
  }

  ended(place: SimNode): void {
    this.#each((checker) => checker.ended?.(place));
  }

  sent(place: SimNode, request: PeerRequest): void {
    this.#each((checker) => checker.sent?.(place, request));
  }

  answering(place: SimNode, asker: SimNode, request: PeerRequest, answer: Response): void {
    const node = observed(place);
    if (node !== undefined) this.#each((checker) => checker.answering?.(node, asker, request, answer));
  }

  promised(place: SimNode, leader: SimNode, term: number, matchIndex: number): void {
    const node = observed(place);
    if (node !== undefined) this.#each((checker) => checker.promised?.(node, leader, term, matchIndex));
  }

  applied(place: SimNode, entries: readonly Entry[], results: readonly ApplyResult<CommandResult>[]): void {
    this.#each((checker) => checker.applied?.(place, entries, results));
  }

  replayed(place: SimNode, entries: readonly Entry[]): void {
    this.#each((checker) => checker.replayed?.(place, entries));
  }

  restored(place: SimNode, meta: SnapshotMeta): void {
    this.#each((checker) => checker.restored?.(place, meta));
  }

  diskCall(place: SimNode, call: Call): void {
    this.#each((checker) => checker.diskCall?.(place, call));
  }

  /** A stream that brought a snapshot, perhaps a corrupt one, has ended with an error at its receiver. */
  installFailed(place: SimNode, error: unknown, isCorrupt: boolean): void {
    const { code } = CairnError.from(error);
    const isFoundOut = code === "CORRUPT" && (place.damage !== undefined || isCorrupt);
    if (streamErrors.has(code) || isFoundOut) return;
    // The sender is far ahead: a hostile message has sent it there.
    if (code === "FAILED_PRECONDITION" && String(error).includes("termJump")) return;
    if (code === "STORAGE_FAILED" && place.expectsStorageFailure) return;
    this.fail(error);
  }

  async finished(places: readonly SimNode[]): Promise<void> {
    const nodes = places.flatMap((place) => observed(place) ?? []);
    for (const checker of this.#all) await checker.finished?.(nodes);
  }

  /** What is called from within the code under test must not throw into it. */
  #each(tell: (checker: Checker) => Promise<void> | undefined | void): void {
    for (const checker of this.#all) {
      try {
        this.#look(tell(checker));
      } catch (error) {
        this.fail(error);
      }
    }
  }

  #look(looking: Promise<void> | undefined | void): void {
    if (looking !== undefined) this.#looking.push(looking.catch((error) => this.fail(error)));
  }

  /** The run has failed; what comes first counts. */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  async #wait(): Promise<void> {
    while (this.#looking.length > 0) {
      const looking = this.#looking;
      this.#looking = [];
      await Promise.all(looking);
    }
    this.#throwFailure();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

function observed(place: SimNode): Observed | undefined {
  const { cairn } = place;
  return cairn === undefined ? undefined : { place, id: place.id, cairn };
}
