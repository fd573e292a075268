import { CairnError, hasCode } from "../../../base/errors.js";
import { DataDirectory } from "../../../storage/data_dir.js";
import { StoppedDirectory } from "../../../storage/stopped_directory.js";
import { nodeFileSystem } from "../../../system/fs.js";
import { processLimits } from "../../../system/process_limits.js";
import { type OperatorOptions, printResult, withCluster } from "../../options/operator.js";
import { asStep, type ProgressDisplay } from "../../output/progress.js";
import { countOf, type DoctorFinding, findingsText, ok, problem } from "./findings.js";
import { processFindings } from "./process_findings.js";

/** The things that the doctor looks at. */
export interface DoctorTargets {
  readonly directory: string | undefined;
  /** Config file of a node, whose TLS files are checked. */
  readonly config?: string | undefined;
  /** Whether to ask the cluster. */
  readonly cluster: boolean;
}

/** Looks at everything that was asked for, and prints it. Returns whether there is no problem. */
export async function runDoctor(
  { directory, config, cluster }: DoctorTargets,
  options: OperatorOptions,
  { progress, signal }: { readonly progress: ProgressDisplay; readonly signal: AbortSignal },
): Promise<boolean> {
  const findings: DoctorFinding[] = [];
  if (cluster) findings.push(...(await lookAtCluster(options)));
  if (directory !== undefined) findings.push(...(await lookAtDirectory(directory, options, progress, signal)));
  if (config !== undefined) findings.push(...(await lookAtConfig(config, directory)));
  const facts = { problems: countOf(findings, "problem"), warnings: countOf(findings, "warning"), findings };
  await printResult(options, facts, findingsText(findings));
  return facts.problems === 0;
}

async function lookAtCluster(options: OperatorOptions): Promise<DoctorFinding[]> {
  const [{ askMembers }, { clusterFindings }] = await Promise.all([
    import("./members.js"),
    import("./cluster_findings.js"),
  ]);
  try {
    return clusterFindings(await withCluster(options, askMembers, "asking the members"));
  } catch (error) {
    if (!hasCode(error, "UNREACHABLE")) throw error;
    const advice = "Start a node, or name others with --endpoints or CAIRN_ENDPOINTS.";
    return [problem("cluster", CairnError.from(error).text, advice)];
  }
}

async function lookAtDirectory(
  path: string,
  options: OperatorOptions,
  progress: ProgressDisplay,
  signal: AbortSignal,
): Promise<DoctorFinding[]> {
  const findings = await readDirectory(path, progress, signal);
  const { diskFindings } = await import("./disk_findings.js");
  findings.push(...(await asStep("measuring the disk", options, () => diskFindings(path))));
  return [...findings, ...processFindings("a process started from here", processLimits())];
}

/** Judges the certificates of a config file; `directory` says whose they must be. */
async function lookAtConfig(config: string, directory: string | undefined): Promise<DoctorFinding[]> {
  const [{ configuredNode }, { configFindings }] = await Promise.all([
    import("./configured_node.js"),
    import("./config_findings.js"),
  ]);
  const identity = directory === undefined ? undefined : await DataDirectory.identityAt(nodeFileSystem, directory);
  return configFindings(configuredNode(config), identity?.nodeId, Date.now());
}

async function readDirectory(path: string, progress: ProgressDisplay, signal: AbortSignal): Promise<DoctorFinding[]> {
  const say = (text: string) => void process.stderr.write(`cairn: ${text}\n`);
  let directory: StoppedDirectory;
  try {
    directory = await StoppedDirectory.open(nodeFileSystem, path, { say });
  } catch (error) {
    if (!hasCode(error, "DATA_DIRECTORY")) throw error;
    const [inUse] = error.text.split(". ", 1);
    return [ok("directory", `${inUse}: its log and state are not read. Ask the node with --endpoints`)];
  }
  const { directoryFindings } = await import("./directory_findings.js");
  try {
    const onProgress = (done: number, total: number) => progress.update(done, total);
    const findings = await directoryFindings(directory, { onProgress, signal });
    await directory.expectUntouched();
    return findings;
  } finally {
    progress.end();
  }
}
