import type { GetStatusResponse } from "../../../gen/cairn/v1/admin_pb.js";

// The versions of members, for cairn status and cairn doctor.

/** See NodeVersions in admin.proto. */
export interface VersionsReport {
  readonly protocol: number;
  readonly newestRules: number;
  readonly rulesInForce: number;
}

/** The versions of a member. */
export interface MemberVersions {
  /** Version of Cairn. */
  readonly version?: string;
  /** Versions by which members understand each other; left out by a node that does not tell. */
  readonly versions?: VersionsReport;
}

/** Returns the versions that a member tells. */
export function versionsOf({ version, versions }: GetStatusResponse): MemberVersions {
  if (versions === undefined) return { version };
  const { protocol, newestRules, rulesInForce } = versions;
  return { version, versions: { protocol, newestRules, rulesInForce } };
}

/** Describes a program: "0.1.0, protocol 2, rules up to 4". Equal programs have equal texts. */
export function programText({ version = "unknown", versions }: MemberVersions): string {
  if (versions === undefined) return `${version}, an earlier build`;
  const rules = versions.newestRules === 0 ? "" : `, rules up to ${versions.newestRules}`;
  return `${version}, protocol ${versions.protocol}${rules}`;
}

/** Says what each member runs; undefined when all that answer run the same. */
export function mixedVersions(members: readonly (MemberVersions & { readonly id: string })[]): string | undefined {
  const known = members.filter(({ version }) => version !== undefined);
  if (new Set(known.map(programText)).size <= 1) return undefined;
  return known.map((each) => `${each.id} runs ${programText(each)}`).join("; ");
}
