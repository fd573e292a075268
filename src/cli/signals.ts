/** Within so many milliseconds a second signal is taken for the first one once more: npm passes on what the terminal has sent already. */
const ECHO_MS = 500;

/** Why a process is to stop: a signal; or, for one that was started with a channel to the process that started it, that one's end. */
export type StopReason = "SIGINT" | "SIGTERM" | "disconnect";

/**
 * Resolves with the first reason to stop; a signal that comes later ends the process at once. `cairn cluster` starts its nodes with a channel, so
 * that none outlives it, however it ends.
 */
export function untilSignal(): Promise<StopReason> {
  return new Promise((resolve) => {
    let firstMs: number | undefined;
    const onReason = (reason: StopReason) => {
      firstMs ??= performance.now();
      if (performance.now() - firstMs > ECHO_MS) process.kill(process.pid, "SIGKILL");
      resolve(reason);
    };
    process.on("SIGINT", onReason);
    process.on("SIGTERM", onReason);
    process.on("disconnect", () => onReason("disconnect"));
  });
}
