import type { LastSnapshot } from "../../node/snapshots/reason.js";
import type { Membership } from "../../raft/types.js";
import type { MemberEvent } from "../events.js";
import type { MemberNode } from "../world.js";

/** Tells who leads, as far as a member knows. */
export interface LeaderEvent {
  readonly kind: "leader";
  /** Name of the leader that this member follows, or its own; undefined while it knows of none. */
  readonly leader: string | undefined;
  readonly term: number;
  /**
   * This member leads, and has committed an entry of its term. It learns late that another one
   * leads by now: let the log decide what must happen once.
   */
  readonly isSelf: boolean;
}

/** Tells the newest membership that is known to be committed. */
export interface MembershipEvent {
  readonly kind: "membership";
  /** Place of the membership in the log. */
  readonly index: number;
  readonly members: Membership;
}

/**
 * Tells that this member took a snapshot, or installed one that a leader sent (reason `installed`).
 */
export interface SnapshotEvent extends LastSnapshot {
  readonly kind: "snapshot";
}

/**
 * Tells that this member lacks more than `lagEntries` entries that it knows to be committed, or has
 * caught up.
 */
export interface LagEvent {
  readonly kind: "lag";
  /** Committed entries that are not applied here, at this moment. */
  readonly entries: number;
  readonly isBehind: boolean;
}

/**
 * All events. Changes that follow each other within one turn of the node's work are told as one.
 */
export type ClusterEvent = MemberEvent | LeaderEvent | MembershipEvent | SnapshotEvent | LagEvent;

/** A node as this file sees it. */
export type WatchedNode = Pick<MemberNode, "id" | "clusterId" | "raft"> & {
  readonly knownCommit: number;
  readonly machine: { readonly appliedIndex: number };
  readonly snapshotting: { readonly last: LastSnapshot | undefined };
};

/**
 * Tells what has changed about a node since it looked last. The node may be another one each time.
 */
export class NodeWatch {
  #leader: LeaderEvent = { kind: "leader", leader: undefined, term: 0, isSelf: false };
  #membership = "";
  #snapshot: LastSnapshot | undefined;
  #isBehind = false;

  constructor(
    /**
     * A member is behind when it lacks more entries than this; no longer when it lacks half as
     * many.
     */
    private readonly lagEntries: number,
    private readonly emit: (event: ClusterEvent) => void,
  ) {}

  get leader(): LeaderEvent {
    return this.#leader;
  }

  look(node: WatchedNode): void {
    this.#lookAtLeader(node);
    this.#lookAtMembership(node);
    this.#lookAtSnapshot(node);
    this.#lookAtLag(node);
  }

  /** The member stops: it follows nobody from now on. */
  stop(): void {
    this.#tellLeader({ kind: "leader", leader: undefined, term: this.#leader.term, isSelf: false });
  }

  #lookAtLeader({ id, raft }: WatchedNode): void {
    const leads = raft.role === "leader";
    const isSelf = leads && raft.isEstablishedLeader;
    // Until it has committed an entry of its term, a leader can answer nobody.
    const leader = leads && !isSelf ? undefined : raft.leader;
    this.#tellLeader({ kind: "leader", leader: isSelf ? id : leader, term: raft.term, isSelf });
  }

  #tellLeader(event: LeaderEvent): void {
    const { leader, term } = this.#leader;
    // A term without a leader is no news.
    if (event.leader === leader && (event.term === term || leader === undefined)) return;
    this.#leader = event;
    this.emit(event);
  }

  #lookAtMembership({ raft, clusterId }: WatchedNode): void {
    const { index, members } = raft.membershipAt(raft.log.commit);
    if (members.length === 0) return;
    const seen = `${index} of ${clusterId}`;
    if (seen === this.#membership) return;
    this.#membership = seen;
    this.emit({ kind: "membership", index, members });
  }

  #lookAtSnapshot({ snapshotting: { last } }: WatchedNode): void {
    if (last === this.#snapshot) return;
    this.#snapshot = last;
    if (last !== undefined) this.emit({ kind: "snapshot", ...last });
  }

  #lookAtLag(node: WatchedNode): void {
    const entries = lagOf(node);
    const isBehind = entries > (this.#isBehind ? this.lagEntries / 2 : this.lagEntries);
    if (isBehind === this.#isBehind) return;
    this.#isBehind = isBehind;
    this.emit({ kind: "lag", entries, isBehind });
  }
}

/** Committed entries that a node knows of and has not applied. */
export function lagOf({ knownCommit, machine }: Pick<WatchedNode, "knownCommit" | "machine">): number {
  return Math.max(0, knownCommit - machine.appliedIndex);
}
