import { exitCodes } from "./exit_codes.js";

/**
 * Within so many milliseconds a second signal is taken for the first one once more: npm passes on
 * what the terminal has sent already.
 */
const ECHO_MS = 500;

/** How often to look whether the process that started this one is there, in milliseconds. */
const PARENT_LOOK_MS = 500;

/** Why a process is to stop: a signal, or that the process is gone which wanted it. */
export type StopReason = "SIGINT" | "SIGTERM" | "disconnect";

/**
 * Resolves with the first reason to stop; a signal that comes later ends the process at once.
 * `cairn cluster` starts its nodes with a channel, so that none outlives it, however it ends.
 */
export function untilSignal(): Promise<StopReason> {
  return new Promise((resolve) => {
    let firstMs: number | undefined;
    const onSignal = (signal: "SIGINT" | "SIGTERM") => {
      firstMs ??= performance.now();
      if (performance.now() - firstMs > ECHO_MS) process.kill(process.pid, "SIGKILL");
      resolve(signal);
    };
    process.on("SIGINT", onSignal);
    process.on("SIGTERM", onSignal);
    process.on("disconnect", () => resolve("disconnect"));
    onNpmGone(() => resolve("disconnect"));
  });
}

/**
 * Does something that SIGINT and SIGTERM end early: they set the signal that it is given. When it
 * has tidied up and failed because of that, the process ends.
 */
export async function untilInterrupted<Result>(work: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
  const interrupted = new AbortController();
  void untilSignal().then(() => interrupted.abort());
  try {
    return await work(interrupted.signal);
  } catch (error) {
    if (interrupted.signal.aborted) process.exit(exitCodes.interrupted);
    throw error;
  }
}

/**
 * Calls `gone` when the process that started this one has ended, if npm did: it starts scripts
 * through a shell that passes no signal on. Anybody else may well go and leave this process
 * running.
 */
function onNpmGone(gone: () => void): void {
  if (process.env.npm_lifecycle_event === undefined) return;
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    gone();
  }, PARENT_LOOK_MS);
  timer.unref();
}
