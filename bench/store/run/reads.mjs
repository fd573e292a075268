// Measures reads: CPU microseconds of the calling thread.
import { cpu, cpuSince } from "./counters.mjs";
import { keyAt, random } from "./keys.mjs";

const HOT_KEYS = 2_000;
const GETS = 50_000;
const RANGES = 2_000;
const RANGE_KEYS = 20;
const LONG_RANGE_KEYS = 50_000;

/** Gets of a few keys, of random ones of all, and of keys that are not there; short ranges and a long one. */
export function read(subject) {
  const { machine, keys } = subject;
  const hot = Array.from({ length: HOT_KEYS }, () => keyAt(random(keys)));
  const cold = Array.from({ length: GETS }, () => keyAt(random(keys)));
  const absent = Array.from({ length: GETS }, () => Buffer.concat([keyAt(random(keys)), Buffer.of(33)]));
  const gets = (sample, isThere) => () => {
    for (let n = 0; n < GETS; n++) {
      if ((machine.get(sample[n % sample.length]) !== undefined) !== isThere)
        throw new Error("a get has a wrong answer");
    }
    return GETS;
  };
  return {
    hot: timed(gets(hot, true)),
    // The second time, so that the system has read the pages.
    cold: timed(gets(cold, true)),
    absent: timed(gets(absent, false)),
    range: timed(() => {
      for (let n = 0; n < RANGES; n++) {
        let found = 0;
        for (const { version } of machine.range({ after: keyAt(random(keys - 2 * RANGE_KEYS)), limit: RANGE_KEYS })) {
          if (version > 0) found += 1;
        }
        if (found !== RANGE_KEYS) throw new Error(`a range has ${found} keys`);
      }
      return RANGES;
    }),
    longRange: timed(() => {
      const limit = Math.min(keys, LONG_RANGE_KEYS);
      let found = 0;
      for (const { version } of machine.range({ limit })) if (version > 0) found += 1;
      if (found !== limit) throw new Error(`a range has ${found} keys`);
      return found;
    }),
  };
}

/** Returns microseconds for each of the `action()`, the second time that it is done. */
function timed(action) {
  action();
  const before = cpu();
  const count = action();
  return cpuSince(before).main / count;
}
