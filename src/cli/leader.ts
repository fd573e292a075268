import { Command } from "commander";
import { type OperatorOptions, operatorCommand, printResult, withCluster } from "./operator.js";
import { idText } from "./options.js";

/** `cairn leader` */
export function leaderCommand(): Command {
  const leader = new Command("leader").description("Say who leads.");
  operatorCommand(leader.command("transfer"))
    .description("Hand leadership over to a voter.")
    .argument("[id]", "the node that is to lead (default: the one that is most caught up)", idText)
    .action((id: string | undefined, options: OperatorOptions) =>
      withCluster(options, async (cluster) => {
        const { leaderId } = await cluster.onLeader((admin) => admin.transferLeadership({ nodeId: id ?? "" }));
        printResult(options, { leader: leaderId }, `${leaderId} leads`);
      }),
    );
  return leader;
}
