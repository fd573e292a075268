import { readFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

const histogram = monitorEventLoopDelay({ resolution: 1 });

/**
 * CPU time of the main thread so far, in milliseconds; NaN where the system does not tell. A delay in which a thread has hardly run is the
 * machine's: other threads had the processor. (A hypervisor that looks for a page of memory, because it is touched for the first time, counts
 * as CPU time of who has touched it.)
 */
function cpuMs() {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;
  } catch {
    return Number.NaN;
  }
}

let timer;
let longestRunMs = 0;

export function watchDelays() {
  histogram.reset();
  histogram.enable();
  longestRunMs = 0;
  let before = cpuMs();
  timer = setInterval(() => {
    const now = cpuMs();
    longestRunMs = Math.max(longestRunMs, now - before);
    before = now;
  }, 1);
}

/**
 * Since the last {@link watchDelays}: the longest delay of the event loop, the longest CPU time between two of its timers (no delay that the
 * process itself has made is longer), and the delays that 99 % and 99.9 % stay below.
 */
export async function worstDelay() {
  // A stall that ends with this call has not been counted before the next timer.
  await new Promise((resolve) => setTimeout(resolve, 5));
  histogram.disable();
  clearInterval(timer);
  const [p99Ms, p999Ms] = [99, 99.9].map((share) => histogram.percentile(share) / 1e6);
  return { worstMs: histogram.max / 1e6, ranMs: longestRunMs, p99Ms, p999Ms };
}
