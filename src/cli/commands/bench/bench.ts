import { InvalidArgumentError } from "commander";
import { limits } from "../../../base/limits.js";
import { wholeNumber } from "../../options/options.js";
import { exitCodes } from "../../output/exit_codes.js";
import { type Common, common, withClient } from "../kv/common.js";

/** Options of `cairn bench`. */
export interface BenchOptions extends Common {
  readonly seconds: number;
  readonly callers: number;
  readonly valueBytes: number;
  readonly readPercent: number;
  readonly keys: number;
  readonly prefix: string;
}

const HELP = `
Each caller waits for the answer to its call before it makes the next. Reads are linearizable; --read-percent 100 measures reads alone.
Times are those that a caller sees. The client sends calls of many callers together, so more callers mean a higher rate and longer times.
The keys begin with --prefix, under which there must be none before. They are removed at the end, also after SIGINT.
Exits with 1 when a call has failed.

Examples:
  cairn bench
  cairn bench --seconds 30 --callers 512 --value-bytes 1000 --read-percent 90
  cairn bench --json | jq 'select(.type == "result")'`;

/** Defines `cairn bench`, which measures writes and reads of a cluster. */
export function benchCommand() {
  return common("bench", "Measure writes and reads of a cluster, on keys of its own that it removes afterwards.")
    .option("--seconds <n>", "how long to measure", wholeNumber(1, 86_400), 10)
    .option("--callers <n>", "callers at a time", wholeNumber(1, 65_536), 64)
    .option("--value-bytes <n>", "size of each value", wholeNumber(0, limits.valueBytes), 100)
    .option("--read-percent <n>", "how many of 100 calls are reads", wholeNumber(0, 100), 0)
    .option("--keys <n>", "number of keys", wholeNumber(1, 1_000_000), 1_000)
    .option("--prefix <text>", "beginning of all its keys, under which there must be none yet", prefix, "cairn-bench/")
    .addHelpText("after", HELP)
    .action(async (options: BenchOptions) => {
      const { runBench } = await import("./run_bench.js");
      await withClient(
        options,
        async (client) => {
          const { errors, interrupted } = await runBench(client, options);
          if (interrupted) return exitCodes.interrupted;
          return errors === 0 ? exitCodes.ok : exitCodes.failed;
        },
        false,
      );
    });
}

function prefix(text: string): string {
  const bytes = Buffer.byteLength(text);
  if (bytes > 0 && bytes <= limits.keyBytes / 2) return text;
  throw new InvalidArgumentError(`expected a text of 1 to ${limits.keyBytes / 2} bytes`);
}
