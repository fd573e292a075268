import { randomUUID } from "node:crypto";

/** The name under which the cluster remembers the writes of a client. */
export interface ClientIdentity {
  readonly clientId: string;
  /**
   * An index that the cluster had reached before the client id was first used. By it the cluster
   * tells a new client from one that it has forgotten. Undefined until a node has named an index;
   * no write is sent before that.
   */
  readonly since: number | undefined;
}

/**
 * Returns a name that no client has had before. It is random: two clients under one name would get
 * each other's answers.
 */
export function newIdentity(): ClientIdentity {
  return { clientId: randomUUID(), since: undefined };
}

/** Returns a new name that is first used after the cluster has reached this index. */
export function identitySince(since: number): ClientIdentity {
  return { clientId: randomUUID(), since };
}
