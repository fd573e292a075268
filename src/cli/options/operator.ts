import type { Command } from "commander";
import type { ClusterAdmin } from "../../client/admin/cluster_admin.js";
import { print } from "../output/output.js";
import { asStep, endStep } from "../output/progress.js";
import { addConnectionOptions, type ConnectionFlags, connectionFrom } from "./connection.js";
import { DEFAULT_ENDPOINTS, endpointsOption } from "./options.js";

/** Options of every command that talks to a running cluster. */
export interface OperatorOptions extends ConnectionFlags {
  readonly endpoints: readonly string[];
  readonly json?: true;
}

/** Gives a command the options of {@link OperatorOptions}. */
export function operatorCommand(command: Command): Command {
  return addConnectionOptions(command.addOption(endpointsOption()).option("--json", "print JSON"));
}

/**
 * Does `work` with the cluster, and closes its connections. `step` tells a person what takes long,
 * until something is printed.
 */
export async function withCluster<Result>(
  { endpoints, ...flags }: OperatorOptions,
  work: (cluster: ClusterAdmin) => Promise<Result>,
  step: string | false = "waiting for the cluster",
): Promise<Result> {
  const { ClusterAdmin } = await import("../../client/admin/cluster_admin.js");
  const cluster = new ClusterAdmin(endpoints, {
    ...connectionFrom(flags),
    areGuessed: endpoints === DEFAULT_ENDPOINTS,
  });
  try {
    return await asStep(step, flags, () => work(cluster));
  } finally {
    cluster.close();
  }
}

/** Prints the result of a command: as JSON on one line, or as text. */
export async function printResult(
  { json }: Pick<OperatorOptions, "json">,
  result: object,
  text: string,
): Promise<void> {
  await print(`${json ? JSON.stringify(result) : text}\n`);
}

/** Writes the result to standard error instead, when standard output holds data. */
export function note({ json }: Pick<OperatorOptions, "json">, result: object, text: string): void {
  endStep();
  process.stderr.write(`${json ? JSON.stringify(result) : text}\n`);
}
