import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import type { ApplyResult } from "../../../src/machine/state_machine.js";
import type { Introduced, Introduction } from "../../../src/raft/membership/introduction.js";
import type { PeerAnswer, PeerRequest, Response } from "../../../src/raft/messages.js";
import type { Entry, Membership, SnapshotMeta } from "../../../src/raft/types.js";
import type { Manifest } from "../../../src/store/levels/manifest.js";
import type { Call } from "../../support/disk/faulty_fs.js";
import type { SimCluster } from "../world/cluster.js";
import { getOrAdd } from "../world/maps.js";
import type { RunningNode, SimNode } from "../world/node.js";
import { AppliedOrder } from "./checkers/applied_order.js";
import { Changes } from "./checkers/changes.js";
import type { Checker, Observed } from "./checkers/checker.js";
import { CommittedLog } from "./checkers/committed_log.js";
import { Configuration } from "./checkers/configuration.js";
import { DurablePromises } from "./checkers/durable_promises.js";
import { Introductions } from "./checkers/introductions.js";
import { LeaderCompleteness } from "./checkers/leader_completeness.js";
import { LeaseTimes } from "./checkers/lease_times.js";
import { LogMatching } from "./checkers/log_matching.js";
import { Losses } from "./checkers/losses.js";
import { Majorities } from "./checkers/majorities.js";
import { OneLeader } from "./checkers/one_leader.js";
import { OneLife } from "./checkers/one_life.js";
import { Reference } from "./checkers/reference.js";
import { Requests } from "./checkers/requests.js";
import { Snapshots } from "./checkers/snapshots.js";
import { States } from "./checkers/states.js";
import { StoreFiles } from "./checkers/store_files.js";
import { TrimmedLog } from "./checkers/trimmed_log.js";
import { Votes } from "./checkers/votes.js";
import { Watches } from "./checkers/watches.js";

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

/** The checkers of one cluster. */
export class ClusterChecks {
  readonly committed = new CommittedLog();
  readonly requests: Requests;
  readonly leaders = new OneLeader();
  readonly leases = new LeaseTimes();
  readonly states: States;
  readonly snapshots: Snapshots;
  readonly watches: Watches;
  readonly storeFiles = new StoreFiles();
  readonly all: readonly Checker[];
  /** Those that want to know of each change. */
  readonly touched: readonly Checker[];
  /** It was told why nothing holds any more. */
  isExcused = false;

  /** `members`: those that the cluster's nodes were given; none when they have drawn their identity. */
  constructor(clusterId: string, members: Membership, cluster: SimCluster, changes: Changes) {
    const { committed } = this;
    const { sessions: sessionLimits } = cluster.weather;
    const reference = new Reference(committed, clusterId, members, sessionLimits);
    this.requests = new Requests(sessionLimits);
    this.states = new States(reference);
    this.snapshots = new Snapshots(reference);
    this.watches = new Watches(cluster, clusterId);
    this.all = [
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
      this.leases,
      this.states,
      this.snapshots,
      new Configuration(committed, reference),
      changes,
      this.watches,
    ];
    this.touched = this.all.filter((checker) => checker.touched !== undefined);
  }
}

/** All checkers, told of everything. What one of them finds is thrown, or rejects what {@link settled} returns. */
export class Checks {
  readonly #clusters = new Map<string, ClusterChecks>();
  readonly #introductions: Introductions;
  readonly #losses: Losses;
  readonly #changes: Changes;
  #looking: Promise<void>[] = [];
  #failure: { readonly error: unknown } | undefined;

  constructor(private readonly cluster: SimCluster) {
    this.#introductions = new Introductions(cluster.directories);
    this.#changes = new Changes(cluster);
    this.#losses = new Losses(
      cluster.directories,
      (clusterId, why) => this.#excuse(clusterId, why),
      (clusterId) => this.isExcused(clusterId),
    );
  }

  /** Those of a cluster. */
  of(clusterId: string): ClusterChecks {
    const members = this.cluster.isDrawn ? [] : this.cluster.founders;
    const { cluster } = this;
    return getOrAdd(this.#clusters, clusterId, () => new ClusterChecks(clusterId, members, cluster, this.#changes));
  }

  /** Those of all clusters that there were. */
  get clusters(): readonly ClusterChecks[] {
    return [...this.#clusters.values()];
  }

  get ids(): readonly string[] {
    return [...this.#clusters.keys()];
  }

  /** Whether all who watch a cluster that is not excused know all that their nodes have applied. */
  get watchesKnowAll(): boolean {
    return this.clusters.every(({ isExcused, watches }) => isExcused || watches.knowAll);
  }

  /** Whether a cluster has lost what no rule saves. */
  isExcused(clusterId: string): boolean {
    return this.#clusters.get(clusterId)?.isExcused === true;
  }

  /** An event that touched this node is over. */
  settled(place: SimNode | undefined): Promise<void> | undefined {
    const node = place === undefined ? undefined : observed(place);
    if (node !== undefined) {
      this.#losses.touched(node);
      const checks = this.#of(node.place);
      if (checks !== undefined) for (const checker of checks.touched) this.#look(checker.touched!(node));
    }
    this.#throwFailure();
    if (this.#looking.length === 0) return undefined;
    return this.#wait();
  }

  started(place: SimNode): void {
    this.#each(place, (checker) => checker.started?.(observed(place)!));
  }

  ended(place: SimNode): void {
    this.#each(place, (checker) => checker.ended?.(place));
  }

  sent(place: SimNode, request: PeerRequest): void {
    this.#guard(() => this.#losses.sent(place, request));
    this.#each(place, (checker) => checker.sent?.(place, request));
  }

  answering(place: SimNode, request: PeerRequest, answer: Response, wasLost: boolean): void {
    const node = observed(place);
    if (node === undefined) return;
    this.#guard(() => this.#losses.answered(place, request, answer, wasLost));
    this.#each(place, (checker) => checker.answering?.(node, request, answer));
  }

  heard(place: SimNode, answer: PeerAnswer): void {
    const node = observed(place);
    if (node !== undefined) this.#each(place, (checker) => checker.heard?.(node, answer));
  }

  promised(place: SimNode, leader: string, term: number, matchIndex: number): void {
    const node = observed(place);
    if (node !== undefined) this.#each(place, (checker) => checker.promised?.(node, leader, term, matchIndex));
  }

  applied(place: SimNode, entries: readonly Entry[], results: readonly ApplyResult<CommandResult>[]): void {
    this.#each(place, (checker) => checker.applied?.(place, entries, results));
  }

  /** A step of a node's store has made a manifest from the one before. */
  stepped(place: SimNode, before: Manifest, after: Manifest): void {
    this.#guard(() => this.#of(place)?.storeFiles.stepped(place, before, after));
  }

  /** The keeper of a node's leases is about to propose this. */
  decided(place: SimNode, node: RunningNode, data: Uint8Array): void {
    this.#guard(() => this.#of(place)?.leases.decided(place, node, data));
  }

  replayed(place: SimNode, entries: readonly Entry[]): void {
    this.#each(place, (checker) => checker.replayed?.(place, entries));
  }

  restored(place: SimNode, meta: SnapshotMeta): void {
    this.#each(place, (checker) => checker.restored?.(place, meta));
  }

  diskCall(place: SimNode, call: Call): void {
    this.#each(place, (checker) => checker.diskCall?.(place, call));
  }

  /** A node has answered an introduction. */
  introduced(place: SimNode, node: RunningNode, asked: Introduction, introduced: Introduced): void {
    this.#guard(() => this.#introductions.introduced(place, node, asked, introduced));
  }

  founded(clusterId: string, members: Membership): void {
    this.#guard(() => this.#introductions.founded(clusterId, members));
  }

  /** A leader takes a member for one that has lost data. */
  lostSeen(leader: SimNode, key: string): void {
    this.#guard(() => this.#losses.seen(key, leader.id));
  }

  /** A daemon has set its directory aside. */
  replaced(place: SimNode): void {
    this.#guard(() => this.#losses.seen(place.key, place.id));
    this.cluster.directories.gone(place.key);
  }

  /** A stream that brought a snapshot, perhaps a corrupt one, has ended with an error at its receiver. */
  installFailed(place: SimNode, error: unknown, isCorrupt: boolean): void {
    const { code } = CairnError.from(error);
    const isFoundOut = code === "CORRUPT" && (place.damage !== undefined || isCorrupt);
    if (streamErrors.has(code) || isFoundOut) return;
    // The sender is far ahead: a hostile message has sent it there.
    if (code === "FAILED_PRECONDITION" && String(error).includes("termJump")) return;
    // T10: the receiver does not know yet that the sender votes.
    if (code === "FAILED_PRECONDITION" && /is not a (member|voter) in the membership/.test(String(error))) return;
    if (code === "FAILED_PRECONDITION" && String(error).includes("is another directory than the one")) return;
    // The node has found out meanwhile that it has lost data (T3).
    if (code === "FAILED_PRECONDITION" && place.cairn?.raft.lost !== undefined) return;
    if (code === "STORAGE_FAILED" && place.expectsStorageFailure) return;
    this.fail(error);
  }

  async finished(places: readonly SimNode[]): Promise<void> {
    for (const [clusterId, { all, isExcused }] of this.#clusters) {
      if (isExcused) continue;
      const nodes = places.flatMap((place) => (place.clusterId === clusterId ? (observed(place) ?? []) : []));
      for (const checker of all) await checker.finished?.(nodes);
    }
  }

  #excuse(clusterId: string, why: string): void {
    const checks = this.of(clusterId);
    if (checks.isExcused) return;
    checks.isExcused = true;
    this.cluster.count("a cluster that no rule saves");
    this.cluster.note(`cluster ${clusterId} is not saved: ${why}, which has lost what it knew`);
  }

  /** Those that look after a node; none while it belongs to no cluster, or to one that is past saving. */
  #of({ clusterId }: SimNode): ClusterChecks | undefined {
    if (clusterId === "") return undefined;
    const checks = this.of(clusterId);
    return checks.isExcused ? undefined : checks;
  }

  /** What is called from within the code under test must not throw into it. */
  #each(place: SimNode, tell: (checker: Checker) => Promise<void> | undefined | void): void {
    const checks = this.#of(place);
    if (checks === undefined) return;
    for (const checker of checks.all) {
      try {
        this.#look(tell(checker));
      } catch (error) {
        this.fail(error);
      }
    }
  }

  #guard(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.fail(error);
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
  return cairn === undefined ? undefined : { place, id: place.key, cairn };
}
