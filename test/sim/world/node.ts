import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { memberKey } from "../../../src/base/ids.js";
import type { Claim } from "../../../src/daemon/claim.js";
import type { MemberEvent } from "../../../src/daemon/events.js";
import { RunningMember } from "../../../src/daemon/member.js";
import { checkKeyValuePayload } from "../../../src/machine/kv/payload_check.js";
import { CairnNode } from "../../../src/node/node.js";
import type { MachineOpener, NodeOptions } from "../../../src/node/options.js";
import type { LostData } from "../../../src/raft/state.js";
import type { Entry, Membership } from "../../../src/raft/types.js";
import type { Introducer } from "../../../src/server/introducer.js";
import type { Manifest } from "../../../src/store/levels/manifest.js";
import type { Logger } from "../../../src/system/logger.js";
import type { Keep } from "../../support/disk/faulty_fs.js";
import type { StoreWeather } from "../faults/weather.js";
import type { SimCluster } from "./cluster.js";
import { simWorld } from "./daemon_world.js";
import { SimDisk } from "./disk.js";
import { SimLeases } from "./lease_clients.js";
import {
  type MachineObserver,
  type ObservedMachine,
  ObservedMemory,
  openObservedStore,
  type SavedState,
} from "./observed_machine.js";
import type { SimRandom } from "./random.js";
import { SimClock } from "./time/clock.js";
import type { Place, SimEvent } from "./time/scheduler.js";
import { watchedStores } from "./watched_stores.js";

/** The cluster whose nodes are given their identity. */
export const CLUSTER = "cluster-1";

/** A node while it runs, with its machine. */
export type RunningNode = CairnNode<CommandResult, ObservedMachine>;

/** Options that are the same for all nodes of a run. */
export type ClusterOptions = Partial<NodeOptions<CommandResult, ObservedMachine>>;

/** How long after a full disk refused its start a process is started again, in milliseconds. */
const AGAIN_MS = 1_000;

const START_AGAIN_MS = 100;

/**
 * How a node comes to its identity: somebody has given it one; or its directory draws an incarnation, and it was started with the list of the
 * founders, or told to join.
 */
export type ComesBy = "given" | "list" | "join";

/** A daemon's node, as others reach it. */
export interface Serving {
  readonly node: RunningNode;
  readonly introducer: Introducer;
}

/** Whose data is on a disk, as the file there says. */
interface FoundIdentity {
  readonly incarnation: string;
  readonly clusterId: string;
}

/** A machine of the cluster: its disk, its clock and the processes that live on it, one after the other. */
export class SimNode implements Place {
  readonly address: string;
  readonly disk: SimDisk;
  readonly clock: SimClock;
  readonly deferred: SimEvent[] = [];
  life = 0;
  state: "down" | "starting" | "running" | "stopping" = "down";
  /** The process, when it has recovered. */
  cairn: RunningNode | undefined;
  /** Why its data cannot be trusted any more: it is to be replaced, and may refuse to work. */
  damage: string | undefined;
  /** It will not be used again. */
  isGone = false;
  /** The daemon, when it has started. */
  member: RunningMember<RunningNode> | undefined;
  /** The leases, while a node runs in a cluster that uses them. */
  leases: SimLeases | undefined;
  /** What the daemon serves now. */
  serving: Serving | undefined;
  /** Whose data the node has that was started last: its member key, and its cluster. */
  key: string;
  clusterId: string;
  /** An operator has to see to it: it was refused, or has learned that it was removed. It is not started again before that. */
  isTurnedAway = false;
  /** Index of the newest membership that it was seen with. */
  membershipIndex = 0;
  /** A sync is going to fail, which ends the process. */
  expectsStorageFailure = false;
  #machine: ObservedMachine | undefined;
  /** Undefined: its state is in memory. */
  readonly #storeWeather: StoreWeather | undefined;
  /** The newest manifest that was seen in each directory of a store. */
  readonly #manifests = new Map<string, Manifest>();
  #saved: Promise<SavedState> | undefined;
  /** Ends the loading of a snapshot, with its process. */
  #breakOff: () => void = () => {};
  #isFrozen = false;
  /** Calls that hold the process's thread up. */
  readonly #holdUps = new Set<() => void>();
  /** Nodes that the present process has started. One that its daemon is stopping may not have let go of its directory yet. */
  readonly #nodes = new Set<RunningNode>();
  /** The ends of processes that are gone. */
  #endings = 0;

  constructor(
    private readonly cluster: SimCluster,
    readonly id: string,
    /** Members that the cluster was created with. */
    private readonly members: Membership,
    private readonly random: SimRandom,
    public comesBy: ComesBy,
  ) {
    this.address = `${id}.test:1`;
    this.key = id;
    this.clusterId = comesBy === "given" ? CLUSTER : "";
    this.disk = new SimDisk(cluster, this, cluster.weather.disk, random.fork("disk"));
    const { store } = cluster.weather;
    this.#storeWeather = random.fork("state").chance(store?.share ?? 0) ? store : undefined;
    const { drift } = cluster.weather.clock;
    this.clock = new SimClock(cluster.scheduler, this, 1 + random.between(-drift, drift), random.whole(0, 1e6));
  }

  /** Whether its process stands still. */
  get isPaused(): boolean {
    return this.#isFrozen || this.#holdUps.size > 0;
  }

  get isUp(): boolean {
    return this.cairn !== undefined && this.state === "running";
  }

  /** Starts a process, unless there is one. */
  start(): void {
    if (this.state !== "down" || this.isGone || this.isTurnedAway) return;
    if (this.#endings > 0) {
      // What is left of the process that was killed lets go of its resources first: it may wait for something that takes its time here.
      this.cluster.scheduler.after(START_AGAIN_MS, undefined, `start ${this.id} again`, () => this.start());
      return;
    }
    this.life += 1;
    this.state = "starting";
    this.disk.processStarts();
    if (this.comesBy === "given") this.#startNode();
    else this.#startDaemon(this.comesBy);
  }

  #startNode(): void {
    const { life } = this;
    this.#whoseData();
    CairnNode.start<CommandResult, ObservedMachine>({
      ...this.#options(),
      clusterId: CLUSTER,
      members: this.members,
    }).then(
      (cairn) => {
        if (this.life === life) this.#started(cairn);
        else this.#end(cairn);
      },
      (error) => {
        if (this.life === life) this.#notStarted(error);
      },
    );
  }

  #startDaemon(comesBy: "list" | "join"): void {
    const { life, cluster } = this;
    const founders = this.members.map(({ id, address }) => ({ name: id, address }));
    const others = cluster.nodes.filter((node) => node !== this).map(({ address }) => address);
    const claim: Claim = { name: this.id, alone: this.members, ...wayIn(comesBy, founders) };
    const world = simWorld(this, cluster.network, {
      startNode: (onLost) => this.#startServed(life, onLost),
      serve: (node, introducer) => this.#serve(life, { node, introducer }),
    });
    RunningMember.start<RunningNode>({
      world,
      directory: this.disk.directory,
      claim,
      listen: this.address,
      join: comesBy === "join" ? others : undefined,
      replacesLostData: true,
      onEvent: (event) => {
        if (this.life === life) this.#told(event);
      },
    }).then(
      (member) => {
        if (this.life !== life) return;
        this.member = member;
        this.state = "running";
        member.failed.catch((error) => {
          if (this.life === life) this.#failed(error);
        });
      },
      (error) => {
        if (this.life === life) this.#notStarted(error);
      },
    );
  }

  /** Starts a node for the daemon of a life, on the directory as it is now. */
  async #startServed(life: number, onLost: (lost: LostData) => void): Promise<RunningNode> {
    if (this.life !== life) throw ended();
    this.#whoseData();
    const node = await CairnNode.start<CommandResult, ObservedMachine>({ ...this.#options(), onLost });
    if (this.life !== life) {
      this.#end(node);
      throw ended();
    }
    this.#nodes.add(node);
    return node;
  }

  #serve(life: number, serving: Serving): () => void {
    if (this.life !== life) throw ended();
    this.serving = serving;
    this.#recovered(serving.node);
    return () => {
      if (this.serving !== serving) return;
      this.cluster.checks.ended(this);
      this.serving = undefined;
      this.cairn = undefined;
      this.#endLeases();
    };
  }

  /** An introduction has ended with an error. */
  judgeIntroduction(error: unknown): void {
    const { code } = CairnError.from(error);
    if (["STOPPED", "DISK_FULL", "CANCELLED"].includes(code) || this.state === "down") return;
    if (this.expectsStorageFailure && code === "STORAGE_FAILED") return;
    this.cluster.fail("a new node answers whoever asks it", `${this.id}: ${describe(error)}`);
  }

  #told(event: MemberEvent): void {
    this.cluster.count(`member: ${event.kind}`);
    this.cluster.note(`${this.id}: ${JSON.stringify(event)}`);
    if (event.kind === "lost") this.cluster.checks.replaced(this);
    this.cluster.memberTold(this, event);
  }

  /** The daemon cannot go on, and its process ends. */
  #failed(error: unknown): void {
    const { code, text } = CairnError.from(error);
    if (code === "FAILED_PRECONDITION" && text.includes("must not start as it is")) {
      this.cluster.count("a removed node was refused");
      this.cluster.note(`${this.id} is refused: ${text}`);
      this.isTurnedAway = true;
    } else if (code !== "DISK_FULL") this.#judge(error, "arriving");
    this.kill(this.expectsStorageFailure ? "random" : "all");
    if (code === "DISK_FULL") this.#startAgain();
  }

  #startAgain(): void {
    this.cluster.scheduler.after(AGAIN_MS, undefined, `${this.id} is started again`, () => this.start());
  }

  /** Reads whose data is on the disk, before a node is started on it. */
  #whoseData(): void {
    const found = this.disk.identity<FoundIdentity>();
    this.key = memberKey({ id: this.id, incarnation: found?.incarnation });
    this.clusterId = found?.clusterId ?? (this.comesBy === "given" ? CLUSTER : "");
    this.cluster.directories.started(this.key, this.clusterId);
  }

  /** The process dies here and now; with "none" or "random" the power goes off. */
  kill(keep: Keep): void {
    if (this.state === "down") return;
    const { cairn } = this;
    const isReusable = keep === "all" && this.cluster.weather.keepsState && cairn !== undefined;
    this.#saved = isReusable ? this.#machine?.save?.() : undefined;
    this.#saved?.catch(() => {});
    this.disk.crash(keep);
    this.expectsStorageFailure = false;
    const nodes = new Set(this.#nodes);
    if (cairn !== undefined) nodes.add(cairn);
    this.#lifeEnded();
    for (const node of nodes) this.#end(node);
  }

  /** Asks the process to stop. */
  stop(): void {
    const { life } = this;
    const process = this.comesBy === "given" ? this.cairn : this.member;
    if (process === undefined || this.state !== "running") return;
    this.state = "stopping";
    process.stop().then(
      () => {
        if (this.life === life) this.#lifeEnded();
      },
      (error) => {
        if (this.life !== life) return;
        this.#judge(error, "stopping");
        this.kill("all");
      },
    );
  }

  pause(): void {
    this.#isFrozen = true;
  }

  resume(): void {
    if (!this.#isFrozen) return;
    this.#isFrozen = false;
    this.#resumeMaybe();
  }

  /** Lets the process stand still after what it does just now, until the function that is returned is called. */
  holdUp(): () => void {
    const goOn = () => {
      if (this.#holdUps.delete(goOn)) this.#resumeMaybe();
    };
    this.#holdUps.add(goOn);
    return goOn;
  }

  #resumeMaybe(): void {
    if (!this.isPaused) this.cluster.scheduler.resume(this);
  }

  /** The data is lost; and the machine with it, unless its directory draws its own identity. */
  wipe(): void {
    this.kill("none");
    // It may have promised under a new name already, and not have started again with it.
    const { incarnation = "" } = this.disk.durableIdentity<{ incarnation?: string }>() ?? {};
    const key = memberKey({ id: this.id, incarnation });
    this.disk.wipe();
    this.#manifests.clear();
    for (const each of new Set([this.key, key])) this.cluster.directories.gone(each);
    if (this.comesBy === "given") this.isGone = true;
    else this.#hasNoData();
  }

  /** Whatever is on the disk now is not what the process before has left. */
  forgetState(): void {
    this.#saved = undefined;
  }

  #hasNoData(): void {
    this.forgetState();
    this.damage = undefined;
    this.isTurnedAway = false;
    this.key = this.id;
    this.clusterId = "";
    this.membershipIndex = 0;
  }

  #options(): NodeOptions<CommandResult, ObservedMachine> {
    const { cluster, life } = this;
    return {
      id: this.id,
      directory: this.disk.directory,
      tickMs: 100,
      electionTicks: 10,
      ...cluster.weather.node,
      fs: this.disk.fs,
      clock: this.clock.view(),
      unixMs: () => this.clock.now,
      random: () => this.random.fraction(),
      transport: (self, events) => cluster.network.transport(this, self, events),
      openMachine: this.#opener(),
      logger: this.#logger(),
      onFatal: (error) => {
        if (this.life !== life) return;
        this.cluster.count("a node stopped itself");
        this.#judge(error, "running");
        this.kill(this.expectsStorageFailure ? "random" : "all");
      },
    };
  }

  #opener(): MachineOpener<ObservedMachine> {
    const { checks, weather } = this.cluster;
    const open: MachineOpener<ObservedMachine> = async ({ directory, trustDisk }) => {
      if (directory.endsWith("/scratch")) {
        const observer = {
          applied: (entries: readonly Entry[]) => checks.replayed(this, entries),
          loading: async () => {},
          restored: () => {},
        };
        return new ObservedMemory(observer, weather.sessions);
      }
      const saved = trustDisk ? await this.#saved?.catch(() => undefined) : undefined;
      // The next node of this process has another directory.
      this.#saved = undefined;
      if (saved !== undefined) this.cluster.count("restart with the state that was there");
      const observer: MachineObserver = {
        applied: (entries, results) => checks.applied(this, entries, results),
        loading: () => this.#load(),
        restored: (meta) => checks.restored(this, meta),
      };
      this.#machine =
        this.#storeWeather === undefined
          ? await ObservedMemory.from(saved, observer, weather.sessions)
          : await this.#openStore(directory, this.#storeWeather, observer);
      return this.#machine;
    };
    return Object.assign(open, { checkPayload: checkKeyValuePayload });
  }

  #openStore(directory: string, { rules, cacheBytes }: StoreWeather, observer: MachineObserver) {
    const { weather, checks } = this.cluster;
    const options = { fs: this.disk.fs, clock: this.clock.view(), logger: this.#logger(), rules, cacheBytes };
    const stores = watchedStores(options, this.#manifests, {
      opened: (manifest) => this.cluster.note(`${this.id} opens its store at ${manifest.position.index}`),
      stepped: (before, after) => {
        this.cluster.count("step of a store");
        checks.stepped(this, before, after);
      },
    });
    return openObservedStore({ directory, stores, fs: this.disk.fs, sessionLimits: weather.sessions }, observer);
  }

  /** A large state, as it were. */
  async #load(): Promise<void> {
    const { scheduler, weather } = this.cluster;
    if (weather.loadMost === 0) return;
    const ms = this.random.between(0, weather.loadMost);
    await new Promise<void>((resolve, reject) => {
      this.#breakOff = () => reject(new Error("the process that loads a snapshot is gone"));
      scheduler.after(ms, undefined, `${this.id} loads a snapshot`, resolve);
    });
  }

  #started(cairn: RunningNode): void {
    this.state = "running";
    this.#recovered(cairn);
  }

  #recovered(cairn: RunningNode): void {
    this.cairn = cairn;
    this.#endLeases();
    if (this.cluster.weather.leases !== undefined) this.leases = new SimLeases(this.cluster, this, cairn);
    this.cluster.note(
      `${this.id} has recovered: applied ${cairn.machine.appliedIndex} last ${cairn.raft.log.last.index}`,
    );
    if (cairn.recovery.tornBytes > 0) this.cluster.count("torn record cut off");
    if (cairn.recovery.replayedEntries > 0) this.cluster.count("entries replayed at a start");
    if (cairn.recovery.stateRebuilt) this.cluster.count("state loaded from a snapshot at a start");
    this.cluster.checks.started(this);
  }

  #endLeases(): void {
    this.leases?.stop();
    this.leases = undefined;
  }

  #notStarted(error: unknown): void {
    const { code } = CairnError.from(error);
    this.cluster.count(`start refused with ${code}`);
    if (code === "DISK_FULL") this.#startAgain();
    else this.#judge(error, "starting");
    this.kill(this.expectsStorageFailure ? "random" : "all");
  }

  /** Whether it was to be expected that the process ends with this. */
  #judge(error: unknown, doing: string): void {
    const { code } = CairnError.from(error);
    this.cluster.note(`${this.id} ended ${doing}: ${String(error)}`);
    if (this.damage !== undefined && ["CORRUPT", "DATA_DIRECTORY", "STORAGE_FAILED"].includes(code)) {
      this.cluster.count("damage found");
      if (this.comesBy === "given") this.isGone = true;
      else this.isTurnedAway = true;
    } else if (this.expectsStorageFailure && code === "STORAGE_FAILED") {
      this.cluster.count("failed sync ended a node");
    } else
      this.cluster.fail(`a node ends ${doing} only for a reason that it was given`, `${this.id}: ${describe(error)}`);
  }

  #lifeEnded(): void {
    this.#breakOff();
    this.cluster.checks.ended(this);
    this.life += 1;
    this.state = "down";
    this.cairn = undefined;
    this.#endLeases();
    this.member = undefined;
    this.serving = undefined;
    this.#nodes.clear();
    this.#machine = undefined;
    this.#isFrozen = false;
    this.#holdUps.clear();
    this.deferred.length = 0;
    this.cluster.network.lifeEnded(this);
  }

  /** Lets what is left of the process come to its end: nothing that it does has an effect any more. */
  #end(cairn: RunningNode): void {
    this.#endings += 1;
    const ended = () => {
      this.#endings -= 1;
    };
    // It rejects when the process was being stopped.
    cairn.crash().then(ended, ended);
  }

  #logger(): Logger {
    const { life } = this;
    const log = (facts: object, message: string) => {
      if (this.life === life) this.cluster.logged(this, facts, message);
    };
    return { debug: log, info: log, warn: log, error: log };
  }
}

function wayIn(comesBy: "list" | "join", founders: readonly { readonly name: string; readonly address: string }[]) {
  return comesBy === "list"
    ? ({ cameBy: "cluster", founders } as const)
    : ({ cameBy: "join", founders: undefined } as const);
}

function ended(): CairnError {
  return new CairnError("STOPPED", "the process is gone");
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
