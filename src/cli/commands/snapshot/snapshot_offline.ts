import { statSync } from "node:fs";
import { type Command, InvalidArgumentError, Option } from "commander";
import { printResult } from "../../options/operator.js";
import { idText, namedAddresses, nonEmpty } from "../../options/options.js";
import { exitCodes } from "../../output/exit_codes.js";
import { noProgress, type ProgressDisplay, progressOn } from "../../output/progress.js";
import { untilInterrupted } from "../../output/signals.js";
import type { InspectedFile, RestoredDirectory } from "./snapshot_files.js";

// Defines the commands that work on snapshot files alone; no node needs to run.

interface InspectOptions {
  readonly json?: true;
}

interface RestoreOptions extends InspectOptions {
  readonly id: string;
  readonly dataDir: string;
  readonly cluster: ReadonlyMap<string, string>;
}

const RESTORE_HELP = `
Run it on every host with the same file and the same --cluster, only --id and the directory being its own; then start the nodes:
  cairn snapshot restore backup.snap --id n1 --data ./n1 --cluster n1=10.0.0.1:7101,n2=10.0.0.2:7101,n3=10.0.0.3:7101
  cairn start --id n1 --data ./n1 --listen 10.0.0.1:7101
The members found a new cluster when all of them have been started; nodes of the old cluster, or of an earlier restore, cannot mix with it.
Clients must start anew: versions that they remember may come to stand for other values.`;

const VERIFY_HELP = `
The node may run: snapshots are never changed. Those in a data directory must also have the name and the cluster that a start expects.

Examples:
  cairn snapshot verify backup.snap
  cairn snapshot verify ./n1 --json`;

/** Adds `inspect`, `verify` and `restore` to `cairn snapshot`. */
export function addOfflineCommands(snapshot: Command): void {
  snapshot
    .command("inspect")
    .description("Read a snapshot file, say what it holds, and verify all of it. Exits 3 when it is damaged.")
    .argument("<file>", "a saved snapshot, or one in a data directory", fileName)
    .option("--json", "print JSON")
    .action(async (file: string, options: InspectOptions) => {
      const { inspectFile } = await import("./snapshot_files.js");
      const progress = progressOf(options);
      const bytes = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
      const found = await untilInterrupted((signal) =>
        inspectFile(file, { onProgress: (done) => progress.update(done, Math.max(done, bytes)), signal }),
      ).finally(() => progress.end());
      await printResult(options, found, inspectedText(found));
      if (!found.verified) process.exitCode = exitCodes.no;
    });
  snapshot
    .command("verify")
    .description("Read snapshots, and verify all checksums and the state in them. Exits 3 when one is damaged.")
    .argument("<file|dir>", "a snapshot, a directory of snapshots, or a node's data directory", fileName)
    .option("--json", "print JSON")
    .addHelpText("after", VERIFY_HELP)
    .action(async (path: string, options: InspectOptions) => {
      const { verifySnapshots } = await import("./snapshot_verify.js");
      const progress = progressOf(options);
      const found = await untilInterrupted((signal) => verifySnapshots(path, { progress, signal })).finally(() =>
        progress.end(),
      );
      await printResult(options, found, verifiedText(found.files));
      if (!found.verified) process.exitCode = exitCodes.no;
    });
  snapshot
    .command("restore")
    .description("Make the data directory of a node of a new cluster from a saved snapshot. No node needs to run.")
    .argument("<file>", "a saved snapshot", fileName)
    .requiredOption("--id <name>", "name of the node (A-Z a-z 0-9 . _ -)", idText)
    .addOption(
      new Option("--data, --data-dir <dir>", "directory to make, which must not hold data")
        .argParser(nonEmpty)
        .makeOptionMandatory(),
    )
    .addOption(
      new Option("--cluster <list>", "all members of the new cluster: n1=host:port,n2=host:port,...")
        .argParser(namedAddresses)
        .makeOptionMandatory(),
    )
    .option("--json", "print JSON")
    .addHelpText("after", RESTORE_HELP)
    .action(async (file: string, options: RestoreOptions) => {
      const { restoreFile } = await import("./snapshot_files.js");
      const { id, dataDir, cluster } = options;
      const progress = progressOf(options);
      const onProgress = (done: number, total: number) => progress.update(done, total);
      const restored = await restoreFile(file, { id, data: dataDir, cluster, onProgress }).finally(() =>
        progress.end(),
      );
      await printResult(options, restored, restoredText(restored, cluster));
    });
}

/** Checks a file name. A pipe is refused, because a snapshot is verified before it is used. */
function fileName(text: string): string {
  if (text !== "-") return nonEmpty(text);
  throw new InvalidArgumentError("needs a file, and cannot read standard input (./- is a file of that name)");
}

function inspectedText(found: InspectedFile): string {
  const { cluster, index, term, membersIndex, members, bytes, payloadBytes, sha256, damage } = found;
  const lines = [];
  if (index !== undefined) {
    lines.push(`snapshot at index ${index}, term ${term}, of cluster ${cluster}`);
    const list = members!.map((each) => `${each.id}=${each.address}${each.role === "learner" ? " (learner)" : ""}`);
    const set = `members, set at index ${membersIndex}: ${list.join(", ")}`;
    lines.push(list.length === 0 ? "no members: a restored state, whose cluster has yet to be founded" : set);
  }
  lines.push(`${bytes} bytes${payloadBytes === undefined ? "" : `, ${payloadBytes} of them the state`}`);
  lines.push(damage === undefined ? `verified, SHA-256 ${sha256}` : `NOT GOOD: ${damage}`);
  return lines.join("\n");
}

function verifiedText(files: readonly InspectedFile[]): string {
  return files
    .map(({ file, index, term, bytes, sha256, damage }) => {
      const at = index === undefined ? "" : `index ${index}, term ${term}, `;
      return `${file}: ${at}${bytes} bytes, ${damage === undefined ? `verified, SHA-256 ${sha256}` : `NOT GOOD: ${damage}`}`;
    })
    .join("\n");
}

function progressOf({ json }: InspectOptions): ProgressDisplay {
  return json ? noProgress : progressOn(process.stderr);
}

function restoredText(restored: RestoredDirectory, members: ReadonlyMap<string, string>): string {
  const { node, data, index, term } = restored;
  const others = [...members.keys()].filter((id) => id !== node);
  const same = others.length === 0 ? "" : `do the same for ${others.join(", ")}; `;
  return [
    `${data} holds the state at index ${index}, term ${term}, for founder ${node} of a new cluster`,
    `${same}then start it: cairn start --id ${node} --data ${data} --listen ${members.get(node)}`,
  ].join("\n");
}
