import { readFileSync, statSync } from "node:fs";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { plainFingerprint } from "../../rpc/security/caller_certificate.js";
import { type Openness, Policy, type PolicyCaller } from "./policy.js";
import { type AccessRole, accessRoles, type KeySet, keyPrefix, type Rights, union } from "./rights.js";
import { isTokenHash } from "./tokens.js";

// Reads access files. Every error names the place in the file: callers[2].grants[0].role.

const NAME = new RegExp(`^[A-Za-z0-9._@/-]{1,${limits.callerNameCharacters}}$`);
const CERTIFICATE = /^(CN=|DNS:|URI:|IP Address:|email:).+$/;
const FINGERPRINT = /^[0-9a-f]{64}$/;
const CALLER_EXAMPLE = '{"name": "alice", "tokens": ["sha256:…"], "grants": [{"role": "reader"}]}';

/** Proof by which members of the cluster know each other. */
export type PeerProof = "certificate" | "token";

/**
 * Reads an access file.
 * @throws CairnError INVALID_ARGUMENT, naming the file and the place in it
 */
export function readAccessFile(path: string, peerProof?: PeerProof): Policy {
  try {
    const { size } = statSync(path);
    const most = limits.accessFileBytes;
    if (size > most) throw invalid(`it has ${size} bytes; the limit accessFileBytes is ${most}`);
    return parseAccess(readFileSync(path, "utf8"), peerProof);
  } catch (cause) {
    const text = cause instanceof CairnError ? cause.text : `it cannot be read: ${(cause as Error).message}`;
    throw new CairnError("INVALID_ARGUMENT", `access file ${path}: ${text}`, { cause });
  }
}

/**
 * Reads the text of an access file. With `peerProof` "certificate" no caller may have the role
 * peer: a token would be a way around the certificates.
 * @throws CairnError INVALID_ARGUMENT, naming the place
 */
export function parseAccess(text: string, peerProof?: PeerProof): Policy {
  const root = fieldsOf(jsonOf(text), "the file", ["health", "reflection", "callers", "revoked"]);
  const list = root.callers;
  if (!Array.isArray(list)) throw invalid(`callers must be a list such as [${CALLER_EXAMPLE}]`);
  const owners = new Map<string, string>();
  const callers = list.map((each, at) => callerOf(each, `callers[${at}]`, owners));
  if (peerProof === "certificate") {
    const at = callers.findIndex(({ rights }) => rights.isPeer);
    if (at >= 0) {
      throw invalid(
        `callers[${at}].grants: members prove themselves by their certificates here, so no caller may have the role peer`,
      );
    }
  }
  return new Policy({
    health: opennessOf(root.health, "health", "open"),
    reflection: opennessOf(root.reflection, "reflection", "known"),
    callers,
    revoked: textsOf(root.revoked, "revoked").map((text, at) =>
      once(fingerprintOf(text, `revoked[${at}]`), `revoked[${at}]`, owners),
    ),
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid(`it is not JSON: ${(error as Error).message}`);
  }
}

/** `owners`: the caller of each name and credential so far, to find those that come twice. */
function callerOf(value: unknown, place: string, owners: Map<string, string>): PolicyCaller {
  const fields = fieldsOf(value, place, ["name", "certificates", "tokens", "grants"]);
  const { name } = fields;
  if (typeof name !== "string" || !NAME.test(name)) {
    const most = limits.callerNameCharacters;
    throw invalid(
      `${place}.name must be 1 to ${most} characters (callerNameCharacters) of A-Z a-z 0-9 . _ @ / -, not ${shown(name)}`,
    );
  }
  once(`name ${JSON.stringify(name)}`, `${place}.name`, owners);
  const certificates = textsOf(fields.certificates, `${place}.certificates`).map((text, at) => {
    const where = `${place}.certificates[${at}]`;
    if (!CERTIFICATE.test(text)) {
      throw invalid(
        `${where} must be CN=name, DNS:name, URI:uri, "IP Address:address" or email:address, not ${shown(text)}`,
      );
    }
    return once(text, where, owners);
  });
  const tokens = textsOf(fields.tokens, `${place}.tokens`).map((text, at) => {
    const where = `${place}.tokens[${at}]`;
    // The value is not shown: it may be a token where its hash should be.
    if (!isTokenHash(text)) {
      throw invalid(
        `${where} must be sha256: and 64 hexadecimal digits, as "cairn token new" prints it; never the token itself`,
      );
    }
    return once(text, where, owners);
  });
  if (certificates.length + tokens.length === 0) {
    throw invalid(`${place} has neither certificates nor tokens, so nobody could ever be ${JSON.stringify(name)}`);
  }
  return { rights: rightsOf(name, fields.grants, `${place}.grants`), certificates, tokens };
}

function rightsOf(name: string, value: unknown, place: string): Rights {
  if (!Array.isArray(value) || value.length === 0) {
    throw invalid(`${place} must be a list such as [{"role": "writer", "prefixes": ["app/"]}]`);
  }
  const keys: Record<"reader" | "writer", KeySet> = { reader: [], writer: [] };
  const found = new Set<AccessRole>();
  for (const [at, each] of value.entries()) {
    const where = `${place}[${at}]`;
    const fields = fieldsOf(each, where, ["role", "prefixes"]);
    const role = accessRoles.find((known) => known === fields.role);
    if (role === undefined) {
      throw invalid(`${where}.role must be ${accessRoles.join(", ")}, not ${shown(fields.role)}`);
    }
    found.add(role);
    if (role === "reader" || role === "writer") {
      const set = keySetOf(fields.prefixes, `${where}.prefixes`);
      keys.reader = union(keys.reader, set);
      if (role === "writer") keys.writer = union(keys.writer, set);
    } else if (fields.prefixes !== undefined) {
      throw invalid(`${where}.prefixes: the role ${role} concerns the whole node, and takes no prefixes`);
    }
  }
  const prefixes = [keys.reader, keys.writer].reduce((sum, set) => sum + (set === "all" ? 0 : set.length), 0);
  if (prefixes > limits.accessPrefixes) {
    throw invalid(
      `${place} have ${prefixes} prefixes; the limit accessPrefixes is ${limits.accessPrefixes} for a caller`,
    );
  }
  if (found.has("peer") && found.size > 1) {
    throw invalid(
      `${place}: a caller with the role peer must have no other: give the other roles to a caller of their own`,
    );
  }
  const isPeer = found.has("peer");
  return { name, keys: isPeer ? { reader: "all", writer: "all" } : keys, isAdmin: found.has("admin"), isPeer };
}

function keySetOf(value: unknown, place: string): KeySet {
  if (value === undefined) return "all";
  if (!Array.isArray(value) || value.length === 0) {
    throw invalid(`${place} must be a list of prefixes that is not empty; leave it out for all keys`);
  }
  return value.map((each, at) => keyPrefix(prefixOf(each, `${place}[${at}]`)));
}

function prefixOf(value: unknown, place: string): Uint8Array {
  const bytes = typeof value === "string" ? Buffer.from(value, "utf8") : hexOf(value, place);
  if (bytes.byteLength === 0) throw invalid(`${place} is empty: leave prefixes out for all keys`);
  if (bytes.byteLength > limits.keyBytes) {
    throw invalid(`${place} has ${bytes.byteLength} bytes; the limit keyBytes is ${limits.keyBytes}`);
  }
  return bytes;
}

function hexOf(value: unknown, place: string): Uint8Array {
  const { hex } = fieldsOf(value, place, ["hex"], 'a text, or {"hex": "00ff"} for other bytes');
  if (typeof hex === "string" && /^([0-9a-fA-F]{2})+$/.test(hex)) return Buffer.from(hex, "hex");
  throw invalid(`${place}.hex must be pairs of hexadecimal digits, not ${shown(hex)}`);
}

function opennessOf(value: unknown, place: string, preset: Openness): Openness {
  if (value === undefined) return preset;
  if (value === "open" || value === "known") return value;
  throw invalid(`${place} must be "open" for everybody or "known" for the callers of this file, not ${shown(value)}`);
}

function textsOf(value: unknown, place: string): string[] {
  if (value === undefined) return [];
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) return value;
  throw invalid(`${place} must be a list of texts`);
}

/** Returns a fingerprint of SHA-256 without its colons. */
function fingerprintOf(text: string, place: string): string {
  const plain = plainFingerprint(text);
  if (FINGERPRINT.test(plain)) return plain;
  throw invalid(
    `${place} must be the SHA-256 fingerprint of a certificate, as "cairn certs show" prints it: 32 pairs of hexadecimal ` +
      `digits, with or without colons, not ${shown(text)}`,
  );
}

/** Returns the fields of an object that has no others than the known ones. */
function fieldsOf(
  value: unknown,
  place: string,
  known: readonly string[],
  expected = `an object with ${known.join(", ")}`,
): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(`${place} must be ${expected}, not ${shown(value)}`);
  }
  for (const name of Object.keys(value)) {
    if (!known.includes(name))
      throw invalid(`${place} has an unknown field ${shown(name)}; known are ${known.join(", ")}`);
  }
  return value as Record<string, unknown>;
}

/** Notes something that may come once in the file, and returns it. */
function once(what: string, place: string, owners: Map<string, string>): string {
  const other = owners.get(what);
  if (other !== undefined) throw invalid(`${place} is the same as ${other}: one of the two must go`);
  owners.set(what, place);
  return what;
}

const SHOWN_CHARACTERS = 80;

function shown(value: unknown): string {
  return value === undefined ? "missing" : (JSON.stringify(value) ?? "").slice(0, SHOWN_CHARACTERS);
}

function invalid(text: string): CairnError {
  return new CairnError("INVALID_ARGUMENT", text);
}
