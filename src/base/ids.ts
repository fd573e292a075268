import { limits } from "./limits.js";

// Names of nodes and clusters, incarnations of data directories, and the member keys made of both.

const ID = new RegExp(`^[A-Za-z0-9._-]{1,${limits.idCharacters}}$`);

const INCARNATION = /^[0-9a-f]{32}$/;

/** Whether a text is a valid name of a node or a cluster. */
export function isId(text: string): boolean {
  return typeof text === "string" && ID.test(text);
}

/** Describes why a text is no valid name of a node or a cluster. */
export function idProblem(what: string, id: string): string {
  const shown = JSON.stringify(id.slice(0, 2 * limits.idCharacters));
  return `${what} ${shown} must be 1 to ${limits.idCharacters} characters (idCharacters) of A-Z a-z 0-9 . _ -`;
}

/**
 * Whether a text is a valid incarnation: 16 random bytes in hexadecimal digits, or empty for a
 * given identity.
 */
export function isIncarnation(text: string): boolean {
  return text === "" || INCARNATION.test(text);
}

/**
 * Returns the key by which the core identifies a member: its name and its incarnation,
 * `n1/0123...`, or the name alone for a given identity. Votes, progress, read rounds and leases are
 * kept by key, so a new directory under an old name is another member (T1).
 */
export function memberKey({
  id,
  incarnation,
}: {
  readonly id: string;
  readonly incarnation?: string | undefined;
}): string {
  return incarnation === undefined || incarnation === "" ? id : `${id}/${incarnation}`;
}

/** Returns the name in a member key. No name contains a slash. */
export function nameOf(key: string): string {
  const end = key.indexOf("/");
  return end < 0 ? key : key.slice(0, end);
}

/** Returns the incarnation in a member key; empty for a given identity. */
export function incarnationOf(key: string): string {
  const end = key.indexOf("/");
  return end < 0 ? "" : key.slice(end + 1);
}

/** Whether a text is a valid member key. */
export function isMemberKey(key: string): boolean {
  return isId(nameOf(key)) && isIncarnation(incarnationOf(key)) && !key.endsWith("/");
}

/** Converts an incarnation to the bytes in a message: 16 bytes, or none for a given identity. */
export function incarnationBytes(incarnation: string): Uint8Array {
  const bytes = new Uint8Array(incarnation.length / 2);
  for (let at = 0; at < bytes.length; at++) bytes[at] = Number.parseInt(incarnation.slice(2 * at, 2 * at + 2), 16);
  return bytes;
}

/** Converts the bytes in a message to an incarnation in hexadecimal digits. */
export function incarnationText(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}
