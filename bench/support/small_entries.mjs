// Measures small apply_entries requests on one gateway process, alone or alternating with another build.
import { cpuMs, startCairn } from "./cairn_process.mjs";
import { median } from "./figures.mjs";

/** Requests before the measured ones: the compiler's work is not the gateway's. */
const WARM_UP = 300;

const put = (index, key, value) => ({ index, term: 1, command: { op: "put", key, value } });
const get = (index, key) => ({ index, term: 1, command: { op: "get", key } });

/** The entries of the nth request (from 1), with consecutive indexes. */
const kinds = {
  "one put": (n) => [put(n, `key-${n % 100}`, `${n}`)],
  "a put and its get": (n) => [put(2 * n - 1, `key-${n % 100}`, `${n}`), get(2 * n, `key-${n % 100}`)],
};

/**
 * Prints what a request costs in wall time and in CPU time of the process. With another build, the
 * two take turns, and the median of the rounds' ratios is printed.
 * @param builds folders of builds: this one, and perhaps another
 */
export async function smallEntries(builds, { requests, rounds }) {
  for (const [kind, entriesOf] of Object.entries(kinds)) {
    const results = builds.map(() => []);
    for (let round = 0; round < rounds; round++) {
      for (const [at, dist] of builds.entries()) results[at].push(await measure(dist, entriesOf, requests));
    }
    const rows = results.map((of, at) => ({
      build: at === 0 ? "this" : "other",
      requests: `${requests}, each ${kind}`,
      "wall ms": median(of.map(({ wallMs }) => wallMs)).toFixed(2),
      "p50 ms": median(of.map(({ p50Ms }) => p50Ms)).toFixed(2),
      "CPU ms": median(of.map(({ cpu }) => cpu)).toFixed(2),
    }));
    console.table(rows);
    if (builds.length < 2) continue;
    const ratio = (field) => median(results[0].map((mine, round) => mine[field] / results[1][round][field])).toFixed(2);
    console.log(
      `this / other, medians of ${rounds} rounds: wall ${ratio("wallMs")}, p50 ${ratio("p50Ms")}, CPU ${ratio("cpu")}`,
    );
  }
}

async function measure(dist, entriesOf, requests) {
  const gateway = startCairn(dist, ["gateway"]);
  try {
    await gateway.ask("init", { node_id: "n1", node_ids: ["n1"] });
    let n = 0;
    const some = async (count, times) => {
      for (let left = count; left > 0; left--) {
        const started = performance.now();
        await gateway.ask("apply_entries", { entries: entriesOf(++n) });
        times.push(performance.now() - started);
      }
    };
    await some(WARM_UP, []);
    const times = [];
    const [started, cpuBefore] = [performance.now(), cpuMs(gateway.pid)];
    await some(requests, times);
    const [wall, cpu] = [performance.now() - started, cpuMs(gateway.pid) - cpuBefore];
    await gateway.end();
    return { wallMs: wall / requests, p50Ms: median(times), cpu: cpu / requests };
  } finally {
    gateway.kill();
  }
}
