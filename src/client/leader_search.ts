import { CairnError } from "../base/errors.js";

/**
 * First and longest pause between attempts, in ms. Short: a leader that was lost is replaced in one
 * or two seconds.
 */
const PAUSE_MS = 25;
const PAUSE_MS_MAX = 400;

/** What a node says about who leads. */
export interface LeaderHint {
  /** Empty when no leader is known. */
  readonly id: string;
  /** As its peers reach it; empty when it is not known. */
  readonly address: string;
}

/** Why a node that was asked is not the one to ask. */
export function notLeader(nodeId: string, { id, address }: LeaderHint): CairnError {
  const text = id === "" ? "no leader is known" : `the leader is ${id}`;
  return new CairnError("NOT_LEADER", `node ${nodeId} is not the leader: ${text}`, {
    leaderHint: id || undefined,
    leaderAddress: address || undefined,
  });
}

/** The hint in an error. */
export function hintOf({ leaderHint = "", leaderAddress = "" }: CairnError): LeaderHint {
  return { id: leaderHint, address: leaderAddress };
}

/** Where to look for the leader, and when. */
export class LeaderSearch {
  /** Next endpoint to ask, of those that are asked in turn. */
  #turn = 0;
  /** To ask before that one: where the leader was last, or is said to be. */
  #preferred: string | undefined;
  /** Attempts in vain since the leader was last found. */
  #misses = 0;
  /** The preferred address is news, and not to be waited with. */
  #isNews = false;
  /**
   * Leaders that were hinted at since the last pause. Two nodes that each name the other must not
   * keep this client busy.
   */
  readonly #hinted = new Set<string>();
  /** Could not be connected to at the last attempt there. */
  #unreachable: string | undefined;
  /**
   * By node id: the address at which it has answered, which is better than one at which its peers
   * reach it.
   */
  readonly #known = new Map<string, string>();

  constructor(
    private readonly endpoints: readonly string[],
    private readonly random: () => number,
  ) {}

  /** Where to try, and after how long a pause in ms. */
  next(): { readonly address: string; readonly pauseMs: number } {
    const address = this.#preferred ?? this.endpoints[this.#turn++ % this.endpoints.length]!;
    const pauseMs = this.#isNews ? 0 : this.#pauseMs();
    if (pauseMs > 0) this.#hinted.clear();
    this.#preferred = undefined;
    this.#isNews = false;
    return { address, pauseMs };
  }

  /** A node has answered at this address. */
  met(nodeId: string, address: string): void {
    this.#known.set(nodeId, address);
  }

  /** The leader is here: if it is lost, ask here first. */
  found(address: string): void {
    this.#preferred = address;
    this.#misses = 0;
    this.#hinted.clear();
    this.#unreachable = undefined;
  }

  /** The node at this address does not lead; it may know who does. */
  notLeader(address: string, hint: LeaderHint): void {
    this.#misses++;
    this.#preferred = undefined;
    const target = this.#known.get(hint.id) ?? hint.address;
    // Followers go on naming a leader that is dead until they elect another.
    const wasUnreachable = target === this.#unreachable;
    this.#unreachable = undefined;
    if (target === "" || target === address || wasUnreachable) return;
    this.#preferred = target;
    this.#isNews = !this.#hinted.has(hint.id);
    this.#hinted.add(hint.id);
  }

  /** There is no answer at this address. */
  unreachable(address: string): void {
    this.#misses++;
    this.#preferred = undefined;
    this.#unreachable = address;
    for (const [id, known] of this.#known) {
      if (known === address) this.#known.delete(id);
    }
  }

  /** None before every endpoint was asked once. */
  #pauseMs(): number {
    const repeated = this.#misses - this.endpoints.length;
    if (repeated <= 0) return 0;
    const longest = Math.min(PAUSE_MS * 2 ** (repeated - 1), PAUSE_MS_MAX);
    return longest * (0.5 + this.random() / 2);
  }
}
