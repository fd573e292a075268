import type { CommandResult } from "../../gen/cairn/v1/storage_pb.js";
import type { Entry, Membership } from "../../src/core/types.js";
import { CairnError } from "../../src/errors.js";
import { checkKeyValuePayload } from "../../src/machine/payload_check.js";
import type { Logger } from "../../src/node/logger.js";
import { CairnNode } from "../../src/node/node.js";
import type { MachineOpener, NodeOptions } from "../../src/node/options.js";
import type { Keep } from "../support/faulty_fs.js";
import { SimClock } from "./clock.js";
import type { SimCluster } from "./cluster.js";
import { SimDisk } from "./disk.js";
import { type MachineObserver, ObservedMachine, type SavedState } from "./observed_machine.js";
import type { SimRandom } from "./random.js";
import type { Place, SimEvent } from "./scheduler.js";

export const CLUSTER = "cluster-1";

/** A node while it runs, with its machine. */
export type RunningNode = CairnNode<CommandResult, ObservedMachine>;

/** Options that are the same for all nodes of a run. */
export type ClusterOptions = Partial<NodeOptions<CommandResult, ObservedMachine>>;

/** How long after a full disk refused its start a process is started again, in milliseconds. */
const AGAIN_MS = 1_000;

const START_AGAIN_MS = 100;

/** A machine of the cluster: its disk, its clock and the processes that live on it, one after the other. */
export class SimNode implements Place {
  readonly address: string;
  readonly disk: SimDisk;
  readonly clock: SimClock;
  readonly deferred: SimEvent[] = [];
  life = 0;
  isPaused = false;
  state: "down" | "starting" | "running" | "stopping" = "down";
  /** The process, when it has recovered. */
  cairn: RunningNode | undefined;
  /** Why its data cannot be trusted any more: it is to be replaced, and may refuse to work. */
  damage: string | undefined;
  /** It will not be used again. */
  isGone = false;
  /** Index of the newest membership that it was seen with. */
  membershipIndex = 0;
  /** A sync is going to fail, which ends the process. */
  expectsStorageFailure = false;
  #machine: ObservedMachine | undefined;
  #saved: Promise<SavedState> | undefined;
  /** Ends the loading of a snapshot, with its process. */
  #breakOff: () => void = () => {};
  /** The ends of processes that are gone. */
  #endings = 0;

  constructor(
    private readonly cluster: SimCluster,
    readonly id: string,
    /** Members that the cluster was created with. */
    private readonly members: Membership,
    private readonly random: SimRandom,
  ) {
    this.address = `${id}.test:1`;
    this.disk = new SimDisk(cluster, this, cluster.weather.disk, random.fork("disk"));
    const { drift } = cluster.weather.clock;
    this.clock = new SimClock(cluster.scheduler, this, 1 + random.between(-drift, drift), random.whole(0, 1e6));
  }

  get isUp(): boolean {
    return this.cairn !== undefined && this.state === "running";
  }

  /** Starts a process, unless there is one. */
  start(): void {
    if (this.state !== "down" || this.isGone) return;
    if (this.#endings > 0) {
      // What is left of the process that was killed lets go of its resources first: it may wait for something that takes its time here.
      this.cluster.scheduler.after(START_AGAIN_MS, undefined, `start ${this.id} again`, () => this.start());
      return;
    }
    this.life += 1;
    this.state = "starting";
    const { life } = this;
    CairnNode.start(this.#options()).then(
      (cairn) => {
        if (this.life === life) this.#started(cairn);
        else this.#end(cairn);
      },
      (error) => {
        if (this.life === life) this.#notStarted(error);
      },
    );
  }

  /** The process dies here and now; with "none" or "random" the power goes off. */
  kill(keep: Keep): void {
    if (this.state === "down") return;
    const { cairn } = this;
    const isReusable = keep === "all" && this.cluster.weather.keepsState && cairn !== undefined;
    this.#saved = isReusable ? this.#machine?.save() : undefined;
    this.#saved?.catch(() => {});
    this.disk.crash(keep);
    this.expectsStorageFailure = false;
    this.#lifeEnded();
    if (cairn !== undefined) this.#end(cairn);
  }

  /** Asks the process to stop. */
  stop(): void {
    const { cairn, life } = this;
    if (cairn === undefined || this.state !== "running") return;
    this.state = "stopping";
    cairn.stop().then(
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
    this.isPaused = true;
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.cluster.scheduler.resume(this);
  }

  /** The data is lost, and the machine with it. */
  wipe(): void {
    this.kill("none");
    this.disk.wipe();
    this.isGone = true;
  }

  #options(): NodeOptions<CommandResult, ObservedMachine> {
    const { cluster, life } = this;
    return {
      id: this.id,
      directory: this.disk.directory,
      clusterId: CLUSTER,
      members: this.members,
      tickMs: 100,
      electionTicks: 10,
      ...cluster.weather.node,
      fs: this.disk.fs,
      clock: this.clock.view(),
      unixMs: () => this.clock.now,
      random: () => this.random.fraction(),
      transport: (_self, events) => cluster.network.transport(this, events),
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
        return new ObservedMachine(observer, weather.sessions);
      }
      const saved = trustDisk ? await this.#saved?.catch(() => undefined) : undefined;
      if (saved !== undefined) this.cluster.count("restart with the state that was there");
      const observer: MachineObserver = {
        applied: (entries, results) => checks.applied(this, entries, results),
        loading: () => this.#load(),
        restored: (meta) => checks.restored(this, meta),
      };
      this.#machine = await ObservedMachine.from(saved, observer, weather.sessions);
      return this.#machine;
    };
    return Object.assign(open, { checkPayload: checkKeyValuePayload });
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
    this.cairn = cairn;
    this.state = "running";
    this.cluster.note(
      `${this.id} has recovered: applied ${cairn.machine.appliedIndex} last ${cairn.raft.log.last.index}`,
    );
    if (cairn.recovery.tornBytes > 0) this.cluster.count("torn record cut off");
    if (cairn.recovery.replayedEntries > 0) this.cluster.count("entries replayed at a start");
    if (cairn.recovery.stateRebuilt) this.cluster.count("state loaded from a snapshot at a start");
    this.cluster.checks.started(this);
  }

  #notStarted(error: unknown): void {
    const { code } = CairnError.from(error);
    this.cluster.count(`start refused with ${code}`);
    if (code === "DISK_FULL") {
      this.cluster.scheduler.after(AGAIN_MS, undefined, `${this.id} is started again`, () => this.start());
    } else this.#judge(error, "starting");
    this.kill(this.expectsStorageFailure ? "random" : "all");
  }

  /** Whether it was to be expected that the process ends with this. */
  #judge(error: unknown, doing: string): void {
    const { code } = CairnError.from(error);
    this.cluster.note(`${this.id} ended ${doing}: ${String(error)}`);
    if (this.damage !== undefined && ["CORRUPT", "DATA_DIRECTORY", "STORAGE_FAILED"].includes(code)) {
      this.cluster.count("damage found");
      this.isGone = true;
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
    this.#machine = undefined;
    this.isPaused = false;
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

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
