import { createHash, randomUUID } from "node:crypto";
import * as fs from "node:fs";
import { promises as fsp } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { hostname } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { limits } from "../base/limits.js";

// Shows other processes that this one lives, and tells whether another one does. Neither host names
// nor bare process ids suffice: a container that is recreated on the same volume has another host
// name, and the process ids of another container mean nothing in this one. The checks, in this
// order:
//
// - Same kernel run (same boot id) and same namespace of process ids: compare the process id
//   together with the start time of that process.
// - Same kernel run and different namespaces, as containers have: a living process listens on a
//   socket in the directory. The kernel refuses a connection from the moment that the process is
//   gone, whatever ended it, and accepts one as long as the process exists, even while it is
//   stopped.
// - Everything else (another machine, this one before a reboot, a file system without sockets): a
//   living process touches a file every limits.lockBeatMs. A file that is not touched for
//   limits.lockStandstillMs belongs to a dead process.
//
// The first two are certain. The third assumes that no two machines use a directory at the same
// time, or at least that a machine which pauses for that long does not resume. A process that does
// resume finds that it has lost its lock, and stops.

/** A lock's record of the process that holds it. */
export interface Holder {
  /**
   * Of the kernel's run that the process belongs to; where the system has no such id, of the host's
   * name.
   */
  readonly boot: string;
  /** Of this one lock. */
  readonly token: string;
  readonly pid: number;
  /**
   * The namespace that the pid counts in, and when the process was started: both empty where the
   * system does not say.
   */
  readonly pidNamespace: string;
  readonly started: string;
  /** Whether it listens on a socket. */
  readonly listens: boolean;
}

/** A process on show. */
export interface Shown {
  readonly holder: Holder;
  /** Calls back at every beat. */
  onBeat: (() => void) | undefined;
  /** Listens again if somebody has removed the socket. */
  refresh(): Promise<void>;
  /** Ends the show, as the end of the process would. */
  hide(): void;
}

export interface Liveness {
  /** Shows in a directory that this process lives. */
  show(directory: string, token: string): Promise<Shown>;
  /** Whether a holder lives. May take limits.lockStandstillMs; `waits` is told when it does. */
  lives(directory: string, holder: Holder, waits: (ms: number) => void): Promise<boolean>;
  /** Removes what dead processes have left in a directory. */
  tidy(directory: string, own: string): Promise<void>;
  /** Returns the host that a holder says it runs on; undefined when it does not say. */
  hostOf(directory: string, holder: Pick<Holder, "token">): Promise<string | undefined>;
}

/**
 * The location of this process, in terms that other processes can compare. Tests substitute other
 * machines here.
 */
export interface Whereabouts {
  readonly boot: string;
  readonly pidNamespace: string;
  /**
   * When a process was started; undefined when there is none, empty where the system does not say.
   */
  started(pid: number): string | undefined;
}

const NAME = /^lock-([0-9a-f]+)\.(?:sock|beat)$/;

export function livenessAt(
  whereabouts: Whereabouts,
  {
    beatMs = limits.lockBeatMs,
    standstillMs = limits.lockStandstillMs,
  }: { beatMs?: number; standstillMs?: number } = {},
): Liveness {
  return {
    async show(directory, token) {
      const beat = new Beat(beatFile(directory, token), beatMs);
      await beat.begin();
      const socket = new Socket(directory, token);
      const { boot, pidNamespace } = whereabouts;
      const holder = {
        boot,
        token,
        pid: process.pid,
        pidNamespace,
        started: whereabouts.started(process.pid) ?? "",
        listens: await socket.listen(),
      };
      const shown: Shown = {
        holder,
        onBeat: undefined,
        async refresh() {
          if (!holder.listens || (await answers(directory, token)) === "yes") return;
          socket.close();
          await socket.listen();
        },
        hide() {
          socket.close();
          beat.end();
        },
      };
      beat.onBeat = () => shown.onBeat?.();
      return shown;
    },

    async lives(directory, holder, waits) {
      if (holder.boot === whereabouts.boot) {
        if (isOneNamespace(holder.pidNamespace, whereabouts.pidNamespace)) {
          return isSame(holder.started, whereabouts.started(holder.pid));
        }
        const answer = holder.listens ? await answers(directory, holder.token) : "unknown";
        if (answer !== "unknown") return answer === "yes";
      }
      waits(standstillMs);
      return beats(beatFile(directory, holder.token), standstillMs, beatMs);
    },

    async tidy(directory, own) {
      for (const name of await fsp.readdir(directory)) {
        const [, token = own] = NAME.exec(name) ?? [];
        // A process that has no socket makes its file anew at the next beat.
        const isInUse = token === own || (await answers(directory, token)) === "yes";
        if (!isInUse) await fsp.rm(`${directory}/${name}`, { force: true });
      }
    },

    async hostOf(directory, { token }) {
      const text = await fsp.readFile(beatFile(directory, token), "utf8").catch(() => "");
      return text.trim() || undefined;
    },
  };
}

/** Linux has many; where it does not say which one this is, they are not compared. */
function isOneNamespace(a: string, b: string): boolean {
  return a === b && (a !== "" || process.platform !== "linux");
}

/**
 * Whether a process is the one that was started then. Where the system does not say when, it may
 * be.
 */
function isSame(started: string, now: string | undefined): boolean {
  return now !== undefined && (now === started || now === "" || started === "");
}

function beatFile(directory: string, token: string): string {
  return `${directory}/lock-${token}.beat`;
}

function socketFile(directory: string, token: string): string {
  return `${directory}/lock-${token}.sock`;
}

/** A file that is touched again and again. */
class Beat {
  onBeat: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(
    private readonly path: string,
    private readonly beatMs: number,
  ) {}

  async begin(): Promise<void> {
    await this.#touch();
    this.#timer = setInterval(() => {
      // Failing to touch it is no cause to stop: within one machine, nobody looks at it.
      void this.#touch().catch(() => {});
      this.onBeat?.();
    }, this.beatMs);
    this.#timer.unref();
  }

  end(): void {
    clearInterval(this.#timer);
    this.#ended = true;
    fs.rmSync(this.path, { force: true });
  }

  async #touch(): Promise<void> {
    const now = new Date();
    try {
      await fsp.utimes(this.path, now, now);
    } catch {
      await this.#make();
      if (this.#ended) fs.rmSync(this.path, { force: true });
    }
  }

  async #make(): Promise<void> {
    const file = await fsp.open(this.path, "w", 0o600);
    try {
      await file.writeFile(hostname());
    } catch {
      // A full disk: it is there, and can be touched.
    } finally {
      await file.close();
    }
  }
}

/** Whether a file is touched within so many milliseconds. One that is not there is not. */
async function beats(path: string, standstillMs: number, lookMs: number): Promise<boolean> {
  const first = await touchedAt(path);
  for (let waited = 0; waited < standstillMs; waited += lookMs) {
    await pause(lookMs);
    if ((await touchedAt(path)) !== first) return true;
  }
  return false;
}

/** Opened for it: a network file system asks its server then. */
async function touchedAt(path: string): Promise<bigint | undefined> {
  try {
    const file = await fsp.open(path, "r");
    try {
      return (await file.stat({ bigint: true })).mtimeNs;
    } finally {
      await file.close();
    }
  } catch {
    return undefined;
  }
}

/** A socket that one process listens on. */
class Socket {
  #server: Server | undefined;
  /**
   * On Linux the directory stays open: a socket's whole path may have no more than 107 bytes, and
   * this way it has few.
   */
  #directory: number | undefined;

  constructor(
    private readonly directory: string,
    private readonly token: string,
  ) {}

  /** Returns false where there are no sockets. */
  async listen(): Promise<boolean> {
    const path = this.#openPath();
    if (path === undefined) return false;
    const server = createServer((connection) => connection.destroy());
    server.unref();
    const isListening = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen({ path }, () => resolve(true));
    });
    if (isListening) {
      this.#server = server;
      // A broken connection is nobody's concern.
      server.on("error", () => {});
      await fsp.chmod(socketFile(this.directory, this.token), 0o600).catch(() => {});
    } else this.#closeDirectory();
    return isListening;
  }

  /** Nobody is listening on return, and the file is gone. */
  close(): void {
    this.#server?.close();
    this.#server = undefined;
    this.#closeDirectory();
  }

  #openPath(): string | undefined {
    const path = shortPath(this.directory, this.token);
    this.#directory = path.descriptor;
    return path.text;
  }

  #closeDirectory(): void {
    if (this.#directory !== undefined) fs.closeSync(this.#directory);
    this.#directory = undefined;
  }
}

/** Longest path of a socket, in bytes, that every system accepts. */
const SOCKET_PATH_BYTES = 103;

/**
 * A path of a socket that is short enough; through an open directory, which the caller closes,
 * where the system has /proc.
 */
function shortPath(directory: string, token: string): { text: string | undefined; descriptor: number | undefined } {
  const whole = socketFile(directory, token);
  if (Buffer.byteLength(whole) <= SOCKET_PATH_BYTES) return { text: whole, descriptor: undefined };
  if (process.platform !== "linux") return { text: undefined, descriptor: undefined };
  try {
    const descriptor = fs.openSync(directory, fs.constants.O_RDONLY);
    return { text: socketFile(`/proc/self/fd/${descriptor}`, token), descriptor };
  } catch {
    return { text: undefined, descriptor: undefined };
  }
}

/**
 * Whether a process listens on the socket of this token. Unknown: there is none, or no way to ask.
 */
async function answers(directory: string, token: string): Promise<"yes" | "no" | "unknown"> {
  const { text, descriptor } = shortPath(directory, token);
  if (text === undefined) return "unknown";
  try {
    return await new Promise((resolve) => {
      const connection = connect({ path: text });
      connection.once("connect", () => resolve("yes"));
      connection.once("error", ({ code }: NodeJS.ErrnoException) => {
        // Anything else (no permission, too many that wait to be accepted) says that somebody may
        // be there.
        resolve(code === "ECONNREFUSED" ? "no" : code === "ENOENT" ? "unknown" : "yes");
      });
      connection.once("connect", () => connection.destroy());
    });
  } finally {
    if (descriptor !== undefined) fs.closeSync(descriptor);
  }
}

/** Of this machine's kernel, since it was started. */
export const systemBoot = shortHash(bootId() ?? bootSubstitute());

/** The machine that this process runs on. */
export const systemLiveness: Liveness = livenessAt({
  boot: systemBoot,
  pidNamespace: pidNamespace(),
  started: startOf,
});

/**
 * Linux always has a boot id, unless it is none: then nothing is known, and no other process
 * belongs to this run. Others have no containers.
 */
function bootSubstitute(): string {
  return process.platform === "linux" ? randomUUID() : hostname();
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}

/** Id of the kernel's run; undefined where there is none to be had. */
export function bootId(): string | undefined {
  try {
    return fs.readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  } catch {
    return undefined;
  }
}

function pidNamespace(): string {
  try {
    return (/\d+/.exec(fs.readlinkSync("/proc/self/ns/pid")) ?? [""])[0];
  } catch {
    return "";
  }
}

/** In the system's own terms. */
export function startOf(pid: number): string | undefined {
  if (!hasOwnProc()) return isAlive(pid) ? "" : undefined;
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
    // Fields are counted behind the command's name, which may hold anything; the start time is the
    // 22nd field.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    // No such process, or one that this user may not look at.
    return isAlive(pid) ? "" : undefined;
  }
}

/** Whether /proc counts processes as this process does: after "unshare --pid" it does not. */
function hasOwnProc(): boolean {
  try {
    return fs.readlinkSync("/proc/self") === String(process.pid);
  } catch {
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
