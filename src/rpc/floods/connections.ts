import type { CairnError } from "../../base/errors.js";
import { overLimit } from "../../base/telemetry/refusals.js";
import type { Connection, ConnectionKind } from "./connection.js";
import type { FloodLimits } from "./flood_limits.js";
import { overFloodLimit } from "./refusal.js";

/**
 * Counts the connections of a server, and decides which may make calls. A connection shows what it
 * is by its first call: peers are not kept out by clients, however many these are.
 */
export class Connections {
  readonly #counts: Record<ConnectionKind, number> = { client: 0, peer: 0, late: 0 };
  readonly #byAddress = new Map<string, number>();
  readonly #all = new Set<Connection>();

  /** `peerRoom` returns how many connections may be those of peers now. Default: the limit. */
  constructor(
    private readonly limits: FloodLimits,
    private readonly peerRoom: () => number = () => limits.peerConnections,
  ) {}

  /** Number of connections, by the part that they play. */
  get counts(): Readonly<Record<ConnectionKind, number>> {
    return { ...this.#counts };
  }

  [Symbol.iterator](): IterableIterator<Connection> {
    return this.#all.values();
  }

  /** Returns the kind of a connection that is opened now. */
  kindFor(address: string): ConnectionKind {
    return this.#exceeded(address) === undefined ? "client" : "late";
  }

  /** Adds a connection. The oldest late one makes room for a further one. */
  add(connection: Connection): void {
    this.#all.add(connection);
    this.#count(connection, 1);
    if (this.#counts.late <= this.limits.lateConnections) return;
    for (const each of this.#all) {
      if (each.kind !== "late") continue;
      each.end("lateConnections");
      return;
    }
  }

  remove(connection: Connection): void {
    if (this.#all.delete(connection)) this.#count(connection, -1);
  }

  /** Returns the error of a call that this connection may not make, if it may not. */
  admit(connection: Connection, isPeer: boolean): CairnError | undefined {
    const isFirst = !connection.hasCalled;
    connection.hasCalled = true;
    const { kind } = connection;
    if (isPeer) {
      if (kind === "peer" || (kind === "client" && !isFirst)) return undefined;
      const most = Math.min(this.limits.peerConnections, this.peerRoom());
      // Above that, it has the room of a client.
      if (this.#counts.peer < most) this.#turn(connection, "peer");
      else if (kind === "late") return this.#tooManyPeers(most);
      return undefined;
    }
    if (kind === "client") return undefined;
    const exceeded = this.#exceeded(connection.address);
    if (exceeded !== undefined) return this.#over(...exceeded);
    this.#turn(connection, "client");
    return undefined;
  }

  /** Returns the limit above which a further connection from an address is, and what it counts. */
  #exceeded(address: string): [name: keyof FloodLimits, count: number, what: string] | undefined {
    const { client } = this.#counts;
    if (client >= this.limits.connections) return ["connections", client, "connections"];
    const same = this.#byAddress.get(address) ?? 0;
    if (same < this.limits.connectionsPerAddress) return undefined;
    return ["connectionsPerAddress", same, `connections from ${address}`];
  }

  #tooManyPeers(most: number): CairnError {
    const { peerConnections: limit } = this.limits;
    const text = `the node has ${this.#counts.peer} connections of peers`;
    if (most >= limit) return overFloodLimit(this.limits, "peerConnections", text);
    const why = `without certificates, it takes ${most} (peerConnectionsPerMember, peerConnectionsSpare)`;
    return overLimit(
      "BUSY",
      "peerConnectionsPerMember",
      `${text}: ${why}. Give the nodes certificates, or try again later`,
    );
  }

  #over(name: keyof FloodLimits, count: number, what: string): CairnError {
    return overFloodLimit(this.limits, name, `the node has ${count} ${what}`);
  }

  #turn(connection: Connection, kind: ConnectionKind): void {
    this.#count(connection, -1);
    connection.kind = kind;
    this.#count(connection, 1);
  }

  #count({ kind, address }: Connection, change: 1 | -1): void {
    this.#counts[kind] += change;
    if (kind !== "client") return;
    const same = (this.#byAddress.get(address) ?? 0) + change;
    if (same === 0) this.#byAddress.delete(address);
    else this.#byAddress.set(address, same);
  }
}
