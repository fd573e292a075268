import { limits } from "../base/limits.js";

/**
 * The clients that name their requests, as far as the gateway must know them. The store forgets
 * clients that are unused for long, and then wants an index from each that is new: one that the log
 * had reached before the client came. Requests of the gateway have none, so the gateway notes it
 * when it sees a client for the first time.
 */
export class RequestClients {
  /** By client id: how far the log had come at the client's first request. */
  readonly #since = new Map<string, number>();
  #reached = 0;

  constructor(
    /**
     * Whether the nodes have had no clients before this gateway. Else one that is new here may be
     * one that the store has forgotten.
     */
    private readonly areNodesNew: boolean,
  ) {}

  /** An answer shows that the log has come this far. */
  reached(index: bigint): void {
    this.#reached = Math.max(this.#reached, Number(index));
  }

  /** Comes before a request of the client is sent. 0: nothing is known. */
  sinceOf(clientId: string): number {
    const known = this.#since.get(clientId);
    if (known !== undefined) return known;
    if (!this.areNodesNew || this.#since.size >= limits.gatewayClients) return 0;
    this.#since.set(clientId, this.#reached);
    return this.#reached;
  }
}
