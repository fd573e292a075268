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

  constructor(
    private readonly cluster: SimCluster,
    private readonly node: SimNode,
    private weather: DiskWeather,
    private readonly random: SimRandom,
  ) {
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
      this.#dieMaybe();
      return fs.powerIsOff ? undefined : this.#wait(this.#duration(), call);
    };
    fs.onEffect = ({ kind }) => {
      if (changingKinds.has(kind)) this.#dieMaybe();
    };
    return fs;
  }

  #dieMaybe(): void {
    if (this.#callsLeft === 0) return;
    this.#callsLeft -= 1;
    if (this.#callsLeft > 0) return;
    this.cluster.count("crash inside a call of the disk");
    this.#die();
  }

  #duration(): number {
    const { least, most, slow, slowMost } = this.weather;
    let ms = this.random.between(least, most) + this.extraMs;
    if (this.random.chance(slow)) ms += this.random.between(0, slowMost);
    return ms;
  }

  #wait(ms: number, call: Call): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        this.#waiting.delete(end);
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
