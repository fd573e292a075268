import { randomUUID } from "node:crypto";

/** The name under which the cluster remembers the writes of a client. */
export interface ClientIdentity {
  readonly clientId: string;
  /**
   * An index that the cluster had reached before the client id was first used, by which it tells a new client from one that it has forgotten.
   * Undefined until a node has named one; no write is sent before that.
   */
  readonly since: number | undefined;
}

/** A name that its user has chosen may have been used before, so nothing is known of it. */
export function identityOf(chosen: string | undefined): ClientIdentity {
  return chosen === undefined ? { clientId: randomUUID(), since: undefined } : { clientId: chosen, since: 0 };
}

/** A new name, chosen when the cluster had reached this index. */
export function identitySince(since: number): ClientIdentity {
  return { clientId: randomUUID(), since };
}
