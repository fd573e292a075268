import { once } from "node:events";
import { Command, Option } from "commander";
import { TIMER_MS_MAX } from "../../base/arguments.js";
import {
  addConnectionOptions,
  type ConnectionFlags,
  connectionFrom,
  givenConnectionFlag,
} from "../options/connection.js";
import { logFormatOption, logLevelOption, namedAddresses, wholeNumber } from "../options/options.js";
import { exitCodes } from "../output/exit_codes.js";
import type { LogFormat, LogLevel } from "../output/log.js";
import { untilSignal } from "../output/signals.js";

interface GatewayCommandOptions extends ConnectionFlags {
  dataDir?: string;
  nodes?: ReadonlyMap<string, string>;
  jsonStyle: "compact" | "spaced";
  timeoutMs: number;
  logLevel: LogLevel;
  logFormat?: LogFormat;
}

/** Defines `cairn gateway`, which turns lines of JSON into calls. */
export function gatewayCommand(): Command {
  const command = new Command("gateway")
    .description("Read JSON requests from standard input, a line each, and print the replies.")
    .option("--data-dir <dir>", "keep the nodes' data here (default: a temporary directory, removed at the end)")
    .addOption(
      new Option("--nodes <list>", "use running nodes instead of starting any: n1=host:port,n2=host:port")
        .argParser(namedAddresses)
        .conflicts("dataDir"),
    )
    .addOption(
      new Option("--json-style <style>", "spaced: a space after each comma and colon")
        .choices(["compact", "spaced"])
        .default("compact"),
    )
    .option("--timeout-ms <n>", "how long a node may take to answer", wholeNumber(1, TIMER_MS_MAX), 30_000)
    .addOption(logLevelOption("warn"))
    .addOption(logFormatOption())
    .action(gateway);
  return addConnectionOptions(command);
}

async function gateway(options: GatewayCommandOptions, command: Command): Promise<void> {
  const flag = options.nodes === undefined ? givenConnectionFlag(command) : undefined;
  if (flag !== undefined) command.error(`error: option '${flag}' is for running nodes, and needs --nodes`);
  const [{ Gateway }, { OwnNodes, RunningNodes }, { standardErrorLogger }] = await Promise.all([
    import("../../gateway/gateway.js"),
    import("../../gateway/nodes.js"),
    import("../output/log.js"),
  ]);
  const logger = standardErrorLogger({ level: options.logLevel, format: options.logFormat });
  const complain = (text: string) => void process.stderr.write(`cairn gateway: ${text}\n`);
  const onFatal = (error: unknown) => {
    complain(`a node stopped itself: ${String(error)}`);
    process.exit(exitCodes.fatal);
  };
  const nodes =
    options.nodes !== undefined
      ? new RunningNodes(options.nodes, { timeoutMs: options.timeoutMs, connection: connectionFrom(options), logger })
      : new OwnNodes({ dataDir: options.dataDir, logger, onFatal });
  const { jsonStyle: style, timeoutMs } = options;
  const running = new Gateway({ nodes, style, timeoutMs, logger, print, complain });
  const outputFailed = new Promise<NodeJS.ErrnoException>((resolve) => process.stdout.on("error", resolve));
  // When standard error fails, no complaint can be shown.
  process.stderr.on("error", () => {});
  const end = await Promise.race([running.run(process.stdin), untilSignal(), outputFailed]);
  await running.close();
  // EPIPE is no failure: the reader wants no more replies.
  if (end instanceof Error && end.code !== "EPIPE") {
    throw new Error(`cannot write the replies: ${end.message}`, { cause: end });
  }
  await flushed(process.stdout);
  process.exit(exitCodes.ok);
}

function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => stream.write("", () => resolve()));
}

async function print(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, "drain");
}
