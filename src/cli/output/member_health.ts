import { type GetStatusResponse, HealthVerdict } from "../../../gen/cairn/v1/admin_pb.js";
import { healthVerdicts, type HealthVerdict as Verdict } from "../../node/health/health.js";

/** Health of a member, as the member and its leader report it. */
export interface HealthReport {
  /**
   * The worse of the two verdicts; a verdict of a newer version of Cairn is shown by its number.
   */
  readonly verdict: string;
  /** In words; empty when the member is healthy. */
  readonly reason: string;
  /** The leader's part of the reason. */
  readonly leaderSays: string;
}

/** Durations of a member's log syncs, in milliseconds: see LogSync in admin.proto. */
export interface LogSyncReport {
  readonly lastMs: number;
  readonly maxMs: number;
  readonly p99Ms: number;
  readonly underWayMs?: number;
}

/**
 * Returns a member's health; undefined when it is not known: the member does not answer, and no
 * leader reports a problem.
 */
export function healthReportOf(
  id: string,
  own: GetStatusResponse | undefined,
  leader: GetStatusResponse | undefined,
): HealthReport | undefined {
  const said = [own, ...(leader?.nodeId === id ? [] : [leader])].map((status) =>
    status?.health
      .filter(({ nodeId }) => nodeId === id)
      .sort((a, b) => rank(a.verdict) - rank(b.verdict))
      .at(0),
  );
  const [worst] = said.flatMap((each) => (each === undefined ? [] : [each.verdict])).sort((a, b) => rank(a) - rank(b));
  // The leader has not noticed yet that the member is gone.
  if (worst === undefined || (own === undefined && worst === HealthVerdict.HEALTHY)) return undefined;
  const leaderSays = said[1]?.reason ?? "";
  const seen = leaderSays === "" ? [] : [`its leader says: ${leaderSays}`];
  const ownReason = said[0]?.reason ?? "";
  return { verdict: nameOf(worst), reason: [...(ownReason === "" ? [] : [ownReason]), ...seen].join("; "), leaderSays };
}

export function logSyncOf({ logSync }: GetStatusResponse): { logSync?: LogSyncReport } {
  if (logSync === undefined) return {};
  const { lastMs, maxMs, p99Ms, underWayMs } = logSync;
  return { logSync: { lastMs, maxMs, p99Ms, ...(underWayMs !== undefined && { underWayMs }) } };
}

/** Formats the last sync and the longest of the last minute. */
export function logSyncText(sync: LogSyncReport | undefined): string {
  return sync === undefined ? "-" : `${msText(sync.lastMs)}/${msText(sync.maxMs)}`;
}

/** Ranks the worst verdict first; a verdict that this version does not know counts as the worst. */
function rank(verdict: HealthVerdict): number {
  return healthVerdicts.indexOf(nameOf(verdict) as Verdict);
}

function nameOf(verdict: HealthVerdict): string {
  return HealthVerdict[verdict]?.toLowerCase() ?? `verdict ${verdict}`;
}

function msText(ms: number): string {
  return ms < 10 ? ms.toFixed(1) : `${Math.round(ms)}`;
}
