import { Command } from "commander";
import { TIMER_MS_MAX } from "../../base/arguments.js";
import type { ClusterAdmin } from "../../client/admin/cluster_admin.js";
import type { ClusterMember } from "../../client/status.js";
import { type OperatorOptions, operatorCommand, printResult, withCluster } from "../options/operator.js";
import { address, idText, wholeNumber } from "../options/options.js";
import { table } from "../output/table.js";

type Members = typeof import("../../client/admin/members.js");

interface PromoteOptions extends OperatorOptions {
  readonly waitMs: number;
}

/** Defines `cairn member`, which shows and changes the membership. */
export function memberCommand(): Command {
  const member = new Command("member").description("List the members, and change them one at a time.");
  operatorCommand(member.command("list"))
    .description("List the members.")
    .action((options: OperatorOptions) => show(options, (cluster, { members }) => members(cluster)));
  operatorCommand(member.command("add"))
    .description(
      "Add a node as a learner, which gets the log and does not vote. A node started with --join adds itself.",
    )
    .argument("<id>", "name of the node", idText)
    .argument("<host:port>", "where the other members reach it", address)
    .action((id: string, at: string, options: OperatorOptions) =>
      show(options, (cluster, { addLearner }) => addLearner(cluster, id, at)),
    );
  operatorCommand(member.command("promote"))
    .description("Let a learner vote; waits until it has caught up with the log.")
    .argument("<id>", "name of the node", idText)
    .option("--wait-ms <n>", "how long to wait for it", wholeNumber(0, TIMER_MS_MAX), 60_000)
    .action((id: string, options: PromoteOptions) =>
      show(options, (cluster, { promote }) => promote(cluster, id, options.waitMs)),
    );
  operatorCommand(member.command("remove"))
    .description("Remove a member. Stop its node afterwards: the cluster does not.")
    .argument("<id>", "name of the node", idText)
    .action((id: string, options: OperatorOptions) => show(options, (cluster, { remove }) => remove(cluster, id)));
  return member;
}

/** Does `work` and prints the resulting members. */
async function show(
  options: OperatorOptions,
  work: (cluster: ClusterAdmin, members: Members) => Promise<ClusterMember[]>,
): Promise<void> {
  const members = await withCluster(options, async (cluster) =>
    work(cluster, await import("../../client/admin/members.js")),
  );
  const rows = members.map(({ id, address: at, role }) => [id, at, role]);
  await printResult(options, { members }, table(["ID", "ADDRESS", "ROLE"], rows));
}
