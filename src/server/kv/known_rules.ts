import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { CommandSchema } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../base/errors.js";
import { nameOf } from "../../base/ids.js";
import { rulesOf } from "../../machine/kv/command.js";
import { UNTOLD_RULES } from "../../machine/kv/session_limits.js";
import type { KeyValueNode } from "./key_value_node.js";

/** The part of a node that knows which rules for commands its members know. */
export type RulesNode = Pick<KeyValueNode, "machine" | "rulesOfMembers">;

/**
 * Checks that all members that this leader hears know the rules that a command needs: a member that
 * does not would have to stop at its entry. Rules that are in force need no look: every member has
 * applied them already.
 * @throws CairnError FAILED_PRECONDITION while a member runs an older version; nothing has happened
 */
export function assertRulesKnown(
  { machine, rulesOfMembers }: RulesNode,
  command: MessageInitShape<typeof CommandSchema>,
): void {
  for (const [member, told] of rulesOfMembers) {
    const known = told === 0 ? UNTOLD_RULES : told;
    if (known >= machine.newestRules) continue;
    const needed = rulesOf(create(CommandSchema, command).operation);
    if (needed <= Math.max(known, machine.rulesInForce)) continue;
    const text =
      `${nameOf(member)} runs a version of Cairn that knows version ${known} of the rules for commands, and this one ` +
      `needs version ${needed}: finish the upgrade of all members, then repeat it; nothing was changed`;
    throw new CairnError("FAILED_PRECONDITION", text);
  }
}
