import { randomUUID } from "node:crypto";

/** The name under which the cluster remembers the writes of a client. */
export interface ClientIdentity {
  readonly clientId: string;
  /**
   * An index that the cluster had reached before the client id was first used, by which it tells a
   * new client from one that it has forgotten. Undefined until a node has named one; no write is
   * sent before that.
   */
  readonly since: number | undefined;
}

/**
 * A name that no client has had before. Random: two clients under one name would get each other's
 * answers.
 */
export function newIdentity(): ClientIdentity {
  return { clientId: randomUUID(), since: undefined };
}

/** A new name, chosen when the cluster had reached this index. */
export function identitySince(since: number): ClientIdentity {
  return { clientId: randomUUID(), since };
}
