import { CairnError } from "../base/errors.js";

/**
 * First and longest pause between attempts, in ms. Both are short: a lost leader is replaced within
 * one or two seconds.
 */
const PAUSE_MS = 25;
const PAUSE_MS_MAX = 400;

/** The leader that a node names. */
export interface LeaderHint {
  /** Empty when no leader is known. */
  readonly id: string;
  /** As its peers reach it; empty when it is not known. */
  readonly address: string;
}

/** Returns the error for a node that was asked and does not lead. */
export function notLeader(nodeId: string, { id, address }: LeaderHint): CairnError {
  const text = id === "" ? "no leader is known" : `the leader is ${id}`;
  return new CairnError("NOT_LEADER", `node ${nodeId} is not the leader: ${text}`, {
    leaderHint: id || undefined,
    leaderAddress: address || undefined,
  });
}

/** Returns the leader that an error names. */
export function hintOf({ leaderHint = "", leaderAddress = "" }: CairnError): LeaderHint {
  return { id: leaderHint, address: leaderAddress };
}

/** Decides which address to try next for the leader, and after which pause. */
export class LeaderSearch {
  /** Next endpoint in the round over all endpoints. */
  #turn = 0;
  /** Address to try before that one: the last known or the hinted address of the leader. */
  #preferred: string | undefined;
  /** Failed attempts since the leader was last found. */
  #misses = 0;
  /** The preferred address is new, so it is tried without a pause. */
  #isNews = false;
  /**
   * Leaders that were hinted at since the last pause. Two nodes that name each other must not keep
   * this client busy.
   */
  readonly #hinted = new Set<string>();
  /** The address at which the last attempt found no connection. */
  #unreachable: string | undefined;
  /**
   * By node id: the address at which the node has answered. It is better than the address at which
   * the node's peers reach it.
   */
  readonly #known = new Map<string, string>();

  constructor(
    private readonly endpoints: readonly string[],
    private readonly random: () => number,
  ) {}

  /** Returns the address to try next, and the pause before it in ms. */
  next(): { readonly address: string; readonly pauseMs: number } {
    const address = this.#preferred ?? this.endpoints[this.#turn++ % this.endpoints.length]!;
    const pauseMs = this.#isNews ? 0 : this.#pauseMs();
    if (pauseMs > 0) this.#hinted.clear();
    this.#preferred = undefined;
    this.#isNews = false;
    return { address, pauseMs };
  }

  /** Notes that a node has answered at this address. */
  met(nodeId: string, address: string): void {
    this.#known.set(nodeId, address);
  }

  /** Notes that the leader is at this address, which is tried first if the leader is lost. */
  found(address: string): void {
    this.#preferred = address;
    this.#misses = 0;
    this.#hinted.clear();
    this.#unreachable = undefined;
  }

  /** Notes that the node at this address does not lead; its hint may name the leader. */
  notLeader(address: string, hint: LeaderHint): void {
    this.#misses++;
    this.#preferred = undefined;
    const target = this.#known.get(hint.id) ?? hint.address;
    // Followers continue to name a dead leader until they elect another.
    const wasUnreachable = target === this.#unreachable;
    this.#unreachable = undefined;
    if (target === "" || target === address || wasUnreachable) return;
    this.#preferred = target;
    this.#isNews = !this.#hinted.has(hint.id);
    this.#hinted.add(hint.id);
  }

  /** Notes that there is no answer at this address. */
  unreachable(address: string): void {
    this.#misses++;
    this.#preferred = undefined;
    this.#unreachable = address;
    for (const [id, known] of this.#known) {
      if (known === address) this.#known.delete(id);
    }
  }

  /** Returns 0 until every endpoint was asked once. */
  #pauseMs(): number {
    const repeated = this.#misses - this.endpoints.length;
    if (repeated <= 0) return 0;
    const longest = Math.min(PAUSE_MS * 2 ** (repeated - 1), PAUSE_MS_MAX);
    return longest * (0.5 + this.random() / 2);
  }
}
