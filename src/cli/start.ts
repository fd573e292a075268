import { Command, Option } from "commander";
import { limits } from "../core/limits.js";
import { CairnError } from "../errors.js";
import type { KeyValueNode } from "../server/key_value_node.js";
import { exitCodes } from "./exit_codes.js";
import { idText, type LogLevel, listenAddress, logLevelOption, nonEmpty, wholeNumber } from "./options.js";
import { untilSignal } from "./signals.js";

interface StartOptions {
  id: string;
  data: string;
  listen: string;
  clusterId?: string;
  elections: "automatic" | "manual";
  trailingLogBytes: number;
  segmentBytes: number;
  logLevel: LogLevel;
  json?: true;
}

/** `cairn start` */
export function startCommand(): Command {
  return new Command("start")
    .description("Run a node until SIGINT or SIGTERM.")
    .requiredOption("--id <name>", "name of the node in its cluster (A-Z a-z 0-9 . _ -)", idText)
    .requiredOption("--data <dir>", "data directory; made when it is not there", nonEmpty)
    .option("--listen <host:port>", "where to serve gRPC; port 0 takes a free one", listenAddress, "127.0.0.1:7101")
    .option(
      "--cluster-id <id>",
      "cluster that the node belongs to (default: what the directory says, or a new one)",
      idText,
    )
    .addOption(
      new Option("--elections <mode>", "campaign by timer, or only when AdminService.Campaign says so")
        .choices(["automatic", "manual"])
        .default("automatic"),
    )
    .option(
      "--trailing-log-bytes <n>",
      "bytes of log to keep behind a snapshot for slow followers",
      wholeNumber(0, Number.MAX_SAFE_INTEGER),
      limits.trailingLogBytes,
    )
    .option(
      "--segment-bytes <n>",
      "size of a log segment; trimming removes whole segments",
      wholeNumber(limits.entryBytes * 2 + 1, Number.MAX_SAFE_INTEGER),
      limits.segmentBytes,
    )
    .option("--json", "print one JSON object when the node listens, instead of text")
    .addOption(logLevelOption("warn"))
    .action(start);
}

async function start(options: StartOptions): Promise<void> {
  const [{ CairnNode }, { openKeyValueMachine }, { CairnServer }, { standardErrorLogger }] = await Promise.all([
    import("../node/node.js"),
    import("../server/open_machine.js"),
    import("../server/server.js"),
    import("./log.js"),
  ]);
  const logger = standardErrorLogger(options.logLevel);
  const signal = untilSignal();
  const node: KeyValueNode = await CairnNode.start({
    id: options.id,
    directory: options.data,
    openMachine: openKeyValueMachine,
    clusterId: options.clusterId,
    elections: options.elections,
    trailingLogBytes: options.trailingLogBytes,
    segmentBytes: options.segmentBytes,
    logger,
    onFatal: (error) => {
      process.stderr.write(`cairn: node ${options.id} stopped itself: ${String(error)}\n`);
      process.exit(exitCodes.fatal);
    },
  });
  try {
    const server = await CairnServer.start(node, { listen: options.listen, logger }).catch(adviseOnListen);
    announce(options, node.clusterId, server.address);
    await signal;
    await server.stop();
  } finally {
    await node.stop();
  }
  process.exit(exitCodes.ok);
}

function adviseOnListen(error: unknown): never {
  const { code, text } = CairnError.from(error);
  throw new CairnError(code, `${text}. Give a free host:port of this machine with --listen; port 0 takes any.`, {
    cause: error,
  });
}

function announce({ id, data, json }: StartOptions, cluster: string, address: string): void {
  const line = json
    ? JSON.stringify({ event: "listening", node: id, cluster, address, data })
    : `node ${id} of cluster ${cluster} listens on ${address}, data in ${data}`;
  process.stdout.write(`${line}\n`);
}
