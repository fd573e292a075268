import { exitCodes } from "./exit_codes.js";

/**
 * A second signal within this time, in milliseconds, counts as a repetition of the first: npm
 * passes on signals that the terminal has already sent.
 */
const ECHO_MS = 500;

/** Interval between two checks whether the parent process is still running, in milliseconds. */
const PARENT_LOOK_MS = 500;

/** The reason to stop: a signal, or the end of the process that started this one. */
export type StopReason = "SIGINT" | "SIGTERM" | "disconnect";

/**
 * Resolves with the first reason to stop; a signal that comes later ends the process immediately.
 * `cairn cluster` starts its nodes with a channel, so that no node outlives it, however it ends.
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
 * Does `work`, which SIGINT and SIGTERM interrupt through the signal that it gets. When the work
 * has cleaned up and failed because of that, the process ends.
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
 * Calls `gone` when the parent process has ended, if npm was the parent: npm starts scripts through
 * a shell that passes no signal on. Any other parent may end and leave this process running.
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
