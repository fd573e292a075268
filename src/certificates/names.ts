import { isIP } from "node:net";
import { CairnError } from "../base/errors.js";

// Names in certificates, and what is allowed in them.

/** Longest common name of a certificate, in characters (RFC 5280, ub-common-name). */
const COMMON_NAME_CHARACTERS = 64;

/** Longest DNS name, in characters. */
const HOST_CHARACTERS = 253;

/** A subject alternative name. */
export interface AlternativeName {
  readonly type: "dns" | "ip" | "url" | "email";
  readonly value: string;
}

/** Checks the name of an authority. @throws CairnError INVALID_ARGUMENT */
export function checkSubjectName(name: string): string {
  if (/^[\x20-\x7e]+$/.test(name) && name.trim() === name && name.length <= COMMON_NAME_CHARACTERS) return name;
  throw invalidName(`the name ${JSON.stringify(name)}`, `1 to ${COMMON_NAME_CHARACTERS} printable ASCII characters`);
}

/** Checks a client's name, after which its files are named. @throws CairnError INVALID_ARGUMENT */
export function checkClientName(name: string): string {
  if (/^[A-Za-z0-9._@-]+$/.test(name) && name.length <= COMMON_NAME_CHARACTERS) return name;
  const expected = `1 to ${COMMON_NAME_CHARACTERS} characters of A-Z a-z 0-9 . _ @ -`;
  throw invalidName(`the client's name ${JSON.stringify(name)}`, expected);
}

/** Checks a DNS name or an IP address. @throws CairnError INVALID_ARGUMENT */
export function checkHost(host: string): string {
  const isName = /^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$/;
  if (isIP(host) !== 0) return host;
  // Digits and dots alone are a mistyped address.
  if (isName.test(host) && !/^[\d.]+$/.test(host) && host.length <= HOST_CHARACTERS) return host;
  throw invalidName(`the host ${JSON.stringify(host)}`, "a DNS name or an IP address, without a port");
}

const TYPES = { DNS: "dns", IP: "ip", URI: "url", EMAIL: "email" } as const;

/**
 * Parses a subject alternative name: DNS:db.example, IP:10.0.0.1, URI:spiffe://x/y, EMAIL:a@b.
 * @throws CairnError INVALID_ARGUMENT; so does a name that would make a client a node
 */
export function alternativeName(text: string): AlternativeName {
  const [, prefix = "", value = ""] = /^([A-Za-z]+):([\x21-\x7e]+)$/.exec(text) ?? [];
  const type = TYPES[prefix.toUpperCase() as keyof typeof TYPES];
  const isAddress = type === "ip" && isIP(value) !== 0;
  if (type === undefined || (type === "ip" && !isAddress)) {
    throw invalidName(`the name ${JSON.stringify(text)}`, "DNS:host, IP:address, URI:uri or EMAIL:address");
  }
  if (type === "url" && /^cairn:/i.test(value)) {
    throw new CairnError("INVALID_ARGUMENT", `${value} is a node's name: make it with cairn certs node`);
  }
  return { type, value: type === "dns" ? checkHost(value) : value };
}

function invalidName(what: string, expected: string): CairnError {
  return new CairnError("INVALID_ARGUMENT", `${what} must be ${expected}`);
}
