import { membershipCodec } from "../../../encoding/membership.js";
import type { Membership } from "../../../raft/types.js";
import { DAMAGED_MEMBER } from "../../../storage/advice.js";
import { parseSnapshotFileName } from "../../../storage/snapshots/file_names.js";
import { inspectHeader } from "../../../storage/snapshots/inspect.js";
import type { StoppedDirectory } from "../../../storage/stopped_directory.js";
import type { LogFindings } from "../../../storage/wal/inspection.js";

/** Sums up the findings about a log. */
export interface Verdict {
  /** A start opens the log, and it reaches as far as it did at the last clean stop. */
  readonly sound: boolean;
  /** Tells what a start would do, and the operator what to do about it. */
  readonly start: string;
  /** Other voters of the cluster, as far as the directory knows them: id=address. */
  readonly healers: readonly string[];
}

/** Judges the findings about a directory's log. */
export async function verdictOn(directory: StoppedDirectory, findings: LogFindings): Promise<Verdict> {
  const members = await membersOf(directory, findings);
  const self = directory.identity?.nodeId;
  const healers = members
    .filter(({ id, role }) => id !== self && role === "voter")
    .map(({ id, address }) => `${id}=${address}`);
  const { refusal, torn, last } = findings;
  if (refusal !== undefined) return { sound: false, start: `a start refuses this log. ${healing(healers)}`, healers };
  const stoppedAt = await directory.stoppedAt();
  if (stoppedAt !== undefined && stoppedAt > last.index) {
    const lost = `the log ended at index ${stoppedAt} at the last clean stop, and ends at ${last.index} now: a start finds that out (T3)`;
    return { sound: false, start: `${lost}, sets the data aside and comes back as a new member`, healers };
  }
  if (torn === undefined) return { sound: true, start: "a start opens this log as it is", healers };
  const write = `the ${torn.bytes} bytes of a write whose end was never reported, at offset ${torn.offset} of ${torn.path}`;
  return { sound: true, start: `a start opens this log, and removes ${write}`, healers };
}

function healing(healers: readonly string[]): string {
  if (healers.length === 0) return `No other voter is known here. ${DAMAGED_MEMBER}`;
  return `The other voters can make up for it: ${healers.join(", ")}. ${DAMAGED_MEMBER}`;
}

/** Returns the newest members that the directory knows: by the log, a snapshot, or the founding. */
async function membersOf(directory: StoppedDirectory, { configuration }: LogFindings): Promise<Membership> {
  if (configuration !== undefined) {
    try {
      return membershipCodec.decode(configuration);
    } catch {
      // A newer version wrote it: what a snapshot says comes next.
    }
  }
  const { fs, identity, snapshots } = directory;
  const names = (await fs.exists(snapshots)) ? (await fs.list(snapshots)).filter(parseSnapshotFileName).sort() : [];
  for (const name of names.toReversed()) {
    const meta = await inspectHeader(fs, `${snapshots}/${name}`, identity?.clusterId ?? "");
    if (meta !== undefined && meta.membership.members.length > 0) return meta.membership.members;
  }
  return identity?.members ?? [];
}

/** Says whose directory it is. */
export function ownerText({ path, identity, identityProblem }: StoppedDirectory): string {
  if (identityProblem !== undefined) return `${path}: ${identityProblem}`;
  if (identity === undefined) return `${path}: belongs to nobody yet`;
  const { nodeId, clusterId, retired } = identity;
  const cluster = clusterId === "" ? "no cluster yet" : `cluster ${clusterId}`;
  return `${path}: node ${nodeId} of ${cluster}${retired ? ", retired: it has lost data" : ""}`;
}
