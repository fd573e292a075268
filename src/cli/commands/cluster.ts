import { Command } from "commander";
import { BASE_PORT, CLUSTER_NODES, nonEmpty, wholeNumber } from "../options/options.js";

/** Options of `cairn cluster`. */
export interface ClusterOptions {
  readonly data: string;
  readonly basePort: number;
  readonly nodes: number;
  /** Directory with the certificates of `cairn certs dev`. */
  readonly certs?: string;
}

const HELP = `
The nodes n1, n2, ... listen on the base port and the ports after it. Stop them with Ctrl-C; start again on the same data to continue.
Each node has a page that shows the cluster, on a free port of loopback.
Everything after -- is given to each node: cairn cluster -- --snapshot-entries 1000`;

/** Shown below an error about the command line. */
export const CLUSTER_HINT = "(flags of cairn start go after --: cairn cluster -- --snapshot-entries 1000; see --help)";

/** Defines `cairn cluster`, which runs a whole cluster on this machine. */
export function clusterCommand(): Command {
  return new Command("cluster")
    .description("Run a whole cluster on this machine, each node a process of its own, until SIGINT or SIGTERM.")
    .argument("[flags...]", "flags of cairn start, for each node")
    .option("--data <dir>", "directory with a data directory for each node", nonEmpty, "./cairn-data")
    .option("--base-port <n>", "port of the first node", wholeNumber(1, 65_000), BASE_PORT)
    .option("--nodes <n>", "how many nodes", wholeNumber(1, 9), CLUSTER_NODES)
    .option("--certs <dir>", "use TLS, with the certificates that cairn certs dev has put there", nonEmpty)
    .addHelpText("after", HELP)
    .action(async (flags: string[], options: ClusterOptions) => {
      const { runCluster } = await import("./run_cluster.js");
      await runCluster(options, flags);
    });
}
