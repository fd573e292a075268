import { Command } from "commander";
import { TIMER_MS_MAX } from "../../../base/arguments.js";
import { limits } from "../../../base/limits.js";
import { DEFAULT_TTL_MS } from "../../../client/leases/timing.js";
import type { LockHandle, QueueOptions } from "../../../client/locks/lock.js";
import { addConnectionOptions } from "../../options/connection.js";
import { endpointsOption, wholeNumber } from "../../options/options.js";
import { type StopReason, untilSignal } from "../../output/signals.js";
import type { Common } from "../kv/common.js";

// The common part of `cairn lock` and `cairn elect`.

/** Flags of both. */
export interface QueueFlags extends Common {
  readonly ttlMs: number;
  readonly waitMs?: number;
}

/** The time to live of a lease, as a flag or argument. */
export const leaseTtl = wholeNumber(limits.leaseTtlMs, limits.leaseTtlMsMax);

/** Makes a command with the flags of both. */
export function queueCommand(name: string, description: string): Command {
  const command = new Command(name)
    .description(description)
    .addOption(endpointsOption())
    .option("--ttl-ms <n>", "time after which another one follows when this process dies", leaseTtl, DEFAULT_TTL_MS)
    .option("--wait-ms <n>", "longest time to wait; exit code 3 when it is over", wholeNumber(0, TIMER_MS_MAX))
    .option("--timeout-ms <n>", "time limit of each call to the cluster", wholeNumber(1, TIMER_MS_MAX), 10_000)
    .option("--json", "print JSON objects, a line each");
  return addConnectionOptions(command);
}

export function queueOptions({ ttlMs, waitMs }: QueueFlags, signal: AbortSignal): QueueOptions {
  return { ttlMs, waitMs, signal };
}

/** Interval of a timer that only keeps this process alive, in milliseconds. */
const ALIVE_MS = 60_000;

/** Awaits a result, and keeps the process alive meanwhile: a client alone does not. */
export async function staysAlive<Result>(result: Promise<Result>): Promise<Result> {
  const timer = setInterval(() => {}, ALIVE_MS);
  try {
    return await result;
  } finally {
    clearInterval(timer);
  }
}

/**
 * Waits for a signal that ends this process; resolves with the error when the lease is lost. Call
 * it before the lease is announced: the reader may send the signal at once.
 */
export function untilSignalOrLost(held: Pick<LockHandle, "signal">): Promise<StopReason | Error> {
  return staysAlive(Promise.race([untilSignal(), untilLost(held)]));
}

/** Resolves with the error when a lock or leadership is lost. */
export function untilLost({ signal }: Pick<LockHandle, "signal">): Promise<Error> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve(signal.reason as Error);
    signal.addEventListener("abort", () => resolve(signal.reason as Error), { once: true });
  });
}
