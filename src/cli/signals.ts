/** Within so many milliseconds a second signal is taken for the first one once more: npm passes on what the terminal has sent already. */
const ECHO_MS = 500;

/**
 * Resolves with the name of the first SIGINT or SIGTERM; a later one ends the process at once. A process that was started with a channel to
 * the one that started it, as `cairn cluster` starts its nodes, also stops when that one is gone, however it went.
 */
export function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let firstMs: number | undefined;
    const onSignal = (signal: NodeJS.Signals) => {
      firstMs ??= performance.now();
      if (performance.now() - firstMs > ECHO_MS) process.kill(process.pid, "SIGKILL");
      resolve(signal);
    };
    process.on("SIGINT", onSignal);
    process.on("SIGTERM", onSignal);
    process.on("disconnect", () => onSignal("SIGTERM"));
  });
}
