// Reads the command line of the store's benchmark.
import { tmpdir } from "node:os";
import { Command, InvalidArgumentError } from "commander";
import { count, list, positive } from "../support/report/arguments.mjs";
import { keysOf } from "./rows.mjs";

const QUICK = { sizes: ["20MB"], rounds: 1, puts: 60_000, turnover: 3, seconds: 8, rate: 2_000, flushMib: 4 };
const FULL = { sizes: ["50MB"], rounds: 3, puts: 300_000, turnover: 4, seconds: 60, rate: 2_000, flushMib: 16 };

/** Returns the settings of a run: the command line's, then those of the quick or the full run. */
export function readOptions(argv) {
  const options = command().parse(argv, { from: "user" }).opts();
  return { ...(options.quick ? QUICK : FULL), ...options };
}

function command() {
  return new Command("bench:store")
    .description("Measures the key-value machine on Cairn's own store beside the one on LMDB.")
    .usage("[options]   (npm run bench:store -- [options])")
    .option("--quick", "1 round, 20 MB, flushes of 4 MiB: some minutes")
    .option("--only <rows>", "only these tables or rows: size,bytes/random,loop", list)
    .option("--list", "print the names of the rows and measure nothing")
    .option("--sizes <sizes>", "states to measure: 50MB,3GB,10M (10 million keys) (default: 50MB, quick: 20MB)", sizes)
    .option("--rounds <n>", "rounds; figures are medians (default: 3, quick: 1)", count)
    .option("--puts <n>", "puts that a price is of (default: 300000, quick: 60000)", count)
    .option("--turnover <n>", "times that the table of bytes writes its state over (default: 4, quick: 3)", positive)
    .option("--seconds <s>", "length of a steady load (default: 60, quick: 8)", positive)
    .option("--rate <n>", "puts of 1 KiB a second of the steady load (default: 2000)", count)
    .option("--flush-mib <n>", "flush size of the store in MiB (default: 16, quick: 4)", count)
    .option("--data <dir>", "where the states are kept", tmpdir())
    .option("--json <file>", "write every figure to a file, after each row")
    .addHelpText(
      "after",
      `
3GB and 10M need some 10 GB of disk each, and an hour or more.
Measure on a machine that does nothing else. bench/README.md tells how to read the tables.`,
    );
}

function sizes(text) {
  const names = list(text);
  const wrong = names.find((name) => keysOf(name) === undefined);
  if (wrong !== undefined) throw new InvalidArgumentError(`${wrong} is no size: write 50MB, 3GB or 10M`);
  return names;
}
