import { setTimeout as pause } from "node:timers/promises";
import { Command } from "commander";
import { CairnError } from "../../base/errors.js";
import { type OperatorOptions, operatorCommand, withCluster } from "../options/operator.js";
import { wholeNumber } from "../options/options.js";
import { exitCodes } from "../output/exit_codes.js";
import { print } from "../output/output.js";
import { report } from "../output/report.js";
import { untilSignal } from "../output/signals.js";

interface StatusCommandOptions extends OperatorOptions {
  readonly watch?: true;
  readonly intervalMs: number;
}

const HELP = `
LAG counts the entries that the leader has committed and the member has not applied. HOW is how the leader sends to it: replicate, probe (looks for
the place where the logs agree) or snapshot. SYNC is how long syncs of its log take, in milliseconds: the last one, and the longest within a minute.
HEALTH is the worse of two verdicts, its own and its leader's; the reasons are below the table.
CERTIFICATE, with TLS, is the day on which the first of its certificates ends; --json has all of them.
Exits with 1 when there is no leader, or when nobody answers.`;

/** Defines `cairn status`, which shows all members of a cluster. */
export function statusCommand(): Command {
  return operatorCommand(new Command("status"))
    .description("Show the status of all members that answer.")
    .option("--watch", "repeat until SIGINT")
    .option("--interval-ms <n>", "pause between two rounds", wholeNumber(100, 3_600_000), 1_000)
    .addHelpText("after", HELP)
    .action(async (options: StatusCommandOptions) => {
      const { clusterStatus, statusText } = await import("../output/cluster_status.js");
      const hasLeader = await withCluster(options, async (cluster) => {
        const look = async () => {
          const status = await clusterStatus(cluster);
          return { status, text: options.json ? JSON.stringify(status) : statusText(status) };
        };
        if (options.watch) return watch(options, async () => (await look()).text);
        const { status, text } = await look();
        await print(`${text}\n`);
        return status.leader !== undefined;
      });
      if (!hasLeader) process.exitCode = exitCodes.failed;
    });
}

/**
 * Shows the status again and again until a signal comes or the reader is gone. On a terminal, each
 * one replaces the one before. Returns true.
 */
async function watch({ intervalMs, json }: StatusCommandOptions, look: () => Promise<string>): Promise<boolean> {
  const stopping = new AbortController();
  void untilSignal().then(() => stopping.abort());
  const clear = process.stdout.isTTY && !json ? "\x1b[H\x1b[2J" : "";
  while (!stopping.signal.aborted) {
    try {
      if (!(await print(`${clear}${await look()}\n`))) return true;
    } catch (error) {
      // The next look may succeed. A person sees the error in place of the status, a program on
      // standard error.
      if (json) report(error);
      else await print(`${clear}${CairnError.from(error).message}\n`);
    }
    await pause(intervalMs, undefined, { signal: stopping.signal }).catch(() => {});
  }
  return true;
}
