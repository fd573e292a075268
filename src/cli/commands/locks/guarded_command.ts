import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { CairnError } from "../../../base/errors.js";
import type { LockHandle } from "../../../client.js";
import { untilLost } from "./common.js";

/** Exit codes of shells for a command that cannot be started, and for one that is not there. */
const CANNOT_RUN = 126;
const NOT_FOUND = 127;

/** Signals that are passed on to the command. */
const PASSED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/** The outcome of a command that ran under a lock. */
export type GuardedOutcome =
  | { readonly type: "ended"; readonly code: number }
  /** The lock was lost, and the command was ended. */
  | { readonly type: "lost"; readonly error: Error };

/**
 * Runs a command while a lock is held, with its token in the environment. When the lock is lost,
 * the command gets SIGTERM, and SIGKILL after `graceMs`.
 *
 * The command leads a process group of its own, so that its children end with it. On a terminal it
 * stays in this process's group, because it could not read there otherwise.
 * @throws CairnError FAILED_PRECONDITION when the command cannot be started
 */
export async function runGuarded(
  lock: LockHandle,
  [file, ...args]: readonly [string, ...string[]],
  graceMs: number,
): Promise<GuardedOutcome> {
  const hasGroup = !process.stdin.isTTY && process.platform !== "win32";
  const env = { ...process.env, CAIRN_LOCK_TOKEN: `${lock.token}`, CAIRN_LOCK_KEY: lock.key };
  const child = spawn(file, args, { stdio: "inherit", env, detached: hasGroup });
  const exited = new Promise<number>((resolve, reject) => {
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (child.pid === undefined) resolve(cannotStart(file, error));
      else reject(CairnError.from(error));
    });
    child.once("exit", (code, signal) => resolve(code ?? 128 + constants.signals[signal!]));
  });
  const kill = (signal: NodeJS.Signals) => killAll(child, hasGroup, signal);
  const pass = (signal: NodeJS.Signals) => {
    // The terminal sends its signals to the whole group.
    if (hasGroup || signal === "SIGTERM") kill(signal);
  };
  for (const signal of PASSED) process.on(signal, pass);
  try {
    const first = await Promise.race([exited, untilLost(lock)]);
    if (!(first instanceof Error)) return { type: "ended", code: first };
    kill("SIGTERM");
    const timer = setTimeout(() => kill("SIGKILL"), graceMs);
    await exited;
    clearTimeout(timer);
    // Children that have outlived the command.
    if (hasGroup) kill("SIGKILL");
    return { type: "lost", error: first };
  } finally {
    for (const signal of PASSED) process.off(signal, pass);
  }
}

function killAll(child: ChildProcess, hasGroup: boolean, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(hasGroup ? -child.pid : child.pid, signal);
  } catch {
    // It has ended.
  }
}

function cannotStart(file: string, error: NodeJS.ErrnoException): number {
  process.stderr.write(`cairn: ${file} cannot be started: ${error.message}\n`);
  return error.code === "ENOENT" ? NOT_FOUND : CANNOT_RUN;
}
