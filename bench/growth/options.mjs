// Reads the command line of the tables of growth.
import { tmpdir } from "node:os";
import { Command, InvalidArgumentError } from "commander";
import { defaultCache } from "../support/cluster/sources.mjs";
import { count, list, positive } from "../support/report/arguments.mjs";
import { KEYS_MAX } from "./rows.mjs";

const QUICK = { seconds: 1, warm: 1, rounds: 1, keysMax: 100_000, sustain: 1 };
const FULL = { seconds: 3, warm: 1, rounds: 3, keysMax: 1_000_000, sustain: 10 };

/** A sustained run has at least this many intervals, so that its thirds have some each. */
const INTERVALS = 9;
const INTERVAL_SECONDS = 60;

/** Returns the settings of a run: the command line's, then those of the quick or the full run. */
export function readOptions(argv) {
  const options = command().parse(argv, { from: "user" }).opts();
  const settings = { ...(options.quick ? QUICK : FULL), ...options };
  return { ...settings, interval: intervalOf(settings.sustain) };
}

/** Seconds of an interval: a minute, or less in a short run. */
function intervalOf(minutes) {
  return Math.min(INTERVAL_SECONDS, Math.max(1, Math.round((minutes * 60) / INTERVALS)));
}

function command() {
  return new Command("bench:growth")
    .description("Measures Cairn with more members, larger values, more keys, and over a longer time.")
    .usage("[options]   (npm run bench:growth -- [options])")
    .option("--quick", "1 round of 1 s a figure, up to 100,000 keys, 1 minute of writes")
    .option("--only <rows>", "only these tables or rows: members,values/1MiB,keys,sustain", list)
    .option("--list", "print the names of the rows and measure nothing")
    .option("--rounds <n>", "rounds of members and values; figures are medians (default: 3, quick: 1)", count)
    .option("--seconds <s>", "time that counts, for each figure (default: 3, quick: 1)", positive)
    .option("--warm <s>", "time before it that does not count (default: 1)", positive)
    .option("--keys-max <n>", "most keys of the table of keys (default: 1000000, quick: 100000)", keys)
    .option("--sustain <minutes>", "length of the sustained writes (default: 10, quick: 1)", positive)
    .option("--rate <n>", "sustained puts a second (default: half of what the cluster takes)", count)
    .option("--cache <dir>", "where to keep the load generator", defaultCache())
    .option("--data <dir>", "where the clusters keep their data", tmpdir())
    .option("--json <file>", "write every figure to a file, after each row")
    .option("--markdown <file>", "write the tables into a page, each between its own marks")
    .addHelpText(
      "after",
      `
10,000,000 keys need about 10 GB of disk. An hour of writes: --only sustain --sustain 60.
With Go, the load generator makes the unary calls; else a process with grpc-js does, which needs more CPU itself.
Measure on a machine that does nothing else. bench/README.md tells how to read the tables.`,
    );
}

function keys(text) {
  const value = count(text);
  if (value > KEYS_MAX) throw new InvalidArgumentError(`must be at most ${KEYS_MAX}`);
  return value;
}
