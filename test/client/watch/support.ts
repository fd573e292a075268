import type { Clock, KeyWatch, WatchEvent } from "../../../src/client.js";
import { systemClock } from "../../../src/system/clock.js";

/** A few words for an event: "put a=1 @3". */
export function wordsOf(event: WatchEvent): string {
  switch (event.type) {
    case "put":
      return `put ${event.key}=${event.value.text()} @${event.index}`;
    case "delete":
      return `delete ${event.key} @${event.index}`;
    case "existing":
      return `existing ${event.key}=${event.value.text()}`;
    case "restarted":
      return `restarted ${event.reason.code}`;
    default:
      return `${event.type} @${event.index}`;
  }
}

/** The next events of a watch. */
export async function take(watch: KeyWatch, count: number): Promise<WatchEvent[]> {
  const events: WatchEvent[] = [];
  while (events.length < count) {
    const { done, value } = await watch.next();
    if (done === true) throw new Error(`the watch ended behind ${events.map(wordsOf).join(", ")}`);
    events.push(value);
  }
  return events;
}

export async function takeWords(watch: KeyWatch, count: number): Promise<string[]> {
  return (await take(watch, count)).map(wordsOf);
}

/** A clock that runs so many times as fast as the real one. */
export function hurried(factor: number): Clock {
  return {
    now: () => systemClock.now() * factor,
    after: (ms, run, isBackground) => systemClock.after(ms / factor, run, isBackground),
    soon: (run) => systemClock.soon(run),
  };
}
