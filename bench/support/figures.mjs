export function emptyPhase() {
  return { times: [], elapsedMs: 0, worstMs: 0, ranMs: 0, idleWorstMs: 0, loopP99Ms: 0, speeds: [] };
}

/** What was measured in a phase of one round joins the same of the rounds before. */
export function add(phase, load, { worstMs, ranMs, idleWorstMs, p99Ms }) {
  const { times, elapsedMs } = load.taken();
  phase.times.push(...times);
  phase.elapsedMs += elapsedMs;
  phase.worstMs = Math.max(phase.worstMs, worstMs);
  phase.ranMs = Math.max(phase.ranMs, ranMs);
  phase.idleWorstMs = Math.max(phase.idleWorstMs, idleWorstMs);
  phase.loopP99Ms = Math.max(phase.loopP99Ms, p99Ms);
}

/**
 * The last columns: the longest delay of the event loop; the longest time that its thread has really run in one, which is what the node itself
 * has made of it; and how late the machine served a process that does nothing.
 */
export function row(name, { times, elapsedMs, worstMs, ranMs, idleWorstMs, loopP99Ms }) {
  return {
    writes: name,
    "writes/s": Math.round((times.length * 1000) / elapsedMs),
    "p50 ms": percentile(times, 0.5).toFixed(2),
    "p99 ms": percentile(times, 0.99).toFixed(2),
    "max ms": percentile(times, 1).toFixed(2),
    "loop p99 ms": loopP99Ms.toFixed(1),
    "loop max ms": worstMs.toFixed(1),
    "ran max ms": ranMs.toFixed(1),
    "idle max ms": idleWorstMs.toFixed(1),
  };
}

/** The delays of an event loop in several phases, in words. */
export function longest(phases) {
  const [worst, ran] = ["worstMs", "ranMs"].map((name) => Math.max(...phases.map((delays) => delays[name])));
  return `longest delay ${worst.toFixed(1)} ms, its thread ran for ${ran.toFixed(1)} ms at most`;
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
