// Measures a node's event loop and its log while a state is written at a steady rate.
import { setTimeout as sleep } from "node:timers/promises";
import { watchDelays, worstDelay } from "../../support/delays.mjs";
import { percentile } from "../../support/figures.mjs";
import { BATCH, overwritten } from "./keys.mjs";

/** A batch waits so long for puts. */
const TICK_MS = 5;
/** Writes before those that count: the compiler's share of the delays. */
const WARM_SECONDS = 2;

/** Puts random keys, so many a second, as batches that are written to the log and then applied. */
export async function steady(subject, { perSecond, seconds }) {
  await run(subject, perSecond, WARM_SECONDS);
  const first = subject.engine?.manifest?.step ?? 0;
  watchDelays();
  const start = performance.now();
  const times = await run(subject, perSecond, seconds);
  const reached = (perSecond * seconds * 1000) / (performance.now() - start);
  const { worstMs, ranMs, p999Ms } = await worstDelay();
  const steps = subject.engine === undefined ? Number.NaN : subject.engine.manifest.step - first;
  await subject.settle();
  const [logP50, logP99, logMax] = [0.5, 0.99, 1].map((share) => percentile(times, share));
  return { reached, steps, loopP999: p999Ms, loopMax: worstMs, ranMax: ranMs, logP50, logP99, logMax };
}

async function run(subject, perSecond, seconds) {
  const next = overwritten(subject.keys, "random");
  const times = [];
  const start = performance.now();
  let done = 0;
  while (done < perSecond * seconds) {
    const late = Math.floor(((performance.now() - start) * perSecond) / 1000) - done;
    if (late < (perSecond * TICK_MS) / 1000) {
      await sleep(TICK_MS);
      continue;
    }
    // What is late comes batch by batch: the making of many entries at once would be a delay of its own.
    const due = Math.min(late, BATCH);
    for (const entries of subject.entries.puts(subject.last + 1, due, next)) {
      const before = performance.now();
      await subject.append(entries);
      times.push(performance.now() - before);
      await subject.apply([entries]);
    }
    done += due;
  }
  return times;
}
