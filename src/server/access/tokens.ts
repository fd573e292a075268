import { createHash, randomBytes } from "node:crypto";

// Bearer tokens, and their hashes.
//
// A token is 256 random bits, so nobody can guess one, and nobody can find it from its hash by
// trying: a slow hash, made for passwords that people choose, would add nothing but load, and would
// let strangers buy that load with calls. SHA-256 is therefore right here, for random tokens only.

const TOKEN_BYTES = 32;

/** Marks a token as one of Cairn's, for people and for scanners of leaked secrets. */
const TOKEN_MARK = "cairn_";

const HASH_MARK = "sha256:";
const HASH = /^sha256:[0-9a-f]{64}$/;
const BEARER = /^Bearer ([\x21-\x7e]+)$/i;

/** Makes a random token. */
export function newToken(): string {
  return TOKEN_MARK + randomBytes(TOKEN_BYTES).toString("base64url");
}

/** Returns the hash of a token, as an access file has it: `sha256:` and 64 hexadecimal digits. */
export function tokenHash(token: string): string {
  return HASH_MARK + createHash("sha256").update(token).digest("hex");
}

/** Returns whether a text is the hash of a token in the form that {@link tokenHash} gives it. */
export function isTokenHash(text: string): boolean {
  return HASH.test(text);
}

/** Returns the token of an `authorization` header; undefined when it holds none. */
export function bearerToken(authorization: string): string | undefined {
  return BEARER.exec(authorization)?.[1];
}

/** Returns the `authorization` header that shows a token. */
export function bearer(token: string): string {
  return `Bearer ${token}`;
}
