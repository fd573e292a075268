import { Command } from "commander";
import { limits } from "../../../base/limits.js";
import { nonEmpty, wholeNumber } from "../../options/options.js";
import { exitCodes } from "../../output/exit_codes.js";
import { noProgress, progressOn } from "../../output/progress.js";
import { untilInterrupted } from "../../output/signals.js";

/** Options of both commands. */
interface WalOptions {
  readonly json?: true;
}

/** Options of `cairn wal dump`. */
export interface DumpOptions extends WalOptions {
  readonly from?: number;
  readonly to?: number;
  readonly keys?: true;
}

const READS_ONLY = `
The node must be stopped, and nothing in its directory is changed. A torn tail, which a crash leaves, is no damage: the next start removes it.
Exits with 3 when the log is damaged: when a start would refuse it.`;

const DUMP_HELP = `${READS_ONLY}
With --keys, commands of the key-value store are shown in words: their keys, and the sizes of values. Applications' own commands stay bytes.

Examples:
  cairn wal dump ./n1
  cairn wal dump ./n1 --from 1200 --to 1250 --keys
  cairn wal dump ./n1 --json | jq 'select(.type == "entry" and .kind == "configuration")'`;

const VERIFY_HELP = `${READS_ONLY}

Examples:
  cairn wal verify ./n1
  cairn wal verify ./n1 --json && cairn start --id n1 --data ./n1 --listen 10.0.0.1:7101`;

/** Defines `cairn wal`, which reads the log of a stopped node. */
export function walCommand(): Command {
  const wal = new Command("wal").description("Read and verify the log of a stopped node.");
  walReader(wal, "dump", "Print what the log holds: segments, entries, hard state, damage.")
    .option("--from <index>", "only entries from this one on", wholeNumber(1, limits.indexMax))
    .option("--to <index>", "only entries up to this one", wholeNumber(1, limits.indexMax))
    .option("--keys", "show commands in words: with their keys, without values")
    .option("--json", "print JSON objects, a line each")
    .addHelpText("after", DUMP_HELP)
    .action(async (directory: string, options: DumpOptions) => {
      const { dumpLog } = await import("./dump_log.js");
      // A terminal shows the entries themselves.
      const progress = process.stdout.isTTY ? noProgress : progressOf(options);
      await read((signal) => dumpLog(directory, options, { progress, signal }));
    });
  walReader(wal, "verify", "Read every record of the log, and verify all checksums.")
    .option("--json", "print JSON")
    .addHelpText("after", VERIFY_HELP)
    .action(async (directory: string, options: WalOptions) => {
      const { verifyLog } = await import("./verify_log.js");
      await read((signal) => verifyLog(directory, options, { progress: progressOf(options), signal }));
    });
  return wal;
}

function walReader(wal: Command, name: string, description: string): Command {
  return wal.command(name).description(description).argument("<dir>", "data directory of a stopped node", nonEmpty);
}

function progressOf({ json }: WalOptions) {
  return json ? noProgress : progressOn(process.stderr);
}

/** Sets the exit code to what `work` says: whether the log is sound. */
async function read(work: (signal: AbortSignal) => Promise<boolean>): Promise<void> {
  const isSound = await untilInterrupted(work);
  if (!isSound) process.exitCode = exitCodes.no;
}
