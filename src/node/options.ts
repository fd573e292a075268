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
import type { SnapshotPolicy } from "./snapshots/scheduler.js";

/** Opens a state machine on a directory, and creates the directory if it does not exist. */
export interface MachineOpener<Machine> {
  (options: {
    readonly directory: string;
    /** False: the contents of the directory must not be used; start empty. */
    readonly trustDisk: boolean;
    /** The cluster that the node belongs to; empty while it belongs to none. */
    readonly clusterId?: string | undefined;
  }): Promise<Machine>;
  /**
   * Checks payloads of snapshots from other nodes as they arrive, before they are accepted. It may
   * be called before a machine is open. Default: none, so a payload that the machine refuses is
   * noticed only when it is loaded, and then the node stops.
   */
  readonly checkPayload?: PayloadChecker | undefined;
}

/** Options of a node. */
export interface NodeOptions<Result, Machine extends StateMachine<Result>> {
  /** Name of this node in its cluster: 1 to 64 characters of A-Z a-z 0-9 . _ - */
  readonly id: string;
  /** Data directory; created if it does not exist. One process may use it at a time. */
  readonly directory: string;
  /** The intersection lets TypeScript infer Result from the machine. */
  readonly openMachine: MachineOpener<Machine & StateMachine<Result>>;
  /** The cluster's id. Default: the one in the directory, or `newClusterId` for a new directory. */
  readonly clusterId?: string | undefined;
  /** Id for a cluster that is created now. Default: a random one. */
  readonly newClusterId?: string | undefined;
  /**
   * Members that the cluster was created with. Default: this node alone. Ignored when the directory
   * has data. A node that joins later is not among them; it learns the present membership from the
   * log or a snapshot.
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
  /** A leader sends heartbeats after this many ticks. Default 1. */
  readonly heartbeatTicks?: number | undefined;
  /** Confirmation of linearizable reads; the same on all members. Default `quorum`. */
  readonly reads?: ReadMode | undefined;
  /** Transport to the other members. Default: none, so the node does not reach them. */
  readonly transport?: TransportFactory | undefined;
  /**
   * Addresses (host:port) of members as seen from here, by id, when they differ from those in the
   * membership: behind a tunnel, or a forwarded port.
   */
  readonly peerAddresses?: Readonly<Record<string, string>> | undefined;
  /**
   * Policy for taking snapshots without being asked; `false`: never. Default: see {@link
   * SnapshotPolicy}.
   */
  readonly snapshots?: SnapshotPolicy | false | undefined;
  /** Overrides of the limits in limits.ts. */
  readonly limits?: Partial<RaftLimits> | undefined;
  /** Bytes of a snapshot in one message to a follower. Default 512 KiB. */
  readonly snapshotChunkBytes?: number | undefined;
  /**
   * Bytes per second that all snapshot transfers to followers may use together. Default: unlimited.
   */
  readonly snapshotBandwidth?: number | undefined;
  /** Compresses snapshots on their way to followers. Default: no compression. */
  readonly snapshotCompression?: SnapshotCompression | undefined;
  /**
   * Milliseconds for which the snapshot of an interrupted transfer, and the log behind it, are
   * retained so that the next transfer can resume. Default 60,000.
   */
  readonly transferResumeMs?: number | undefined;
  /** Size of a log segment in bytes. Default 64 MiB. */
  readonly segmentBytes?: number | undefined;
  /** Bytes of log retained behind a snapshot. Default 64 MiB. */
  readonly trailingLogBytes?: number | undefined;
  /**
   * Maximum bytes of log retained for followers that are being sent a snapshot, which will need it.
   * Default 1 GiB.
   */
  readonly pinnedLogBytes?: number | undefined;
  /**
   * False: discard the state on disk and rebuild it from snapshot and log, as after a power
   * failure. Default true.
   */
  readonly trustState?: boolean | undefined;
  /**
   * Provides a snapshot when those on disk are lost or damaged and the log does not reach back far
   * enough without them. Default: none, so the node refuses to start then.
   */
  readonly snapshotSource?: SnapshotSource | undefined;
  readonly fs?: FileSystem | undefined;
  readonly clock?: Clock | undefined;
  /** Milliseconds since 1970, for values that are shown to people. */
  readonly unixMs?: (() => number) | undefined;
  /** Returns random numbers from 0 to below 1. */
  readonly random?: (() => number) | undefined;
  readonly logger?: Logger | undefined;
  /**
   * Called after each turn of the node's work: the values that its `raft`, `machine` and
   * `snapshotting` show may have changed. It must be quick, and must not throw.
   */
  readonly onTurn?: (() => void) | undefined;
  /**
   * Called once when the node finds that it has less than it acknowledged (T3). The node keeps
   * running so that its data can be read, but it neither votes nor acknowledges. Stop it, and
   * replace it by a node with a new directory.
   */
  readonly onLost?: ((lost: LostData) => void) | undefined;
  /**
   * Called once when the node cannot continue: a broken invariant, or a disk whose contents are no
   * longer known. The node has stopped; the process should end too. Default: throws, which ends it.
   */
  readonly onFatal?: ((error: unknown) => void) | undefined;
}
