// The entries of a node's timeline.

/** Something that happened to a node and that an operator wants to see afterwards. */
export type NodeHappening =
  /** The node follows another leader, or none (leader ""). */
  | { readonly kind: "leader"; readonly leader: string; readonly term: number; readonly role: string }
  | { readonly kind: "membership"; readonly index: number; readonly members: readonly string[] }
  | {
      readonly kind: "snapshot";
      readonly index: number;
      /** One of `SnapshotReason`. */
      readonly reason: string;
      readonly durationMs: number;
      readonly fileBytes: number;
    }
  | { readonly kind: "transfer"; readonly to: string; readonly outcome: "installed" | "ahead" | "failed" }
  | { readonly kind: "warning"; readonly text: string }
  /** A warning no longer holds. */
  | { readonly kind: "cleared"; readonly text: string };

/** A happening with its place in the order of all, and its time. */
export type TimelineEntry = NodeHappening & {
  /** 1 for the first one since the node started; no number is left out. */
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly unixMs: number;
};
