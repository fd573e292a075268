// A well-behaved client: 8 callers of small puts and linearizable gets through CairnClient. On each message from its parent it tells the
// figures since the last one.
import { CairnClient } from "../../dist/src/client.js";

const CALLERS = 8;
const PAUSE_MS = 5;
const value = Buffer.alloc(256, "v");

const client = new CairnClient({ endpoints: process.argv[2].split(","), timeoutMs: 30_000 });
let took = [];
let errors = 0;
let firstError;

process.on("disconnect", () => process.exit());
process.on("message", () => {
  const sorted = took.toSorted((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
  process.send({ calls: sorted.length, errors, firstError, p50: at(0.5), p99: at(0.99) });
  took = [];
  errors = 0;
  firstError = undefined;
});

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function caller(number) {
  for (let turn = 0; ; turn++) {
    const key = `normal/${number}/${turn % 100}`;
    const began = performance.now();
    try {
      await (turn % 2 === 0 ? client.put(key, value) : client.get(key));
      took.push(performance.now() - began);
    } catch (error) {
      errors++;
      firstError ??= String(error);
    }
    await pause(PAUSE_MS);
  }
}

for (let number = 0; number < CALLERS; number++) void caller(number);
process.send("ready");
