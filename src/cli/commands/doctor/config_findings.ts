import { stat } from "node:fs/promises";
import { CairnError } from "../../../base/errors.js";
import { type NodeTls, type NodeTlsFiles, openNodeTls } from "../../../server/node_security.js";
import { allWell, timeFindings } from "./certificate_findings.js";
import type { ConfiguredNode } from "./configured_node.js";
import { type DoctorFinding, ok, problem, warning } from "./findings.js";

// Judges the config file of a node and the TLS files that it names, as the next start would.

/** Permission bits of everybody but the file's owner. */
const OTHERS = 0o077;

/**
 * Judges what a config file says of a node. `owner`: the node that the data directory belongs to,
 * if one is given.
 */
export async function configFindings(
  { id, tls }: ConfiguredNode,
  owner: string | undefined,
  nowMs: number,
): Promise<DoctorFinding[]> {
  if (owner !== undefined && id !== undefined && id !== owner) {
    const advice = "Give the config file of the node that the directory belongs to.";
    return [problem("config", `it is for node ${id}, and the directory belongs to ${owner}`, advice)];
  }
  if (tls === undefined) return [ok("certificates", "the config file names none: the node runs without TLS")];
  const name = owner ?? id;
  if (name !== undefined) return tlsFileFindings(tls, name, nowMs);
  const advice = "Name the node in the config file, or give its directory, too.";
  return [warning("certificates", "not checked: nothing says which node they are for", advice)];
}

/**
 * Reads the files, and checks that they go together: key and certificate, certificate and
 * authority, certificate and node. `id`: the node that they are for.
 */
async function tlsFileFindings(files: NodeTlsFiles, id: string, nowMs: number): Promise<DoctorFinding[]> {
  const keys = [...new Set([files.key, files.peerKey].filter((file) => file !== undefined))];
  const findings = (await Promise.all(keys.map(keyFinding))).flat();
  try {
    const tls = await openNodeTls(files, { id });
    tls.close();
    return [...findings, ...inForce(tls, nowMs)];
  } catch (error) {
    const advice = "A start refuses it so. docs/certificates.md says how to make certificates that fit.";
    return [...findings, problem("certificates", CairnError.from(error).text, advice)];
  }
}

function inForce({ certificates, node }: NodeTls, nowMs: number): DoctorFinding[] {
  const findings = certificates.flatMap((each) => timeFindings("a start", each, nowMs));
  if (findings.length === 0) findings.push(allWell("a start", certificates));
  if (node !== undefined) {
    findings.push(ok("certificates", `made for node ${node.id} of the cluster that they call ${node.cluster}`));
  }
  return findings;
}

async function keyFinding(file: string): Promise<DoctorFinding[]> {
  // A file that is not there is reported by whoever reads it.
  const found = await stat(file).catch(() => undefined);
  if (found === undefined || process.platform === "win32" || (found.mode & OTHERS) === 0) return [];
  const mode = (found.mode & 0o777).toString(8).padStart(3, "0");
  const text = `${file} may be read or changed by others than its owner (mode ${mode})`;
  const advice = `chmod 600 ${file}. If others may have read it, make a new key, too: it passes for the node's.`;
  return [warning("key", text, advice)];
}
