import { CairnError } from "../../base/errors.js";
import type { StateMachine } from "../../machine/state_machine.js";
import type { Clock } from "../../system/clock.js";
import type { LogFacts } from "../../system/log_fields.js";
import type { Logger } from "../../system/logger.js";
import type { DiskFullRetry } from "../disk_full.js";
import type { NodeHost } from "../host.js";
import type { NodeMeasures } from "../measures/node_measures.js";
import type { NodeOptions } from "../options.js";
import type { CatchUp } from "../snapshots/lag_monitor.js";
import type { OutgoingTransfer } from "../snapshots/send_queue.js";
import type { WaitingCallers } from "./alarms.js";
import { healthOf, type MemberHealth, memberFindings, ownFindings, type Pace } from "./health.js";
import { MemberWatch } from "./member_watch.js";
import { RecentTimes } from "./recent_times.js";
import { type LogSync, WriteWatch } from "./write_watch.js";

/** The snapshots that followers are brought back by. */
export interface FollowerSnapshots {
  /** Snapshot transfers to followers. */
  readonly transfers: readonly OutgoingTransfer[];
  /** Returns whether the follower with this member key can catch up by snapshots. */
  catchUp(key: string): CatchUp;
}

/** The parts of a node that say how fit it is to lead, and how the other members are (T8). */
export interface FitnessParts extends WaitingCallers {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly diskFull: Pick<DiskFullRetry, "shortage">;
  readonly snapshotting: FollowerSnapshots;
  readonly measures: Pick<NodeMeasures, "logSyncs">;
}

/**
 * Judges whether this node can do its work, and how the others do: measures its disk and its event
 * loop, tells the core about them at each tick, and reports problems (T8).
 */
export class Fitness {
  readonly writes: WriteWatch;
  readonly #pace: Pace;
  readonly #late = new RecentTimes();
  readonly #members: MemberWatch;
  /** State of the disk at the last tick, to log changes. */
  #disk: WriteWatch["disk"] = "fit";

  constructor(
    private readonly host: NodeHost,
    { tickMs = 100, electionTicks = 10 }: Pick<NodeOptions<unknown, StateMachine>, "tickMs" | "electionTicks">,
    private readonly parts: FitnessParts,
  ) {
    this.#pace = { tickMs, electionMs: electionTicks * tickMs };
    this.writes = new WriteWatch(parts.clock, this.#pace.electionMs, parts.measures);
    this.#members = new MemberWatch(parts.clock);
  }

  get logSync(): LogSync {
    return this.writes.sync;
  }

  /** Health of this node and, on the leader, of every other member. */
  get health(): readonly MemberHealth[] {
    const { id, raft } = this.host;
    const { progress } = raft;
    const others = this.#members.times(progress).map((times) => {
      const lost = progress.find(({ key }) => key === times.key)?.lost;
      const facts = { times, lost, catchUp: this.parts.snapshotting.catchUp(times.key) };
      return healthOf(times.id, memberFindings(facts, this.#pace));
    });
    return [healthOf(id, this.#ownFindings()), ...others];
  }

  /** Problems of this node, as text. */
  get warnings(): string[] {
    return this.#ownFindings().map(({ text }) => text);
  }

  /**
   * Ticks the core, `elapsedMs` milliseconds after the previous tick. `isLate`: the clock may have
   * stood still.
   */
  tick(elapsedMs: number, isLate: boolean): void {
    const { raft } = this.host;
    const { clock, snapshotting } = this.parts;
    const lateMs = Math.max(0, elapsedMs - this.#pace.tickMs);
    this.#late.record(clock.now(), lateMs);
    if (isLate) this.host.core((raft) => raft.distrustClock());
    if (elapsedMs >= this.#pace.electionMs) this.#stoodStill(lateMs);
    this.#lookAtDisk();
    this.host.core((raft) => raft.tick());
    this.#members.tick(raft.progress, raft.log.last.index, snapshotting.transfers);
  }

  #stoodStill(ms: number): void {
    const facts: LogFacts = { durationMs: Math.round(ms), role: this.host.raft.role };
    this.parts.logger.warn(facts, "the process stalled for longer than an election timeout");
    this.writes.stoodStill(ms);
    this.#members.stoodStill(ms);
    this.host.core((raft) => raft.stoodStill());
  }

  #lookAtDisk(): void {
    const { raft, id } = this.host;
    const { disk } = this.writes;
    this.host.core((raft) => raft.diskIs(disk));
    if (disk !== this.#disk) this.#logDisk(disk);
    this.#disk = disk;
    if (disk !== "stuck" || raft.role === "leader") return;
    // The log will not be written soon, so the callers here would wait long. Another node may lead
    // by now.
    this.parts.proposals.failAll("this node no longer leads, and its disk does not complete writes of the log");
    const text = `node ${id} does not lead, and its disk does not complete writes of the log: ask another node`;
    this.parts.waiters.failAll(new CairnError("NOT_LEADER", text, { leaderHint: raft.leader }));
  }

  #logDisk(disk: WriteWatch["disk"]): void {
    const { role } = this.host.raft;
    const durationMs = Math.round(this.logSync.underWayMs ?? 0);
    if (disk === "stuck") this.parts.logger.warn({ role, durationMs }, "the disk does not complete writes of the log");
    else if (this.#disk === "stuck") this.parts.logger.info({ role }, "the disk completes writes of the log again");
  }

  #ownFindings() {
    const { clock, diskFull } = this.parts;
    const { lost, removedAt } = this.host.raft;
    const lateMs = this.#late.maxMs(clock.now());
    const facts = { sync: this.logSync, lateMs, shortage: diskFull.shortage, lost, removedAt };
    return ownFindings(facts, this.#pace);
  }
}
