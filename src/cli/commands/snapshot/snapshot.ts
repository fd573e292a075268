import { Command } from "commander";
import { limits } from "../../../base/limits.js";
import type { ClusterAdmin } from "../../../client/admin/cluster_admin.js";
import { note, type OperatorOptions, operatorCommand, printResult, withCluster } from "../../options/operator.js";
import { idText, nonEmpty, wholeNumber } from "../../options/options.js";
import { noProgress, progressOn } from "../../output/progress.js";
import { untilInterrupted } from "../../output/signals.js";
import { STANDARD_OUTPUT } from "../../output/snapshot_target.js";
import { table } from "../../output/table.js";
import { addOfflineCommands } from "./snapshot_offline.js";
import type { Snapshot } from "./snapshots.js";

type Snapshots = typeof import("./snapshots.js");

interface NodeTargetOptions extends OperatorOptions {
  readonly node?: string;
}

interface SaveOptions extends NodeTargetOptions {
  readonly index?: number;
  readonly quiet?: true;
}

/** Defines `cairn snapshot`, which takes, lists and saves the snapshots of a node. */
export function snapshotCommand(): Command {
  const snapshot = new Command("snapshot").description(
    "Take, list and save the snapshots of a node; inspect, verify and restore saved ones.",
  );
  nodeCommand(snapshot.command("take"))
    .description("Take a snapshot now, and trim the log behind it.")
    .action(async (options: NodeTargetOptions) => {
      const found = await ask(options, (cluster, { take }) => take(cluster, options.node), "taking the snapshot");
      const { node, taken, trimmed, snapshot: newest } = found;
      const text = taken ? `took a snapshot, and trimmed ${trimmed} entries` : "has nothing new to put into a snapshot";
      await printResult(options, found, `${node} ${text}${newest === undefined ? "" : `\n${describe(newest)}`}`);
    });
  nodeCommand(snapshot.command("list"))
    .description("List the snapshots on a node's disk, newest first.")
    .action(async (options: NodeTargetOptions) => {
      const found = await ask(options, (cluster, { list }) => list(cluster, options.node));
      const rows = found.snapshots.map(({ index, term, bytes, sha256 }) => [index, term, bytes, sha256].map(String));
      await printResult(options, found, table(["INDEX", "TERM", "BYTES", "SHA-256"], rows));
    });
  nodeCommand(snapshot.command("save"))
    .description("Save a snapshot to a file, and verify it on the way.")
    .argument(
      "<file>",
      "file to write, which must not exist; - is standard output, unless that is a terminal",
      nonEmpty,
    )
    .option("--index <n>", "which one (default: the newest)", wholeNumber(1, limits.indexMax))
    .option("--quiet", "show no progress on a terminal")
    .action(async (file: string, options: SaveOptions) => {
      const progress = options.json || options.quiet ? noProgress : progressOn(process.stderr);
      const saved = await untilInterrupted((signal) =>
        ask(options, (cluster, { save }) =>
          save(cluster, options.node, options.index ?? 0, file, { progress, signal }),
        ),
      );
      const where = file === STANDARD_OUTPUT ? "standard output" : file;
      const text = `saved to ${where}, from ${saved.node}\n${describe(saved.snapshot)}`;
      // Standard output holds the snapshot itself.
      if (file === STANDARD_OUTPUT) note(options, { ...saved, file }, text);
      else await printResult(options, { ...saved, file }, text);
    });
  addOfflineCommands(snapshot);
  return snapshot;
}

function nodeCommand(command: Command): Command {
  return operatorCommand(command).option("--node <id>", "which member (default: the first endpoint)", idText);
}

function ask<Found>(
  options: OperatorOptions,
  work: (cluster: ClusterAdmin, snapshots: Snapshots) => Promise<Found>,
  step?: string,
): Promise<Found> {
  return withCluster(options, async (cluster) => work(cluster, await import("./snapshots.js")), step);
}

function describe({ index, term, bytes, sha256 }: Snapshot): string {
  return `index ${index}, term ${term}, ${bytes} bytes, SHA-256 ${sha256}`;
}
