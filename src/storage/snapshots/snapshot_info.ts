import type { SnapshotMeta } from "../../raft/types.js";
import type { LogFacts } from "../../system/log_fields.js";

/** Describes a snapshot file on disk. */
export interface SnapshotInfo extends SnapshotMeta {
  /** Size of the state machine's payload. */
  readonly payloadBytes: number;
  readonly fileBytes: number;
  /**
   * SHA-256 of the file up to its trailer: 32 bytes. Equal on every replica that wrote a snapshot
   * at this index.
   */
  readonly sha256: Uint8Array;
  /** Absolute path of the file. */
  readonly path: string;
}

/**
 * A file that is named like a snapshot and must not be used. It is kept so that an operator can
 * find out why.
 */
export interface DamagedSnapshot {
  readonly path: string;
  readonly reason: string;
  /** Meta data from the file's header, if that passes its CRC32: the damage is then elsewhere. */
  readonly meta: SnapshotMeta | undefined;
}

/** Describes a snapshot file to its receiver, before the first byte. */
export interface SnapshotOffer {
  readonly index: number;
  readonly term: number;
  readonly fileBytes: number;
  /** SHA-256 of the file up to its trailer: 32 bytes. */
  readonly sha256: Uint8Array;
}

/** Receives the log messages of the store. */
export interface StoreLogger {
  info(facts: LogFacts, message: string): void;
  warn(facts: LogFacts, message: string): void;
}
