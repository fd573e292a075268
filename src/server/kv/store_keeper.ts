import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { encodeCommand } from "../../machine/kv/command.js";
import type { Clock } from "../../system/clock.js";
import type { KeyValueNode } from "./key_value_node.js";

/** The part of a node that the keeper of its store uses. */
export type StoreNode = Pick<KeyValueNode, "propose" | "machine" | "raft">;

/**
 * Asks, at the leader, for flush points of the store that writes do not bring about: without them,
 * a cluster that is idle would never merge its tables, and a deleted state would keep its room. It
 * asks after `storeIdleMs` without writes, and then for one after the other while the store wants
 * one.
 */
export class StoreKeeper {
  #callOff: (() => void) | undefined;
  #isStopped = false;
  #isAsking = false;
  /** The store's charge when it was looked at, and the time since when it is the same. */
  #charge = -1;
  #sinceMs = 0;
  /** Flush points that were asked for since the last write. */
  #asked = 0;

  constructor(
    private readonly node: StoreNode,
    private readonly clock: Clock,
  ) {}

  /** Starts to look at the store from time to time, if the machine has one. */
  start(): void {
    if (this.node.machine.upkeep !== undefined) this.#schedule();
  }

  stop(): void {
    this.#isStopped = true;
    this.#callOff?.();
  }

  #schedule(): void {
    if (this.#isStopped) return;
    this.#callOff = this.clock.after(limits.storeLookMs, () => this.#look(), true);
  }

  #look(): void {
    try {
      if (!this.#isAsking && this.#isDue()) void this.#ask();
    } catch (error) {
      // The state is closed, or damaged: the node says so, and ends.
      if (!(error instanceof CairnError)) throw error;
    }
    this.#schedule();
  }

  #isDue(): boolean {
    const { raft, machine } = this.node;
    const { isWanted, charge } = machine.upkeep!;
    const now = this.clock.now();
    const isIdle = charge === this.#charge;
    if (!isIdle || raft.role !== "leader") {
      this.#charge = charge;
      this.#sinceMs = now;
      this.#asked = 0;
      return false;
    }
    return isWanted && (this.#asked > 0 || now - this.#sinceMs >= limits.storeIdleMs);
  }

  async #ask(): Promise<void> {
    this.#isAsking = true;
    try {
      const { drains: drain } = this.node.machine.upkeep!;
      await this.node.propose(encodeCommand({ operation: { case: "store", value: { drain } } }));
      // The flush point itself is no write.
      this.#charge = this.node.machine.upkeep!.charge;
      this.#asked++;
    } catch (error) {
      // Too much to do, a full disk, or another leader: looked at again, if this node still leads.
      if (!(error instanceof CairnError)) throw error;
    } finally {
      this.#isAsking = false;
    }
  }
}
