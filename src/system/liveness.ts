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
   * Hash of the id of the kernel run that the process belongs to, or of the host name on a system
   * without such an id.
   */
  readonly boot: string;
  /** Random id of this one lock. */
  readonly token: string;
  readonly pid: number;
  /**
   * The namespace of the pid, and the start time of the process; both empty when the system does
   * not provide them.
   */
  readonly pidNamespace: string;
  readonly started: string;
  /** Whether the process listens on a socket. */
  readonly listens: boolean;
}

/** The signs of life of this process in a directory. */
export interface Shown {
  readonly holder: Holder;
  /** Calls back at every beat. */
  onBeat: (() => void) | undefined;
  /** Listens again if the socket was removed. */
  refresh(): Promise<void>;
  /** Removes the signs of life, as the end of the process would. */
  hide(): void;
}

export interface Liveness {
  /** Shows in a directory that this process lives. */
  show(directory: string, token: string): Promise<Shown>;
  /** Whether a holder lives. May take limits.lockStandstillMs; it calls `waits` when it does. */
  lives(directory: string, holder: Holder, waits: (ms: number) => void): Promise<boolean>;
  /** Removes the files that dead processes have left in a directory. */
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
   * Returns the start time of a process; undefined when it does not exist, empty when the system
   * does not provide it.
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
        // A process without a socket recreates its file at the next beat.
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

/**
 * Whether two namespaces of process ids are the same. Linux has many; when it does not name this
 * process's namespace, they do not compare as equal.
 */
function isOneNamespace(a: string, b: string): boolean {
  return a === b && (a !== "" || process.platform !== "linux");
}

/**
 * Whether a process is the one with the start time `started`. Without a known start time it may be.
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

/** Touches a file at regular intervals. */
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
      // A failure to touch the file is no reason to stop: within one machine no process reads it.
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
      // The disk is full. The empty file exists, and can be touched.
    } finally {
      await file.close();
    }
  }
}

/**
 * Whether a file is touched within `standstillMs`, checked every `lookMs`. A missing file is not.
 */
async function beats(path: string, standstillMs: number, lookMs: number): Promise<boolean> {
  const first = await touchedAt(path);
  for (let waited = 0; waited < standstillMs; waited += lookMs) {
    await pause(lookMs);
    if ((await touchedAt(path)) !== first) return true;
  }
  return false;
}

/**
 * Returns the time of the last touch; undefined when the file is missing. It opens the file,
 * because a network file system then asks its server.
 */
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

/** Listens on a socket in the directory. */
class Socket {
  #server: Server | undefined;
  /**
   * Descriptor of the directory, held open on Linux when the path of the socket is too long: it may
   * have at most 107 bytes, and a path through the descriptor is short.
   */
  #directory: number | undefined;

  constructor(
    private readonly directory: string,
    private readonly token: string,
  ) {}

  /** Starts to listen. Returns false on a file system without sockets. */
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
      // Ignore broken connections.
      server.on("error", () => {});
      await fsp.chmod(socketFile(this.directory, this.token), 0o600).catch(() => {});
    } else this.#closeDirectory();
    return isListening;
  }

  /** Stops listening. On return no process listens, and the file is gone. */
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
 * Returns a path of the socket that is short enough. On a system with /proc it may go through an
 * open directory, which the caller closes.
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
 * Whether a process listens on the socket of this token. Unknown: the socket is missing, or cannot
 * be reached by a short path.
 */
async function answers(directory: string, token: string): Promise<"yes" | "no" | "unknown"> {
  const { text, descriptor } = shortPath(directory, token);
  if (text === undefined) return "unknown";
  try {
    return await new Promise((resolve) => {
      const connection = connect({ path: text });
      connection.once("connect", () => resolve("yes"));
      connection.once("error", ({ code }: NodeJS.ErrnoException) => {
        // Any other error (no permission, too many waiting connections) means that a process may be
        // listening.
        resolve(code === "ECONNREFUSED" ? "no" : code === "ENOENT" ? "unknown" : "yes");
      });
      connection.once("connect", () => connection.destroy());
    });
  } finally {
    if (descriptor !== undefined) fs.closeSync(descriptor);
  }
}

/** Id of the current run of this machine's kernel. */
export const systemBoot = shortHash(bootId() ?? bootSubstitute());

/** Liveness on the machine that this process runs on. */
export const systemLiveness: Liveness = livenessAt({
  boot: systemBoot,
  pidNamespace: pidNamespace(),
  started: startOf,
});

/**
 * Returns a substitute for the boot id. Linux always provides one; if it is missing there, nothing
 * is known, and no other process counts as part of this run. Other systems have no containers.
 */
function bootSubstitute(): string {
  return process.platform === "linux" ? randomUUID() : hostname();
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}

/** Returns the id of the kernel run; undefined when the system does not provide one. */
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

/**
 * Returns the start time of a process, in the system's own units; undefined when it does not exist,
 * empty when the system does not provide it.
 */
export function startOf(pid: number): string | undefined {
  if (!hasOwnProc()) return isAlive(pid) ? "" : undefined;
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
    // Count the fields after the command's name, which may contain anything; the start time is the
    // 22nd field.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    // The process does not exist, or this user may not inspect it.
    return isAlive(pid) ? "" : undefined;
  }
}

/**
 * Whether /proc shows the process ids of this process's namespace; after "unshare --pid" it does
 * not.
 */
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
