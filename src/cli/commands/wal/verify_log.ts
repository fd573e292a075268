import { StoppedDirectory } from "../../../storage/stopped_directory.js";
import { inspectLog, type LogFindings } from "../../../storage/wal/inspection.js";
import { nodeFileSystem } from "../../../system/fs.js";
import { printResult } from "../../options/operator.js";
import type { ProgressDisplay } from "../../output/progress.js";
import { damageFacts, damageLine, logFacts, logText } from "./dump_log.js";
import { ownerText, type Verdict, verdictOn } from "./verdict.js";

/**
 * Verifies the log of a stopped node, and prints what was found. Returns whether it is sound.
 * @throws CairnError NOT_FOUND; DATA_DIRECTORY when the directory is in use; CANCELLED
 */
export async function verifyLog(
  path: string,
  options: { readonly json?: true },
  { progress, signal }: { readonly progress: ProgressDisplay; readonly signal: AbortSignal },
): Promise<boolean> {
  const say = (text: string) => void process.stderr.write(`cairn: ${text}\n`);
  const directory = await StoppedDirectory.open(nodeFileSystem, path, { say });
  let findings: LogFindings;
  try {
    const onProgress = (done: number, total: number) => progress.update(done, total);
    findings = await inspectLog(nodeFileSystem, directory.log, { onProgress, signal });
    await directory.expectUntouched();
  } finally {
    progress.end();
  }
  const verdict = await verdictOn(directory, findings);
  const { damages, refusal } = findings;
  const facts = {
    directory: directory.path,
    node: directory.identity?.nodeId,
    ...verdict,
    ...logFacts(findings),
    damages: damages.map(damageFacts),
    ...(refusal !== undefined && { refusal }),
  };
  await printResult(options, facts, verifiedText(directory, findings, verdict));
  return verdict.sound;
}

function verifiedText(directory: StoppedDirectory, findings: LogFindings, { sound, start }: Verdict): string {
  const { damages, damageCount, refusal } = findings;
  const hidden = damageCount - damages.length;
  const lines = [
    ownerText(directory),
    logText(findings),
    ...damages.map(damageLine),
    ...(hidden > 0 ? [`--- and ${hidden} more`] : []),
    ...(damages.length === 0 && refusal !== undefined ? [refusal] : []),
    `${sound ? "sound" : "NOT SOUND"}: ${start}`,
  ];
  return lines.join("\n");
}
