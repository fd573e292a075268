// Reads the command line of the comparison.
import { tmpdir } from "node:os";
import { Command } from "commander";
import { defaultCache } from "../support/cluster/sources.mjs";
import { count, counts, list, number, positive } from "../support/report/arguments.mjs";

const QUICK = { seconds: 1, warm: 0.2, lifeKeys: 20_000, behind: 10_000 };
const FULL = { seconds: 3, warm: 1, lifeKeys: 300_000, behind: 50_000 };

/** Returns the settings of a run: the command line's, then those of the quick or the full run. */
export function readOptions(argv) {
  const options = command().parse(argv, { from: "user" }).opts();
  const settings = { ...(options.quick ? QUICK : FULL), ...options };
  return { ...settings, lifeRounds: options.quick ? 1 : settings.rounds };
}

function command() {
  return new Command("bench:compare")
    .description("Measures Cairn beside etcd: both clusters of three on this machine, the same load, in turn.")
    .usage("[options]   (npm run bench:compare -- [options])")
    .option("--quick", "the rows of one page, in two to three minutes")
    .option("--only <rows>", "only these rows: put/leader,*/client/128,restart", list)
    .option("--list", "print the names of the rows and measure nothing")
    .option("--rounds <n>", "rounds; the figures are medians over them", count, 3)
    .option("--seconds <s>", "time that counts, for each figure (default: 3, quick: 1)", positive)
    .option("--warm <s>", "time before it that does not count (default: 1, quick: 0.2)", number)
    .option("--callers <list>", "concurrent callers (not with --quick)", counts, [1, 32, 128, 512])
    .option("--values <list>", "bytes of a value (not with --quick)", counts, [256, 4096])
    .option("--rates <list>", "open loop: calls a second (not with --quick)", counts, [500, 1000, 2000])
    .option("--keys <n>", "keys that are put and read", count, 10_000)
    .option("--life-keys <n>", "keys of 1 KiB for snapshot, return and restart (default: 300000, quick: 20000)", count)
    .option("--behind <n>", "writes that the returning follower has missed (default: 50000, quick: 10000)", count)
    .option("--etcd <path>", "use this binary instead of building one")
    .option("--no-etcd", "measure Cairn alone")
    .option("--cache <dir>", "where to keep what is built or installed", defaultCache())
    .option("--data <dir>", "where the clusters keep their data", tmpdir())
    .option("--json [file]", "print the result as JSON instead of tables, or write it to a file beside them")
    .option("--from <file>", "measure nothing: take such a result from a file")
    .option("--markdown <file>", "write the tables into a page, between its two marks")
    .addHelpText(
      "after",
      `
Needs Go for the load generator and to build etcd, and npm to install the client etcd3, all from their public
sources into --cache. When one cannot be had, the comparison says so and measures the rest.
Ratios are Cairn's figure divided by etcd's: medians over the rounds of pairs measured in turn.
Measure on a machine that does nothing else. bench/README.md tells how to read the tables.`,
    );
}
