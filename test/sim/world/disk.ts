import { DiskPace } from "../../../src/system/disk_pace.js";
import { type Call, FaultyFileSystem, type Keep } from "../../support/disk/faulty_fs.js";
import type { SimCluster } from "./cluster.js";
import type { SimNode } from "./node.js";
import type { SimRandom } from "./random.js";

/** How long calls take, in milliseconds. */
export interface DiskWeather {
  readonly least: number;
  readonly most: number;
  /** Share of the calls that take up to `slowMost` longer. */
  readonly slow: number;
  readonly slowMost: number;
  /** Share of the machines whose log is written directly while their disk is quick. */
  readonly direct: number;
}

/** Calls that take time. The others are answered at once. */
const slowKinds: ReadonlySet<Call["kind"]> = new Set([
  "open",
  "read",
  "write",
  "datasync",
  "truncate",
  "rename",
  "unlink",
  "syncDirectory",
]);

/** Calls that a disk which is stuck does not end: it still gives what it has in memory. */
const stuckKinds: ReadonlySet<Call["kind"]> = new Set([
  "write",
  "datasync",
  "truncate",
  "rename",
  "unlink",
  "syncDirectory",
]);

/** Calls behind whose effect a process may die. */
const changingKinds: ReadonlySet<Call["kind"]> = new Set(["write", "datasync", "rename", "unlink", "syncDirectory"]);

/** A direct call that takes longer than this, in milliseconds, holds its process up noticeably. */
const NOTICEABLE_MS = 1;

/** The disk of one machine: it outlives the processes that use it, and forgets what a power failure takes from it. */
export class SimDisk {
  fs: FaultyFileSystem;
  /** Added to what the weather says, in milliseconds. */
  extraMs = 0;
  /** Calls that wait until it is stuck no longer; undefined: it is not stuck. */
  #stuck: (() => void)[] | undefined;
  /** Calls until the process is to die, in the midst of one of them; 0: not. */
  #callsLeft = 0;
  #die: () => void = () => {};
  /** Callers whose call is under way. */
  readonly #waiting = new Set<() => void>();
  /** Of the present process. Undefined: nothing is written directly here. */
  #pace: DiskPace | undefined;
  readonly #directRandom: SimRandom;
  readonly #mayBeDirect: boolean;

  constructor(
    private readonly cluster: SimCluster,
    private readonly node: SimNode,
    private weather: DiskWeather,
    private readonly random: SimRandom,
  ) {
    this.#directRandom = random.fork("direct");
    this.#mayBeDirect = this.#directRandom.chance(weather.direct);
    this.fs = this.#watched(new FaultyFileSystem(["/data"]));
  }

  /** Where the node's data is. */
  get directory(): string {
    return `/data/${this.node.id}`;
  }

  /** What the file says that tells whose data this is; undefined when there is none, or one that says nothing. */
  identity<Identity>(fs = this.fs): Identity | undefined {
    try {
      return JSON.parse(Buffer.from(fs.contents(`${this.directory}/cairn.json`)).toString());
    } catch {
      return undefined;
    }
  }

  /** The same, as it is when the power goes off now. */
  durableIdentity<Identity>(): Identity | undefined {
    return this.identity(this.fs.peek(this.directory, "none"));
  }

  /** Another disk is put in place of this one, as it is now. */
  replace(fs: FaultyFileSystem): void {
    this.fs.crash({ keep: "none" });
    this.fs = this.#watched(fs);
    for (const end of [...this.#waiting]) end();
  }

  /** A new process has yet to find out how quick the disk is. */
  processStarts(): void {
    this.#pace = this.#mayBeDirect ? new DiskPace() : undefined;
  }

  /** Lets the process die at the nth call from now on: before it has an effect, or behind it. */
  dieAtCall(nth: number, die: () => void): void {
    this.#callsLeft = nth;
    this.#die = die;
  }

  /** The process is gone, and with "none" or "random" the power too: what is there is what the next one finds. */
  crash(keep: Keep): void {
    this.#callsLeft = 0;
    this.fs = this.#watched(this.fs.crash({ keep, random: () => this.random.fraction() }));
    // Their calls end now, with an error.
    for (const end of [...this.#waiting]) end();
  }

  /** From now on no call that changes something ends. */
  hang(): void {
    this.#stuck ??= [];
  }

  /** It goes on with what waits, in the order in which that came. */
  goOn(): void {
    const waiting = this.#stuck ?? [];
    this.#stuck = undefined;
    for (const end of waiting) end();
  }

  /** It is fast, has room, and fails no more than it was told to already. */
  calm(): void {
    this.#callsLeft = 0;
    this.goOn();
    this.extraMs = 0;
    this.fs.capacityBytes = Number.POSITIVE_INFINITY;
    this.weather = { ...this.weather, slow: 0 };
  }

  /** All is lost. */
  wipe(): void {
    this.replace(new FaultyFileSystem(["/data"]));
  }

  #watched(fs: FaultyFileSystem): FaultyFileSystem {
    fs.onCall = (call) => {
      this.cluster.checks.diskCall(this.node, call);
      if (!slowKinds.has(call.kind)) return undefined;
      this.#dieMaybe(call);
      if (fs.powerIsOff) return undefined;
      if (call.runs === "direct") return this.#direct(call);
      return this.#wait(this.#duration(this.random), call);
    };
    fs.isDirect = () => this.#pace?.isQuick === true;
    fs.onEffect = (call) => {
      if (changingKinds.has(call.kind)) this.#dieMaybe(call);
    };
    return fs;
  }

  #dieMaybe({ runs }: Call): void {
    if (this.#callsLeft === 0) return;
    this.#callsLeft -= 1;
    if (this.#callsLeft > 0) return;
    this.cluster.count("crash inside a call of the disk");
    if (runs === "direct") this.cluster.count("crash inside a direct call of the disk");
    this.#die();
  }

  #duration(random: SimRandom): number {
    const { least, most, slow, slowMost } = this.weather;
    let ms = random.between(least, most) + this.extraMs;
    if (random.chance(slow)) ms += random.between(0, slowMost);
    return ms;
  }

  /**
   * A call on the process's own thread has its effect at once. If it takes noticeable time, the whole process stands still behind it; on a
   * disk that is stuck, until it is so no longer.
   */
  #direct({ kind, path }: Call): void {
    const { cluster, node } = this;
    const ms = this.#duration(this.#directRandom);
    cluster.count(`direct ${kind}`);
    if (this.fs.capacityBytes !== Number.POSITIVE_INFINITY)
      cluster.count(`direct ${kind} while the disk has little room`);
    cluster.note(`${node.id} direct ${kind} ${labelOf(path)}`);
    if (this.#stuck !== undefined) {
      cluster.count("a direct call on a stuck disk");
      this.#stuck.push(node.holdUp());
    } else if (ms > NOTICEABLE_MS) {
      const goOn = node.holdUp();
      cluster.scheduler.after(ms, undefined, `${node.id} has waited for its disk`, goOn);
    }
    if (kind !== "datasync") return;
    this.#pace?.direct(this.#stuck === undefined ? ms : Number.POSITIVE_INFINITY);
    if (this.#pace?.isQuick === false) cluster.count("a direct disk is slow again");
  }

  /** A sync in the thread pool has taken so long. */
  #pooled(ms: number): void {
    this.#pace?.pooled(ms);
    if (this.#pace?.isQuick === true) this.cluster.count("a quick disk is written directly");
  }

  #wait(ms: number, call: Call): Promise<void> {
    const { life } = this.node;
    const fromMs = this.cluster.scheduler.nowMs;
    return new Promise((resolve) => {
      const end = () => {
        this.#waiting.delete(end);
        const isOfPool = call.runs === "pooled" && call.kind === "datasync" && this.node.life === life;
        if (isOfPool) this.#pooled(this.cluster.scheduler.nowMs - fromMs);
        resolve();
      };
      this.#waiting.add(end);
      const begin = () => this.cluster.scheduler.after(ms, this.node, `disk ${call.kind} ${labelOf(call.path)}`, end);
      if (this.#stuck !== undefined && stuckKinds.has(call.kind)) this.#stuck.push(begin);
      else begin();
    });
  }
}

function labelOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
