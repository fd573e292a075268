import { limits } from "../base/limits.js";

/**
 * Tracks the clients that name their requests. The store forgets clients that are unused for a long
 * time, and then requires an index from each new client: one that the log had reached before the
 * client came. Requests of the gateway carry no such index, so the gateway notes it when it first
 * sees a client.
 */
export class RequestClients {
  /** By client id: the index that the log had reached at the client's first request. */
  readonly #since = new Map<string, number>();
  #reached = 0;

  constructor(
    /**
     * The nodes have had no clients before this gateway. If they had, a client that is new here may
     * be one that the store has forgotten.
     */
    private readonly areNodesNew: boolean,
  ) {}

  /** Notes that the log has reached this index. */
  reached(index: bigint): void {
    this.#reached = Math.max(this.#reached, Number(index));
  }

  /**
   * Returns the index for a client; 0: nothing is known. To be called before a request of the
   * client is sent.
   */
  sinceOf(clientId: string): number {
    const known = this.#since.get(clientId);
    if (known !== undefined) return known;
    if (!this.areNodesNew || this.#since.size >= limits.gatewayClients) return 0;
    this.#since.set(clientId, this.#reached);
    return this.#reached;
  }
}
