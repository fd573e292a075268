import type { StateMachine } from "../machine/state_machine.js";
import type { SnapshotCompression } from "../peers/install/install_messages.js";
import type { TransportFactory } from "../peers/transport.js";
import type { RaftLimits } from "../raft/raft.js";
import type { LostData } from "../raft/state.js";
import type { ElectionMode, ReadMode } from "../raft/timing.js";
import type { Membership } from "../raft/types.js";
import type { PayloadChecker } from "../storage/snapshots/payload_check.js";
import type { Clock } from "../system/clock.js";
import type { FileSystem } from "../system/fs.js";
import type { Logger } from "../system/logger.js";
import type { SnapshotSource } from "./open/healing.js";
import type { SnapshotPolicy } from "./snapshots/policy.js";

/** Opens a state machine on a directory, which is made when it is not there. */
export interface MachineOpener<Machine> {
  (options: {
    readonly directory: string;
    /** False: what the directory holds must not be used; start empty. */
    readonly trustDisk: boolean;
  }): Promise<Machine>;
  /**
   * Checks payloads of snapshots from other nodes as they arrive, before they are accepted: it may
   * be needed before a machine is open. Left out: a payload that the machine refuses is found out
   * when it is loaded, and then the node stops.
   */
  readonly checkPayload?: PayloadChecker | undefined;
}

/** How to run a node. */
export interface NodeOptions<Result, Machine extends StateMachine<Result>> {
  /** Name of this node in its cluster: 1 to 64 characters of A-Z a-z 0-9 . _ - */
  readonly id: string;
  /** Where its data lives; made when it is not there. One process at a time. */
  readonly directory: string;
  /** The intersection lets TypeScript infer Result from the machine. */
  readonly openMachine: MachineOpener<Machine & StateMachine<Result>>;
  /** The cluster's id. Left out: what the directory says, or newClusterId for a new directory. */
  readonly clusterId?: string | undefined;
  /** Id of a cluster that is created now. Default: a random one. */
  readonly newClusterId?: string | undefined;
  /**
   * Members that the cluster was created with. Left out: this node alone. Ignored when the
   * directory has data. A node that joins later is not among them; it learns the present membership
   * from the log or a snapshot.
   */
  readonly members?: Membership | undefined;
  /**
   * `manual`: this node campaigns only when {@link CairnNode.campaign} says so. Default
   * `automatic`.
   */
  readonly elections?: ElectionMode | undefined;
  /** Length of a tick in milliseconds. Default 100. */
  readonly tickMs?: number | undefined;
  /**
   * A follower campaigns after this many ticks, or up to twice as many, without a leader. Default
   * 10.
   */
  readonly electionTicks?: number | undefined;
  /** A leader sends heartbeats after so many ticks. Default 1. */
  readonly heartbeatTicks?: number | undefined;
  /** How linearizable reads are confirmed; the same on all members. Default `quorum`. */
  readonly reads?: ReadMode | undefined;
  /** How the other members are reached. Left out: not at all. */
  readonly transport?: TransportFactory | undefined;
  /**
   * host:port at which members are to be reached from here, by id, where that is not what the
   * membership says: behind a tunnel, or a forwarded port.
   */
  readonly peerAddresses?: Readonly<Record<string, string>> | undefined;
  /**
   * When to take snapshots without being asked; `false`: never. Left out: see {@link
   * SnapshotPolicy}.
   */
  readonly snapshots?: SnapshotPolicy | false | undefined;
  /** Limits in place of those in limits.ts. */
  readonly limits?: Partial<RaftLimits> | undefined;
  /** Bytes of a snapshot that go into one message to a follower. Default 512 KiB. */
  readonly snapshotChunkBytes?: number | undefined;
  /**
   * Bytes per second that all snapshots together may take that are on their way to followers.
   * Default: as many as there are.
   */
  readonly snapshotBandwidth?: number | undefined;
  /** Compress snapshots on their way to followers. Default: no. */
  readonly snapshotCompression?: SnapshotCompression | undefined;
  /**
   * After a transfer to a follower was interrupted, its snapshot and the log behind it are kept for
   * so many milliseconds, for the next one to go on with. Default 60,000.
   */
  readonly transferResumeMs?: number | undefined;
  /** Size of a log segment in bytes. Default 64 MiB. */
  readonly segmentBytes?: number | undefined;
  /** Bytes of log kept behind a snapshot. Default 64 MiB. */
  readonly trailingLogBytes?: number | undefined;
  /**
   * Bytes of log kept for followers that are being sent a snapshot, at most: they will need it.
   * Default 1 GiB.
   */
  readonly pinnedLogBytes?: number | undefined;
  /**
   * False: throw the state on disk away and rebuild it from snapshot and log, as after a power
   * failure. Default true.
   */
  readonly trustState?: boolean | undefined;
  /**
   * Where a snapshot comes from when those on disk are lost or damaged and the log does not reach
   * back without them. Left out: the node refuses to start then.
   */
  readonly snapshotSource?: SnapshotSource | undefined;
  readonly fs?: FileSystem | undefined;
  readonly clock?: Clock | undefined;
  /** Milliseconds since 1970, for what is shown to people. */
  readonly unixMs?: (() => number) | undefined;
  /** Random numbers from 0 to below 1. */
  readonly random?: (() => number) | undefined;
  readonly logger?: Logger | undefined;
  /**
   * Called after each turn of the node's work: anything that its `raft`, `machine` and
   * `snapshotting` show may have changed. It must be quick, and must not throw.
   */
  readonly onTurn?: (() => void) | undefined;
  /**
   * Called once when the node finds that it has less than it acknowledged (T3). It runs on without
   * vote or word, so that what it has can be read; it should be stopped, and replaced by one with a
   * new directory.
   */
  readonly onLost?: ((lost: LostData) => void) | undefined;
  /**
   * Called once when the node cannot go on: a broken invariant, or a disk whose contents are no
   * longer known. The node has stopped; the process should end too. Default: throws, which ends it.
   */
  readonly onFatal?: ((error: unknown) => void) | undefined;
}
