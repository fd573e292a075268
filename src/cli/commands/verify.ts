import { Command } from "commander";
import { hex } from "../../encoding/snapshot_format.js";
import { type OperatorOptions, operatorCommand, printResult, withCluster } from "../options/operator.js";
import { idText } from "../options/options.js";
import { exitCodes } from "../output/exit_codes.js";
import { table } from "../output/table.js";

interface VerifyOptions extends OperatorOptions {
  readonly node?: string;
}

/** The comparison of the members' states, as it is printed. */
interface Verified {
  /** All members have answered, and all digests are the same. */
  readonly equal: boolean;
  /** Index at which the states were compared. */
  readonly index: number;
  readonly members: readonly {
    readonly id: string;
    readonly sha256?: string;
    /** The digest is not the one that most members have. */
    readonly differs?: true;
    readonly error?: string;
  }[];
}

const HELP = `
All members take a snapshot at one index, and its SHA-256 must be the same on all. It costs each of them a snapshot. A member that has applied more
by then builds the state at that index from its newest snapshot and its log.
Exits with 3 when a member has another state than most, and with 1 when only the digest of a member could not be obtained.`;

/** Defines `cairn verify`, which compares the states of all members. */
export function verifyCommand(): Command {
  return operatorCommand(new Command("verify"))
    .description("Compare the states of all members.")
    .option("--node <id>", "which member asks the others (default: the leader)", idText)
    .addHelpText("after", HELP)
    .action(async (options: VerifyOptions) => {
      const found = await withCluster(
        options,
        async (cluster): Promise<Verified> => {
          // The leader knows the members: a node that was removed may not.
          const { index, digests, allEqual } =
            options.node === undefined
              ? await cluster.onLeader((leader) => leader.verifyState({}))
              : await (await cluster.member(options.node)).admin.verifyState({});
          return {
            equal: allEqual,
            index: Number(index),
            members: digests.map(({ nodeId, sha256, differs, error }) => ({
              id: nodeId,
              ...(sha256.byteLength > 0 && { sha256: hex(sha256) }),
              ...(differs && { differs }),
              ...(error !== "" && { error }),
            })),
          };
        },
        "comparing the states",
      );
      if (!found.equal)
        process.exitCode = found.members.some(({ differs }) => differs) ? exitCodes.no : exitCodes.failed;
      await printResult(options, found, verifiedText(found));
    });
}

function verifiedText({ index, equal, members }: Verified): string {
  const rows = members.map(({ id, sha256, differs, error }) => [
    id,
    sha256 ?? "-",
    error === undefined ? (differs ? "DIFFERS" : "as most") : `not known: ${error}`,
  ]);
  const differing = members.flatMap(({ id, differs }) => (differs ? [id] : []));
  const title = equal
    ? `all members have the same state at index ${index}`
    : differing.length > 0
      ? `at index ${index}, a different state from the majority's: ${differing.join(", ")}`
      : `some members could not be compared at index ${index}; the others have the same state`;
  return [title, table(["ID", "SHA-256", "STATE"], rows)].join("\n");
}
