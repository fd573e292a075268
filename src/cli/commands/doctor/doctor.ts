import { Command } from "commander";
import { type OperatorOptions, operatorCommand } from "../../options/operator.js";
import { nonEmpty } from "../../options/options.js";
import { exitCodes } from "../../output/exit_codes.js";
import { noProgress, progressOn } from "../../output/progress.js";
import { untilInterrupted } from "../../output/signals.js";

const HELP = `
Without DIR it asks a running cluster: leader, quorum, each member's health and warnings, learners, versions, clocks, limits, log and snapshots.
With DIR it reads the directory of a stopped node, all of its log included, and measures its disk for two seconds with a file that it removes.
In the directory of a running node it measures the disk only. With DIR and --endpoints it does both.
With --config, the config file that the node is started with, it checks the certificates and keys that the file names, too.
Each finding is ok, a warning or a problem, and says what to do. Exits with 3 when there is a problem.

Examples:
  cairn doctor
  cairn doctor --endpoints 10.0.0.1:7101,10.0.0.2:7101,10.0.0.3:7101
  cairn doctor ./n1
  cairn doctor ./n1 --config ./n1.json
  cairn doctor ./n1 --json | jq '.findings[] | select(.level != "ok")'`;

interface DoctorOptions extends OperatorOptions {
  readonly config?: string;
}

/** Defines `cairn doctor`, which looks for what is wrong, and says what to do. */
export function doctorCommand(): Command {
  return operatorCommand(new Command("doctor"))
    .description("Look for what is wrong with a running cluster or a stopped node, and say what to do.")
    .argument("[dir]", "data directory of a node", nonEmpty)
    .option("--config <file>", "config file of the node, as in cairn start --config", nonEmpty)
    .addHelpText("after", HELP)
    .action(async (directory: string | undefined, options: DoctorOptions, command: Command) => {
      const { runDoctor } = await import("./run_doctor.js");
      const isNamed = command.getOptionValueSource("endpoints") === "cli";
      const { config } = options;
      const targets = { directory, config, cluster: isNamed || (directory ?? config) === undefined };
      const progress = options.json ? noProgress : progressOn(process.stderr);
      const isWell = await untilInterrupted((signal) => runDoctor(targets, options, { progress, signal }));
      if (!isWell) process.exitCode = exitCodes.no;
    });
}
