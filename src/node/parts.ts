import type { StateMachine } from "../machine/state_machine.js";
import type { ElectionMode } from "../raft/timing.js";
import type { Clock } from "../system/clock.js";
import { silentLogger } from "../system/logger.js";
import { DiskFullRetry } from "./disk_full.js";
import { Ending, rethrow } from "./ending.js";
import { LossAlarm, shortageAlarm } from "./health/alarms.js";
import { Fitness } from "./health/fitness.js";
import { hostOf, type NodeHost } from "./host.js";
import { logHappening } from "./measures/happening_log.js";
import { LogAge } from "./measures/log_age.js";
import { NodeMeasures } from "./measures/node_measures.js";
import { FirstElection } from "./open/first_election.js";
import type { Recovered } from "./open/recovery.js";
import { coreOf } from "./open/starting.js";
import type { NodeStorage } from "./open/storage.js";
import type { NodeOptions } from "./options.js";
import { Peers } from "./peers.js";
import { ProtocolWatch } from "./protocol_watch.js";
import { ReadyLoop } from "./ready_loop.js";
import { deliver, observerOf } from "./ready_observer.js";
import { AppliedLog } from "./requests/applied_log.js";
import { Conditions } from "./requests/conditions.js";
import { Leadership } from "./requests/leadership.js";
import { PeerRequests } from "./requests/peer_requests.js";
import { Proposals } from "./requests/proposals.js";
import { Reads } from "./requests/reads.js";
import { AppliedWaiters } from "./requests/waiters.js";
import { TransferReceiver } from "./snapshots/receiver.js";
import { Snapshotting } from "./snapshots/snapshotting.js";
import { Ticker } from "./ticker.js";
import { Turns } from "./turns.js";

/** Ticks between two looks at which warnings have come and gone. */
const WARNING_TICKS = 10;

/**
 * The parts of a node, made in the order in which they need each other: each gets what it needs by
 * its constructor. {@link begin} connects the two that every other part may need, and which need
 * the others to do their work: the turns and the ending.
 */
export class NodeParts<Result, Machine extends StateMachine<Result>> {
  readonly storage: NodeStorage<Machine>;
  readonly ending: Ending;
  readonly host: NodeHost;
  readonly conditions: Conditions;
  readonly measures: NodeMeasures;
  readonly proposals: Proposals<Result>;
  readonly waiters = new AppliedWaiters();
  readonly appliedLog: AppliedLog;
  readonly diskFull: DiskFullRetry;
  readonly protocol: ProtocolWatch;
  readonly requests: PeerRequests;
  readonly leadership: Leadership;
  readonly snapshotting: Snapshotting<Machine>;
  readonly receiver: TransferReceiver;
  readonly fitness: Fitness;
  readonly reads: Reads;
  readonly #turns: Turns;
  readonly #peers: Peers;
  readonly #ticker: Ticker;
  readonly #firstElection: FirstElection;
  readonly #lossAlarm: LossAlarm;
  #ticks = 0;
  /** See {@link Peers.rules}. */
  readonly rulesOfMembers: ReadonlyMap<string, number>;
  readonly #loop: ReadyLoop<Result, Machine>;
  /** Resolves with the error that ended the loop; undefined when the loop was stopped. */
  #running: Promise<unknown> = Promise.resolve();

  constructor(options: NodeOptions<Result, Machine>, recovered: Recovered<Machine>, clock: Clock) {
    const { storage } = recovered;
    const { directory, log, snapshots, machine } = storage;
    const { incarnation, clusterId } = directory.identity;
    const { id, logger = silentLogger, onFatal = rethrow, onLost } = options;
    const unixMs = options.unixMs ?? Date.now;
    const logAge = new LogAge(unixMs, log.last.index, () => log.oldestFileUnixMs);
    const measures = new NodeMeasures(options.id, clock, unixMs, logAge);
    measures.timeline.follow((entry) => logHappening(logger, entry));
    const proposals = new Proposals<Result>(clock, measures);
    const { waiters } = this;
    const raft = coreOf(options, recovered);
    this.measures = measures;
    this.proposals = proposals;
    this.storage = storage;
    this.ending = new Ending(storage, { id, logger, onFatal });
    this.#turns = new Turns(clock, this.ending);
    this.host = hostOf({ id, incarnation }, raft, this.ending, this.#turns);
    const { host, ending } = this;
    this.conditions = new Conditions(options.onTurn);
    this.diskFull = new DiskFullRetry(clock, shortageAlarm(logger, { proposals, waiters }));
    this.protocol = new ProtocolWatch(host.raft, clock, logger);
    const { diskFull, protocol } = this;
    this.requests = new PeerRequests(host, diskFull, protocol);
    this.leadership = new Leadership(host, this.conditions, proposals);
    this.#peers = new Peers(host, log, { clusterId, settings: options, protocol, clock });
    this.rulesOfMembers = this.#peers.rules;
    this.snapshotting = new Snapshotting(host, storage, options, { clock, logger, peers: this.#peers, measures });
    const { requests, snapshotting } = this;
    this.receiver = new TransferReceiver(snapshots, { host, requests, protocol });
    const fitness = new Fitness(host, options, { clock, logger, diskFull, snapshotting, proposals, waiters, measures });
    this.fitness = fitness;
    const { tickMs = 100, electionTicks = 10, random = Math.random } = options;
    this.#firstElection = new FirstElection(host, { clock, tickMs, electionTicks, random });
    this.#ticker = new Ticker(clock, tickMs, (elapsedMs, isLate) => {
      ending.attempt(() => {
        fitness.tick(elapsedMs, isLate);
        snapshotting.tick();
        logAge.note(host.raft.log.last.index);
        if (this.#ticks++ % WARNING_TICKS === 0) this.#lookAtWarnings();
        host.wake();
      });
    });
    this.reads = new Reads(host, this.#ticker);
    this.#lossAlarm = new LossAlarm(host, { logger, directory, diskFull, onLost });
    this.appliedLog = new AppliedLog(host.raft.log, log);
    const { appliedLog } = this;
    const work = { proposals, waiters, appliedLog, requests, snapshotting, measures };
    const told = { ...work, peers: this.#peers, turns: this.#turns };
    // The loop drives the core, so it holds the core itself. Any error of the loop ends the node.
    this.#loop = new ReadyLoop(
      raft,
      storage,
      diskFull,
      fitness.writes,
      observerOf({ machine, ...told }),
      clock,
      measures,
    );
  }

  /** Begins to work. Call this once. */
  begin(elections: ElectionMode): void {
    const { ending, host } = this;
    ending.connect(() => this.#stop());
    this.#turns.connect(() => this.#turn());
    this.#running = ending.watchLoop(this.#loop.run());
    // A node that is the only member need not wait for anybody.
    if (elections === "automatic" && host.raft.membership.members.length === 1) host.core((raft) => raft.campaign());
    else if (elections === "automatic") this.#firstElection.begin();
    host.wake();
    ending.watchStorage();
  }

  /** Carries out the work that does not depend on pending writes, and wakes the loop. */
  #turn(): void {
    const { host, requests } = this;
    const peers = this.#peers;
    this.reads.answer();
    this.protocol.look();
    this.proposals.truncated(host.raft.log.last.index);
    peers.followMembership();
    for (const message of host.core((raft) => raft.takeMessages())) deliver(message, { requests, peers });
    peers.serve();
    this.snapshotting.serve();
    this.measures.look(host.raft);
    this.conditions.changed();
    this.#loop.wake();
    this.#lossAlarm.look();
  }

  #lookAtWarnings(): void {
    const { fitness, snapshotting, protocol } = this;
    this.measures.lookAtWarnings([...fitness.warnings, ...snapshotting.warnings, ...protocol.warnings]);
  }

  /** Stops all parts; resolves with the error that ended the loop, if any. */
  async #stop(): Promise<unknown> {
    for (const part of [this.#ticker, this.#firstElection, this.#loop, this.diskFull]) part.stop();
    const othersStopped = Promise.all([this.#stopSending(), this.receiver.stop()]);
    await this.snapshotting.stop();
    const failure = await this.#running;
    // A transfer that is being installed waits for its answer, so fail the waiting callers first.
    this.proposals.failAll("the node stopped");
    const { stopped } = this.ending;
    for (const waiting of [this.waiters, this.conditions, this.requests, this.reads]) waiting.failAll(stopped);
    await othersStopped;
    return failure;
  }

  /** Transfers use the connections to the peers, so they end first. */
  async #stopSending(): Promise<void> {
    await this.snapshotting.stopSending();
    await this.#peers.stop();
  }
}
