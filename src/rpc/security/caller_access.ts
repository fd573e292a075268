import type { CairnError } from "../../base/errors.js";
import type { CallerCertificate } from "./caller_certificate.js";

// Describes the caller of an RPC by what it may do.

/** The roles that hold for keys. A writer is a reader of the same keys. */
export type KeyRole = "reader" | "writer";

/** The part of a call that a refusal tells of. */
export interface AccessedCall {
  /** /package.Service/Method */
  readonly path: string;
  /** Address and port of the client. */
  readonly peer: string;
}

/**
 * A caller that is known by its credentials. Each question is answered by the rules that are in
 * force when it is asked, so an open stream that asks again sees a change of the rules.
 */
export interface CallerAccess {
  /** Its name in the access file, or that of the member. */
  readonly name: string;
  /**
   * A `member` passes calls of others on, and makes calls of its own. An `ingress` is a process of
   * the node, which hands calls of clients over, with their credentials.
   */
  readonly kind: "client" | "member" | "ingress";
  /** Whether it has a role for some keys. */
  has(role: KeyRole): boolean;
  /** Whether it has a role for all keys. */
  hasAll(role: KeyRole): boolean;
  /** Whether it has a role for a key. */
  hasKey(role: KeyRole, key: Uint8Array): boolean;
  /** Whether it has a role for all keys from `start` on and below `end`; undefined: to the last. */
  hasSpan(role: KeyRole, start: Uint8Array, end: Uint8Array | undefined): boolean;
  /** Returns the error for a call that lacks this, and notes the refusal for the audit. */
  refusal(call: AccessedCall, missing: string): CairnError;
  /**
   * Returns the caller for whom this member passes a call on.
   * @throws CairnError PERMISSION_DENIED when this is no member, or the caller is not known here
   */
  vouched(name: string, call: AccessedCall): CallerAccess;
  /**
   * Returns the client that has shown these credentials to this ingress process.
   * @throws CairnError UNAUTHENTICATED; PERMISSION_DENIED when this is no ingress process
   */
  shown(credentials: ShownCredentials, call: AccessedCall): CallerAccess;
}

/** The credentials of a call. */
export interface ShownCredentials {
  /** Value of the `authorization` metadata. */
  readonly authorization: string | undefined;
  readonly certificate: CallerCertificate | undefined;
}
