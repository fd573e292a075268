import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { CairnError, hasCode } from "../base/errors.js";
import { type FileSystem, readSmallFile } from "../system/fs.js";
import { bootId, type Holder, type Shown, startOf } from "../system/liveness.js";

// Locks a data directory, so that one process at a time uses it.

/** Tokens of the locks that this process holds, or is about to take. */
const heldHere = new Set<string>();

/** Tokens of locks that this process held, and may have left in a directory as a crash would. */
const abandonedHere = new Set<string>();

export interface LockOptions {
  /** Receives a text that explains a wait. */
  readonly say?: ((text: string) => void) | undefined;
}

/**
 * A lock on a directory, held by one process. A process takes it over from a dead one; liveness.ts
 * tells the dead from the living.
 *
 * Locks are symbolic links named `lock.<n>`, whose text names the holder; the highest number
 * counts. A process takes the lock by making the link with the next number: only one process can do
 * that, and the link is complete from the start. The highest link is never removed, only marked as
 * released, so no number is used twice: a process that acted on an old listing sees a higher number
 * afterwards and gives way. A link needs no room: a node can start on a full disk.
 */
export class DirectoryLock {
  #released = false;
  #lost: CairnError | undefined;
  #onLost: ((error: CairnError) => void) | undefined;

  private constructor(
    private readonly fs: FileSystem,
    private readonly directory: string,
    private readonly number: number,
    private readonly token: string,
    private readonly shown: Shown | undefined,
  ) {
    if (shown !== undefined) shown.onBeat = () => void this.#look();
  }

  /**
   * Takes the lock. Waits for up to limits.lockStandstillMs when only a standstill can show that
   * the holder is dead.
   * @throws CairnError DATA_DIRECTORY when a living process holds the lock; DISK_FULL
   */
  static async acquire(fs: FileSystem, directory: string, { say }: LockOptions = {}): Promise<DirectoryLock> {
    const token = randomUUID().replaceAll("-", "").slice(0, 12);
    heldHere.add(token);
    let shown: Shown | undefined;
    try {
      shown = await fs.liveness?.show(directory, token);
      const holder = shown?.holder ?? { ...NOWHERE, token };
      const number = await take(fs, directory, holder, say);
      await shown?.refresh();
      await removeOld(fs, directory, number);
      await fs.liveness?.tidy(directory, token);
      return new DirectoryLock(fs, directory, number, token, shown);
    } catch (error) {
      forget(token, shown);
      throw error;
    }
  }

  /**
   * Checks that no living process holds the lock, without taking it: nothing in the directory
   * changes. Returns a check, for later, that no process has taken it since. Waits as
   * {@link acquire} does.
   * @throws CairnError DATA_DIRECTORY when a living process holds the lock; so does the check
   */
  static async expectFree(fs: FileSystem, directory: string, { say }: LockOptions = {}): Promise<() => Promise<void>> {
    const top = await highest(fs, directory);
    if (top > 0) await assertDead(fs, directory, `${directory}/lock.${top}`, say);
    return async () => {
      if ((await highest(fs, directory)) === top) return;
      const text = `a process has opened data directory ${directory} in the meantime, so what was read may be mixed`;
      throw new CairnError("DATA_DIRECTORY", `${text}. Stop it, and run this again.`);
    };
  }

  /**
   * Calls back once when the lock turns out to be another process's: this process stood still for
   * so long that it was taken for dead. It must stop.
   */
  onLost(callback: (error: CairnError) => void): void {
    this.#onLost = callback;
    if (this.#lost !== undefined) callback(this.#lost);
  }

  /** Releases the lock; may be called more than once. */
  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    const file = this.#file;
    const marked = `${file}.released`;
    try {
      // The lock is another process's now, and not this one's to release.
      if (this.#lost !== undefined) return;
      await this.fs.unlink(marked).catch(ignoreMissing);
      await this.fs.symlink(RELEASED, marked);
      await this.fs.rename(marked, file);
    } catch (error) {
      // The lock stays as it is; its holder counts as dead once this process has ended.
      if (!hasCode(error, "DISK_FULL")) throw error;
    } finally {
      this.abandon();
    }
  }

  /**
   * Abandons the lock without releasing it, as a crash does: the link stays, and its holder counts
   * as dead.
   */
  abandon(): void {
    this.#released = true;
    forget(this.token, this.shown);
  }

  get #file(): string {
    return `${this.directory}/lock.${this.number}`;
  }

  async #look(): Promise<void> {
    if (this.#released || this.#lost !== undefined) return;
    const top = await highest(this.fs, this.directory).catch(() => this.number);
    if (top === this.number || this.#released) return;
    const text = `another process has taken ${this.directory} over, because this one was paused for a long time`;
    this.#lost = new CairnError("DATA_DIRECTORY", `${text}: it stops`);
    this.#onLost?.(this.#lost);
  }
}

/** Text of a lock that nobody holds. */
const RELEASED = "2:released";

/** Describes a process that no other process can meet. */
const NOWHERE: Omit<Holder, "token"> = { boot: "", pid: process.pid, pidNamespace: "", started: "", listens: false };

async function take(
  fs: FileSystem,
  directory: string,
  self: Holder,
  say: ((text: string) => void) | undefined,
): Promise<number> {
  for (;;) {
    const top = await highest(fs, directory);
    if (top > 0) await assertDead(fs, directory, `${directory}/lock.${top}`, say);
    const own = top + 1;
    try {
      await fs.symlink(textOf(self), `${directory}/lock.${own}`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") continue;
      throw error;
    }
    if ((await highest(fs, directory)) === own) return own;
    await fs.unlink(`${directory}/lock.${own}`);
  }
}

/** Encodes a holder in few bytes: a link of fewer than 60 takes no room. Numbers are in base 36. */
function textOf({ boot, token, pid, pidNamespace, started, listens }: Holder): string {
  const short = (text: string) => (text === "" ? "" : Number(text).toString(36));
  return ["2", boot, token, pid, short(pidNamespace), short(started), listens ? "s" : ""].join(":");
}

/** Decodes a holder; undefined for a text that is no lock of this version. */
function holderIn(text: string): Holder | undefined {
  const [version, boot, token, pid, pidNamespace, started, listens] = text.split(":");
  if (version !== "2" || boot === undefined || token === undefined || pidNamespace === undefined) return undefined;
  const long = (text: string | undefined) => (text ? String(Number.parseInt(text, 36)) : "");
  return {
    boot,
    token,
    pid: Number(pid),
    pidNamespace: long(pidNamespace),
    started: long(started),
    listens: listens === "s",
  };
}

async function assertDead(
  fs: FileSystem,
  directory: string,
  file: string,
  say: ((text: string) => void) | undefined,
): Promise<void> {
  const text = await readText(fs, file);
  if (text === undefined) return assertOldDead(fs, directory, file);
  const holder = holderIn(text);
  if (holder === undefined) {
    if (text === RELEASED || text === "") return;
    const advice = `If no process uses the directory, remove ${file} and start again.`;
    throw inUse(directory, `the process that wrote ${file}, which this version of Cairn cannot read`, advice);
  }
  const { liveness } = fs;
  if (heldHere.has(holder.token)) {
    throw inUse(directory, `this process (pid ${process.pid})`, "Stop the node that uses it.");
  }
  if (liveness === undefined || abandonedHere.has(holder.token)) return;
  const host = await liveness.hostOf(directory, holder);
  const name = `pid ${holder.pid}${host === undefined || host === hostname() ? "" : ` on host ${host}`}`;
  let hasWaited = false;
  const lives = await liveness.lives(directory, holder, (ms) => {
    hasWaited = true;
    say?.(
      `data directory ${directory} was last in use by ${name}, which cannot be seen from here: waiting for up to ${ms / 1_000} s to see ` +
        "whether it is alive",
    );
  });
  if (lives) throw inUse(directory, name, "Stop that process, or choose another directory.");
  if (hasWaited)
    say?.(
      `data directory ${directory}: ${name} has shown no sign of life, and counts as dead. Taking the directory over`,
    );
}

function forget(token: string, shown: Shown | undefined): void {
  heldHere.delete(token);
  abandonedHere.add(token);
  shown?.hide();
}

function inUse(directory: string, holder: string, advice: string): CairnError {
  return new CairnError("DATA_DIRECTORY", `data directory ${directory} is in use by ${holder}. ${advice}`);
}

/** Returns the text of a lock; empty when the lock is gone, undefined when it is a file. */
async function readText(fs: FileSystem, file: string): Promise<string | undefined> {
  try {
    return await fs.readLink(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return "";
    if (code === "EINVAL") return undefined;
    throw error;
  }
}

async function highest(fs: FileSystem, directory: string): Promise<number> {
  const names = await fs.list(directory);
  return Math.max(
    0,
    ...names.flatMap((name) => (/^lock\.\d+$/.test(name) ? [Number(name.slice("lock.".length))] : [])),
  );
}

/** Removes the locks below this process's own, and the drafts that version 0.1 left. */
async function removeOld(fs: FileSystem, directory: string, own: number): Promise<void> {
  for (const name of await fs.list(directory)) {
    const [, number] = /^lock\.(\d+)(?:\.released)?$/.exec(name) ?? [];
    const isOld = number !== undefined && Number(number) < own;
    if (isOld || name.startsWith("lock-draft.")) await fs.unlink(`${directory}/${name}`).catch(ignoreMissing);
  }
}

/**
 * Throws unless the holder of a version 0.1 lock is dead. Such a lock is a file, and its pid, host
 * name and start time are the only evidence.
 */
async function assertOldDead(fs: FileSystem, directory: string, file: string): Promise<void> {
  const holder = parsed((await readSmallFile(fs, file)).toString());
  const { pid, host, started = "", released } = holder;
  // A power failure may leave half a file.
  if (typeof pid !== "number" || typeof host !== "string" || released) return;
  if (host !== hostname()) {
    throw inUse(
      directory,
      `pid ${pid} on host ${host}`,
      `If that host is gone for good, remove ${file} and start again.`,
    );
  }
  const now = startOf(pid);
  const isThere = now !== undefined && (now === "" || started === "" || started === `${bootId()}/${now}`);
  if (isThere && pid !== process.pid) {
    throw inUse(directory, `pid ${pid}`, "Stop that process, or choose another directory.");
  }
}

function parsed(text: string): { pid?: unknown; host?: unknown; started?: string; released?: boolean } {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

function ignoreMissing(error: unknown): void {
  if ((error as NodeJS.ErrnoException | null)?.code !== "ENOENT") throw error;
}
