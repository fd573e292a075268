import type { CairnErrorCode } from "../../base/errors.js";
import { nameOf } from "../../base/ids.js";
import { Histogram, NamedCounts } from "../../base/telemetry/measures.js";
import type { TransferOutcome } from "../../raft/leader/replication.js";
import type { Clock } from "../../system/clock.js";
import type { RaftView } from "../views.js";
import type { LogAge } from "./log_age.js";
import { StageProbe } from "./stage_probe.js";
import { Timeline } from "./timeline.js";

/** Upper bounds for the number of entries in a batch. */
const ENTRY_BOUNDS: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096];

/** The parts of the core that {@link NodeMeasures} looks at. */
type MeasuredRaft = Pick<RaftView, "role" | "term" | "leader" | "membership" | "log">;

/** A snapshot that was taken or installed. */
interface MeasuredSnapshot {
  readonly index: number;
  /** One of `SnapshotReason`. */
  readonly reason: string;
  readonly durationMs: number;
  readonly fileBytes: number;
}

/**
 * Counts and times a node's work since it started, for whoever wants to see it. Everything here is
 * plain memory: nothing is exported unless somebody asks, and nothing waits.
 */
export class NodeMeasures {
  /** From the proposal of a write here until it is applied, in ms. */
  readonly writes = new Histogram();
  /** Writes that ended with an error, by code. */
  readonly failedWrites = new NamedCounts<CairnErrorCode>();
  readonly stages: StageProbe;
  /** From a linearizable read's arrival here until its state is there, in ms. */
  readonly reads = new Histogram();
  /** Syncs of the log, in ms. */
  readonly logSyncs = new Histogram();
  /** Entries that a batch of the log has. */
  readonly batches = new Histogram(ENTRY_BOUNDS);
  /** Entries applied to the state. */
  appliedEntries = 0;
  /** Times at which this node came to know of another leader, or of none. */
  leaderChanges = 0;
  /** Elections that this node has won. */
  electionsWon = 0;
  /** Snapshots taken or installed, by reason. */
  readonly snapshots = new NamedCounts();
  readonly snapshotTimes = new Histogram();
  snapshotBytes = 0;
  /** Transfers to followers that have ended, by outcome. */
  readonly transfers = new NamedCounts<TransferOutcome["kind"]>();
  readonly timeline: Timeline;
  #leader: string | undefined;
  #role: RaftView["role"] = "follower";
  #membershipIndex = -1;
  #warnings: ReadonlySet<string> = new Set();

  constructor(
    node: string,
    clock: Clock,
    unixMs: () => number,
    readonly logAge: LogAge,
  ) {
    this.stages = new StageProbe(clock);
    this.timeline = new Timeline(node, unixMs);
  }

  snapshot({ index, reason, durationMs, fileBytes }: MeasuredSnapshot): void {
    this.snapshots.add(reason);
    this.snapshotTimes.record(durationMs);
    this.snapshotBytes += fileBytes;
    this.timeline.add({ kind: "snapshot", index, reason, durationMs: Math.round(durationMs), fileBytes });
  }

  transferred(to: string, outcome: TransferOutcome["kind"]): void {
    this.transfers.add(outcome);
    this.timeline.add({ kind: "transfer", to: nameOf(to), outcome });
  }

  /** Notes changes of the core. Call this at each turn. */
  look(raft: MeasuredRaft): void {
    this.stages.committed(raft.log.commit);
    this.stages.truncated(raft.log.last.index);
    const { leader, role, membership } = raft;
    if (role !== this.#role) {
      if (role === "leader") this.electionsWon++;
      this.#role = role;
    }
    if (leader !== this.#leader) {
      this.#leader = leader;
      this.leaderChanges++;
      this.timeline.add({ kind: "leader", leader: leader ?? "", term: raft.term, role });
    }
    if (membership.index === this.#membershipIndex) return;
    this.#membershipIndex = membership.index;
    const members = membership.members.map(({ id, role: each }) => (each === "voter" ? id : `${id} (${each})`));
    this.timeline.add({ kind: "membership", index: membership.index, members });
  }

  /** Notes which warnings have come and gone. Call this now and then. */
  lookAtWarnings(warnings: readonly string[]): void {
    const present = new Set(warnings.map(kindOfWarning));
    for (const text of warnings) {
      if (!this.#warnings.has(kindOfWarning(text))) this.timeline.add({ kind: "warning", text });
    }
    for (const text of this.#warnings) {
      if (!present.has(text)) this.timeline.add({ kind: "cleared", text });
    }
    this.#warnings = present;
  }
}

/** Returns a warning without its figures, which change while it holds. */
function kindOfWarning(text: string): string {
  return text.replaceAll(/\d[\d,.]*/g, "…");
}
