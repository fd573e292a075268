// Messages that the page gets. Times are in ms since 1970; names are those of the metrics.
import type { TimelineEntry } from "../../node/measures/happenings.js";

/** Extent of a member's log. */
export interface ShownLog {
  readonly first: number;
  readonly last: number;
  readonly commit: number;
  readonly applied: number;
  /** Newest snapshot; 0 without one. */
  readonly snapshot: number;
  readonly bytes: number;
  readonly segments: number;
}

/** Replication from the leader to a member. */
export interface ShownProgress {
  readonly match: number;
  readonly next: number;
  readonly state: string;
  readonly active: boolean;
}

/** A member as a lane of the page. */
export interface ShownMember {
  readonly id: string;
  readonly address: string;
  /** `voter` or `learner`. */
  readonly kind: string;
  /** Raft role; undefined when the member does not answer. */
  readonly role: string | undefined;
  readonly term: number | undefined;
  readonly log: ShownLog | undefined;
  /** As the leader tells; undefined for the leader, and while nobody leads. */
  readonly progress: ShownProgress | undefined;
  readonly verdict: string;
  readonly reason: string;
}

export interface ShownSnapshot {
  readonly index: number;
  readonly bytes: number;
  /** Time of the file; undefined when it is gone by now. */
  readonly unixMs: number | undefined;
  /** Known for those since the node's start. */
  readonly reason: string | undefined;
}

export interface ShownTransfer {
  /** As ListTransfers names it. */
  readonly id: string;
  readonly peer: string;
  readonly direction: "in" | "out";
  readonly index: number;
  readonly totalBytes: number;
  readonly doneBytes: number;
  readonly bytesPerSecond: number;
}

/** The names of the figures that the charts show, in the order of a point's values. */
export const chartFigures = [
  "writes",
  "reads",
  "writeP50",
  "writeP99",
  "syncP99",
  "logBytes",
  "loopDelay",
  "lag",
  "memory",
] as const;

export type ChartFigure = (typeof chartFigures)[number];

/** A point of the charts: its time, then a value for each figure; null where none is known. */
export type ChartPoint = readonly [unixMs: number, ...values: (number | null)[]];

/** First message of a feed; comes again when another node has taken the place of this one. */
export interface Hello {
  readonly node: string;
  readonly cluster: string;
  readonly version: string;
  /** Whether the page's user may carry out actions. */
  readonly mayAct: boolean;
  readonly points: readonly ChartPoint[];
  readonly timeline: readonly TimelineEntry[];
}

/** Sent every second. */
export interface Present {
  readonly unixMs: number;
  readonly leader: string;
  readonly term: number;
  readonly members: readonly ShownMember[];
  readonly snapshots: readonly ShownSnapshot[];
  readonly transfers: readonly ShownTransfer[];
  readonly warnings: readonly string[];
  readonly held: Readonly<Record<string, number>>;
}

export interface ShownKey {
  /** As text where it is UTF-8, else as hexadecimal digits after `0x`. */
  readonly key: string;
  /** The key's bytes in base64url, for `after`. */
  readonly id: string;
  readonly version: number;
  readonly createVersion: number;
  readonly bytes: number;
  readonly preview: string;
  readonly lease: number | undefined;
}

export interface ShownKeys {
  readonly appliedIndex: number;
  readonly keys: readonly ShownKey[];
  readonly hasMore: boolean;
}

export interface ShownLease {
  readonly id: number;
  readonly ttlMs: number;
  readonly keepAlives: number;
  readonly keys: number;
}

/** A lock, an election or a job of the client library: the first in the queue has it. */
export interface ShownQueue {
  readonly kind: string;
  readonly name: string;
  readonly holder: string;
  /** Fencing token of the holder. */
  readonly token: number;
  readonly waiting: number;
}

export interface ShownLeases {
  readonly leases: readonly ShownLease[];
  readonly hasMore: boolean;
  readonly queues: readonly ShownQueue[];
}
