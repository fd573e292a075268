import type { LastSnapshot } from "../../node/snapshots/reason.js";
import type { RaftView } from "../../node/views.js";
import type { Membership } from "../../raft/types.js";
import type { MemberEvent } from "../events.js";

/** Reports the leader, as this member knows it. */
export interface LeaderEvent {
  readonly kind: "leader";
  /** Name of the leader that this member follows, or its own; undefined while it knows of none. */
  readonly leader: string | undefined;
  readonly term: number;
  /**
   * This member leads, and has committed an entry of its term. It may learn late that another
   * member leads by now: let the log decide when something must happen only once.
   */
  readonly isSelf: boolean;
}

/** Reports the newest membership that is known to be committed. */
export interface MembershipEvent {
  readonly kind: "membership";
  /** Index of the membership in the log. */
  readonly index: number;
  readonly members: Membership;
}

/**
 * Reports that this member took a snapshot, or installed one from a leader (reason `installed`).
 */
export interface SnapshotEvent extends LastSnapshot {
  readonly kind: "snapshot";
}

/**
 * Reports that this member lacks more than `lagEntries` entries that it knows to be committed, or
 * has caught up.
 */
export interface LagEvent {
  readonly kind: "lag";
  /** Number of committed entries that are not applied here, at this moment. */
  readonly entries: number;
  readonly isBehind: boolean;
}

/** All events. Consecutive changes within one turn of the node's work are reported as one. */
export type ClusterEvent = MemberEvent | LeaderEvent | MembershipEvent | SnapshotEvent | LagEvent;

/** The part of a node that this file uses. */
export interface WatchedNode {
  readonly id: string;
  readonly clusterId: string;
  readonly raft: Pick<RaftView, "term" | "role" | "leader" | "isEstablishedLeader" | "log" | "membershipAt">;
  readonly knownCommit: number;
  readonly machine: { readonly appliedIndex: number };
  readonly snapshotting: { readonly last: LastSnapshot | undefined };
}

/** Reports changes of a node since the last look. The node may be another one each time. */
export class NodeWatch {
  #leader: LeaderEvent = { kind: "leader", leader: undefined, term: 0, isSelf: false };
  #membership = "";
  #snapshot: LastSnapshot | undefined;
  #isBehind = false;

  constructor(
    /**
     * A member is behind when it lacks more entries than this, and no longer behind when it lacks
     * half as many.
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

  /** Reports that the member follows no leader from now on, because it stops. */
  stop(): void {
    this.#tellLeader({ kind: "leader", leader: undefined, term: this.#leader.term, isSelf: false });
  }

  #lookAtLeader({ id, raft }: WatchedNode): void {
    const leads = raft.role === "leader";
    const isSelf = leads && raft.isEstablishedLeader;
    // A leader can answer nobody until it has committed an entry of its term.
    const leader = leads && !isSelf ? undefined : raft.leader;
    this.#tellLeader({ kind: "leader", leader: isSelf ? id : leader, term: raft.term, isSelf });
  }

  #tellLeader(event: LeaderEvent): void {
    const { leader, term } = this.#leader;
    // A new term without a leader is not reported.
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

/** Returns the number of committed entries that a node knows of and has not applied. */
export function lagOf({ knownCommit, machine }: Pick<WatchedNode, "knownCommit" | "machine">): number {
  return Math.max(0, knownCommit - machine.appliedIndex);
}
