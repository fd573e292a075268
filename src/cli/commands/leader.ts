import { Command } from "commander";
import { CairnError } from "../../base/errors.js";
import type { AdminClient } from "../../client/admin/cluster_admin.js";
import { type OperatorOptions, operatorCommand, printResult, withCluster } from "../options/operator.js";
import { idText } from "../options/options.js";

/** Time limit for the leader to confirm that it leads, in milliseconds. */
const ANSWER_MS = 2_000;

/** Defines `cairn leader`, which shows the leader or transfers leadership. */
export function leaderCommand(): Command {
  const leader = new Command("leader")
    .description("Show the leader, or hand leadership over.")
    .usage("[command] [options]");
  operatorCommand(leader.command("show", { isDefault: true }))
    .description("Show the leader, as cairn leader does without a command. Exits with 1 when there is none.")
    .argument("[none...]", "no argument")
    .usage("[options]")
    .action((others: string[], options: OperatorOptions, command: Command) => {
      if (others.length > 0)
        command.error(`error: unknown command '${others[0]}' (a command comes before its options)`);
      return show(options);
    });
  operatorCommand(leader.command("transfer"))
    .description("Hand leadership over to a voter.")
    .argument("[id]", "the voter to lead (default: the most caught-up one)", idText)
    .action((id: string | undefined, options: OperatorOptions) =>
      withCluster(
        options,
        async (cluster) => {
          const transfer = (admin: AdminClient) => admin.transferLeadership({ nodeId: id ?? "" });
          const { leaderId } = await cluster.onLeader(transfer);
          await printResult(options, { leader: leaderId }, `${leaderId} leads`);
        },
        "handing leadership over",
      ),
    );
  return leader;
}

/** Asks the leader itself: another node that names it may be behind. */
function show(options: OperatorOptions): Promise<void> {
  return withCluster(options, async (cluster) => {
    const ask = async (admin: AdminClient, address: string) => {
      const { leaderId, nodeId, term } = await admin.getStatus({}, { timeoutMs: ANSWER_MS });
      if (leaderId !== nodeId) throw new CairnError("NOT_LEADER", `${nodeId} no longer leads`);
      return { leader: leaderId, address, term: Number(term) };
    };
    const found = await cluster.onLeader(ask, undefined, 0);
    await printResult(options, found, `${found.leader} leads, at ${found.address}`);
  });
}
