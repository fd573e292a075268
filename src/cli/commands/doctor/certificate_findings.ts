import { checkServerIdentity } from "node:tls";
import { type Certificate, CertificateUse, type GetStatusResponse } from "../../../../gen/cairn/v1/admin_pb.js";
import { hostIn } from "../../../base/addresses.js";
import type { Member } from "../../../raft/types.js";
import { expiryWarning, nodeNamed } from "../../../server/node_security.js";
import { type DoctorFinding, ok, problem, warning } from "./findings.js";

// Judges the certificates that running members use: their time, and the names that they have.

/** A member that answers, with the status that names its certificates. */
interface Certified {
  readonly member: Pick<Member, "id" | "address">;
  readonly status: Pick<GetStatusResponse, "certificates">;
}

const RENEW = "Make a new one in its place, and the node takes it within seconds: docs/certificates.md, 'Renewal'.";

/** Returns whether a warning of a node is about one of its certificates. */
export function tells(certificates: readonly Certificate[], warning: string): boolean {
  return certificates.some(({ subject, file }) => warning.startsWith(`the certificate of ${subject} in ${file} `));
}

/** Judges the certificates of members, and whether they go together. */
export function certificateFindings(members: readonly Certified[], nowMs: number): DoctorFinding[] {
  const secured = members.filter(({ status }) => status.certificates.length > 0);
  if (secured.length === 0) return [];
  return [
    ...mixture(members, secured),
    ...clusters(secured),
    ...secured.flatMap(({ member, status }) => ofMember(member, status.certificates, nowMs)),
  ];
}

function mixture(members: readonly Certified[], secured: readonly Certified[]): DoctorFinding[] {
  const bare = members.filter((each) => !secured.includes(each)).map(({ member }) => member.id);
  if (bare.length === 0) return [];
  const text = `${bare.join(", ")} ${bare.length === 1 ? "uses" : "use"} no TLS, and the others do`;
  return [problem("certificates", text, "Start all members with certificates, or none: docs/tls.md.")];
}

/** Members accept each other only with certificates of one cluster. */
function clusters(secured: readonly Certified[]): DoctorFinding[] {
  const named = secured.flatMap(({ member, status }) => {
    const cluster = nodeNamed(forMembers(status.certificates)?.names ?? [])?.cluster;
    return cluster === undefined ? [] : [{ id: member.id, cluster }];
  });
  if (new Set(named.map(({ cluster }) => cluster)).size < 2) return [];
  const text = named.map(({ id, cluster }) => `that of ${id} names cluster ${cluster}`).join(", ");
  const advice = "Make those that are wrong again, with the same --cluster-id: such members refuse each other.";
  return [problem("certificates", text, advice)];
}

function ofMember(
  { id, address }: Certified["member"],
  certificates: readonly Certificate[],
  nowMs: number,
): DoctorFinding[] {
  const findings = certificates.flatMap((each) => timeFindings(id, dated(each), nowMs));
  const node = nodeNamed(forMembers(certificates)?.names ?? []);
  if (node !== undefined && node.id !== id) {
    const text = `${id} uses the certificate of node ${node.id}`;
    const advice = `Make one for it: cairn certs node --id ${id}. The other members refuse a node under another's name.`;
    findings.push(problem("certificates", text, advice));
  }
  const server = certificates.find(({ use }) => use === CertificateUse.SERVER);
  if (server !== undefined && server.names.length > 0 && !isFor(hostIn(address), server.names)) {
    const text = `${id} is reached at ${address}, and ${server.file} is not for that host`;
    const advice = "Make it again, with this host in --host: clients that verify the name refuse the node.";
    findings.push(warning("certificates", text, advice));
  }
  return findings.length > 0 ? findings : [allWell(id, certificates.map(dated))];
}

/** A certificate as its validity is judged. */
export interface ValidCertificate {
  readonly subject: string;
  readonly file: string;
  /** 0 when it is not known. */
  readonly startsMs: number;
  readonly expiresMs: number;
}

function dated({ subject, file, startsUnixMs, expiresUnixMs }: Certificate): ValidCertificate {
  return { subject, file, startsMs: Number(startsUnixMs), expiresMs: Number(expiresUnixMs) };
}

/** Judges the validity of a certificate; returns nothing when it is valid for long. */
export function timeFindings(name: string, certificate: ValidCertificate, nowMs: number): DoctorFinding[] {
  const { subject, file, startsMs, expiresMs } = certificate;
  if (startsMs > nowMs) {
    const text = `${name}: the certificate of ${subject} in ${file} is valid only from ${timeText(startsMs)} on`;
    return [problem("certificates", text, "Compare the clocks, or make it again.")];
  }
  // In the words of the node's own warning, which knows when a certificate has little time left.
  const ending = expiryWarning({ use: "server", ...certificate }, nowMs);
  if (ending === undefined) return [];
  const text = `${name}: ${ending.replace(/: replace the file$/, "")}`;
  return [expiresMs <= nowMs ? problem("certificates", text, RENEW) : warning("certificates", text, RENEW)];
}

/** The finding for certificates that nothing is wrong with. */
export function allWell(name: string, certificates: readonly ValidCertificate[]): DoctorFinding {
  const first = certificates.reduce((one, other) => (other.expiresMs < one.expiresMs ? other : one));
  const many = certificates.length === 1 ? "1 certificate" : `${certificates.length} certificates`;
  return ok("certificates", `${name} has ${many}; the first, ${first.subject}, ends at ${timeText(first.expiresMs)}`);
}

/** Returns the certificate that other members see. */
function forMembers(certificates: readonly Certificate[]): Certificate | undefined {
  const of = (wanted: CertificateUse) => certificates.find(({ use }) => use === wanted);
  return of(CertificateUse.PEER) ?? of(CertificateUse.SERVER);
}

function isFor(host: string, names: readonly string[]): boolean {
  const certificate = { subject: {}, subjectaltname: names.join(", ") };
  return checkServerIdentity(host, certificate as Parameters<typeof checkServerIdentity>[1]) === undefined;
}

function timeText(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}
