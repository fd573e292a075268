import { behindPrefix } from "../../machine/kv/txn/key_span.js";
import type { KeyRole } from "../../rpc/security/caller_access.js";

// Describes the rights of an access file's callers.

/** The roles of an access file. */
export const accessRoles = ["reader", "writer", "admin", "peer"] as const;

export type AccessRole = (typeof accessRoles)[number];

/** The keys with a prefix. */
export interface KeyPrefix {
  readonly bytes: Uint8Array;
  /** The lowest key above them; undefined when there is none. */
  readonly behind: Uint8Array | undefined;
}

/** The keys for which a caller has a role. */
export type KeySet = "all" | readonly KeyPrefix[];

/** The rights of one caller. */
export interface Rights {
  readonly name: string;
  /** A reader's keys include those of the writer. */
  readonly keys: Readonly<Record<KeyRole, KeySet>>;
  readonly isAdmin: boolean;
  readonly isPeer: boolean;
}

/** The rights of a member: the rules of methods bound them. */
export function memberRights(name: string): Rights {
  return { name, keys: { reader: "all", writer: "all" }, isAdmin: false, isPeer: true };
}

/** The rights of nobody. */
export function noRights(name: string): Rights {
  return { name, keys: { reader: [], writer: [] }, isAdmin: false, isPeer: false };
}

export function keyPrefix(bytes: Uint8Array): KeyPrefix {
  return { bytes, behind: behindPrefix(bytes) };
}

/** Returns the keys of both sets. */
export function union(one: KeySet, other: KeySet): KeySet {
  return one === "all" || other === "all" ? "all" : [...one, ...other];
}

export function isEmpty(keys: KeySet): boolean {
  return keys !== "all" && keys.length === 0;
}

export function holdsKey(keys: KeySet, key: Uint8Array): boolean {
  return keys === "all" || keys.some(({ bytes }) => startsWith(key, bytes));
}

/**
 * Returns whether one prefix holds all keys from `start` on and below `end`. A span that reaches
 * over two prefixes, even adjacent ones, is refused: nobody must reason about which keys lie
 * between.
 */
export function holdsSpan(keys: KeySet, start: Uint8Array, end: Uint8Array | undefined): boolean {
  if (keys === "all") return true;
  return keys.some(({ bytes, behind }) => startsWith(start, bytes) && isUpTo(end, behind));
}

function isUpTo(end: Uint8Array | undefined, behind: Uint8Array | undefined): boolean {
  if (behind === undefined) return true;
  return end !== undefined && Buffer.compare(end, behind) <= 0;
}

function startsWith(key: Uint8Array, prefix: Uint8Array): boolean {
  const { length } = prefix;
  if (key.length < length) return false;
  for (let at = 0; at < length; at++) {
    if (key[at] !== prefix[at]) return false;
  }
  return true;
}
