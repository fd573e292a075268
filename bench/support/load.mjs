import { sleep } from "./figures.mjs";

/** Callers that put random keys while they are not paused. */
export function startLoad(client, { keys, valueBytes, callers }) {
  const value = new Uint8Array(valueBytes).fill(9);
  let running;
  let times = [];
  let elapsedMs = 0;
  const call = async (until) => {
    while (!until.reached) {
      const key = Buffer.from(`key-${String(Math.floor(Math.random() * keys)).padStart(12, "0")}`);
      const started = performance.now();
      await client.put({ key, value });
      times.push(performance.now() - started);
    }
  };
  const start = () => {
    times = [];
    const until = { reached: false };
    running = { until, started: performance.now(), calls: Array.from({ length: callers }, () => call(until)) };
  };
  const pause = async () => {
    running.until.reached = true;
    elapsedMs = performance.now() - running.started;
    await Promise.all(running.calls);
  };
  start();
  return {
    start,
    pause,
    taken: () => ({ times, elapsedMs }),
    async for(ms) {
      start();
      await sleep(ms);
      await pause();
    },
  };
}
