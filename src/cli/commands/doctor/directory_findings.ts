import { join } from "node:path";
import { CairnError } from "../../../base/errors.js";
import { LmdbDirectory, linuxBootId } from "../../../machine/lmdb/directory.js";
import { DAMAGED_MEMBER } from "../../../storage/advice.js";
import { parseSnapshotFileName } from "../../../storage/snapshots/file_names.js";
import { inspectSnapshot } from "../../../storage/snapshots/inspect.js";
import type { SnapshotInfo } from "../../../storage/snapshots/snapshot_info.js";
import type { StoppedDirectory } from "../../../storage/stopped_directory.js";
import { inspectLog, type LogFindings } from "../../../storage/wal/inspection.js";
import { logExtent } from "./cluster_findings.js";
import { bytesText, type DoctorFinding, ok, problem, warning } from "./findings.js";

interface Reading {
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  readonly signal?: AbortSignal;
}

/** Reads the directory of a stopped node: its owner, whole log, snapshots and state. */
export async function directoryFindings(directory: StoppedDirectory, reading: Reading = {}): Promise<DoctorFinding[]> {
  const log = await inspectLog(directory.fs, directory.log, reading);
  const { findings, newest } = await snapshotFindings(directory);
  const stoppedAt = await directory.stoppedAt();
  return [
    owner(directory),
    ...logFindings(log, stoppedAt, newest),
    ...findings,
    ...(await stateFindings(directory)),
    ...(await leftOvers(directory)),
  ];
}

function owner({ identity, identityProblem }: StoppedDirectory): DoctorFinding {
  if (identityProblem !== undefined) return problem("owner", identityProblem, DAMAGED_MEMBER);
  if (identity === undefined) {
    const text = "it has no cairn.json, so it is not known whose data this is";
    return problem("owner", text, DAMAGED_MEMBER);
  }
  const { nodeId, clusterId, retired } = identity;
  const text = `node ${nodeId} of ${clusterId === "" ? "no cluster yet" : `cluster ${clusterId}`}`;
  if (!retired) return ok("owner", text);
  const advice = `Start it as always: it sets the data aside and comes back as a new member. docs/operations.md, 'Lost data'.`;
  return problem("owner", `${text}, which has lost data that it acknowledged`, advice);
}

/** Judges a log, and whether it continues the newest good snapshot (R9). */
export function logFindings(
  log: LogFindings,
  stoppedAt: number | undefined,
  newest: SnapshotInfo | undefined,
): DoctorFinding[] {
  const { refusal, damages, damageCount, torn, boundary, last, fileBytes } = log;
  if (refusal !== undefined) {
    const first = damages[0];
    const text =
      first === undefined
        ? "a start refuses it"
        : `${first.text}${damageCount > 1 ? `, and ${damageCount - 1} more places` : ""}`;
    return [problem("log", text, `cairn wal verify DIR has the details. ${DAMAGED_MEMBER}`)];
  }
  const findings: DoctorFinding[] = [];
  if (stoppedAt !== undefined && stoppedAt > last.index) {
    const text = `it ended at index ${stoppedAt} at the last clean stop, and ends at ${last.index} now`;
    const advice = "Find out who put an older copy back. A start sets the data aside and comes back as a new member.";
    findings.push(problem("log", text, advice));
  }
  findings.push(
    logExtent("it", {
      logBytes: fileBytes,
      entries: last.index - boundary.index,
      snapshotIndex: newest?.index ?? 0,
      snapshotBytes: newest?.fileBytes ?? 0,
    }),
  );
  if (torn !== undefined) {
    findings.push(
      ok("log", `its last write was torn by a crash: a start removes ${torn.bytes} bytes that nobody was told of`),
    );
  }
  if (boundary.index > (newest?.index ?? 0)) {
    const text = `it starts behind index ${boundary.index}, and ${newest === undefined ? "there is no good snapshot" : `the newest good snapshot is at index ${newest.index}`}`;
    const advice =
      "A start fills the hole from the state, if that is whole, or from another member: let the others run.";
    findings.push(problem("log", text, advice));
  }
  return findings;
}

/** Reads headers and trailers of the snapshots; `cairn snapshot verify` reads all of them. */
async function snapshotFindings({
  fs,
  identity,
  snapshots,
}: StoppedDirectory): Promise<{ findings: DoctorFinding[]; newest: SnapshotInfo | undefined }> {
  const names = (await fs.exists(snapshots)) ? await fs.list(snapshots) : [];
  const findings: DoctorFinding[] = [];
  const good: SnapshotInfo[] = [];
  for (const name of names.filter((each) => parseSnapshotFileName(each) !== undefined).sort()) {
    const owner = { clusterId: identity?.clusterId ?? "", base: identity?.base };
    try {
      good.push(await inspectSnapshot(fs, join(snapshots, name), owner));
    } catch (error) {
      const advice = "It is passed over, and kept. Find out what damaged it: docs/operations.md, 'A damaged disk'.";
      findings.push(problem("snapshots", CairnError.from(error).text, advice));
    }
  }
  const newest = good.at(-1);
  const text =
    newest === undefined
      ? "none yet: the state is rebuilt from the log alone"
      : `${good.length}, the newest at index ${newest.index} with ${bytesText(newest.fileBytes)}`;
  findings.push(ok("snapshots", text));
  const parts = names.filter((name) => name.endsWith(".part")).length;
  if (parts > 0) findings.push(ok("snapshots", `${parts} unfinished: a start resumes or removes them`));
  return { findings, newest };
}

async function stateFindings({ fs, state }: StoppedDirectory): Promise<DoctorFinding[]> {
  if (!(await fs.exists(join(state, "CURRENT")))) {
    return [ok("state", "there is none on disk: a start builds it from snapshot and log")];
  }
  const found = await (await LmdbDirectory.open(fs, state, linuxBootId)).trusted();
  if (found.reason === undefined) return [ok("state", "a start uses it, if its checksums are good")];
  return [ok("state", `a start builds it again from snapshot and log: ${found.reason}`)];
}

async function leftOvers(directory: StoppedDirectory): Promise<DoctorFinding[]> {
  const lost = (await directory.names()).filter((name) => name.startsWith("lost-")).sort();
  if (lost.length === 0) return [];
  const advice = "Find out why (docs/operations.md, 'Lost data'), then remove it: it takes room, and nothing reads it.";
  return [warning("lost data", `set aside by earlier starts: ${lost.join(", ")}`, advice)];
}
