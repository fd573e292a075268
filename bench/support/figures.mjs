export function emptyPhase() {
  return { times: [], elapsedMs: 0, delays: [], speeds: [] };
}

/** What was measured in a phase of one round joins the same of the rounds before. */
export function add(phase, load, delays) {
  const { times, elapsedMs } = load.taken();
  phase.times.push(...times);
  phase.elapsedMs += elapsedMs;
  phase.delays.push(delays);
}

/**
 * The last columns: the longest delay of the event loop; the longest time that its thread has really run in one, which is what the node itself
 * has made of it; and how late the machine served a process that does nothing.
 */
export function row(name, { times, elapsedMs, delays }) {
  return {
    writes: name,
    "writes/s": Math.round((times.length * 1000) / elapsedMs),
    "p50 ms": percentile(times, 0.5).toFixed(2),
    "p99 ms": percentile(times, 0.99).toFixed(2),
    "max ms": percentile(times, 1).toFixed(2),
    "loop p99 ms": most(delays, "p99Ms"),
    "loop max ms": most(delays, "worstMs"),
    "ran max ms": most(delays, "ranMs"),
    "idle max ms": most(delays, "idleWorstMs"),
  };
}

/** The delays of an event loop, as they were at several times, in words. */
export function longest(delays) {
  return `longest delay ${most(delays, "worstMs")} ms, its thread ran for ${most(delays, "ranMs")} ms at most`;
}

function most(delays, name) {
  return Math.max(...delays.map((some) => some[name])).toFixed(1);
}

export function percentile(times, share) {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
}

export function median(numbers) {
  return percentile(numbers, 0.5);
}

export function megabytes(bytesPerSecond) {
  return `${(bytesPerSecond / 1e6).toFixed(0)} MB/s`;
}

export function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
