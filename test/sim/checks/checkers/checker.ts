import type { CommandResult } from "../../../../gen/cairn/v1/storage_pb.js";
import type { ApplyResult } from "../../../../src/machine/state_machine.js";
import type { PeerAnswer, PeerRequest, Response } from "../../../../src/raft/messages.js";
import type { Entry, SnapshotMeta } from "../../../../src/raft/types.js";
import type { Call } from "../../../support/disk/faulty_fs.js";
import type { RunningNode, SimNode } from "../../world/node.js";

/** A rule that was broken, with what was seen. */
export class Violation extends Error {
  override readonly name = "Violation";

  constructor(
    readonly invariant: string,
    readonly facts: Readonly<Record<string, unknown>>,
  ) {
    super(`${invariant}: ${JSON.stringify(facts)}`);
  }
}

/** Throws {@link Violation} unless `condition` holds. */
export function demand(
  condition: boolean,
  invariant: string,
  facts: Readonly<Record<string, unknown>>,
): asserts condition {
  if (!condition) throw new Violation(invariant, facts);
}

/** A node that runs. */
export interface Observed {
  readonly place: SimNode;
  /** Its member key. */
  readonly id: string;
  readonly cairn: RunningNode;
}

/** What a checker may look at. Each method is optional; what takes promise jobs returns a promise, and nothing else happens before it ends. */
export interface Checker {
  /** A process has recovered. */
  started?(node: Observed): Promise<void> | undefined | void;
  /** A process is gone. */
  ended?(place: SimNode): void;
  /** Something may have changed at a node, and all that follows from it without time passing has happened. */
  touched?(node: Observed): Promise<void> | undefined | void;
  /** A state machine has applied entries; `isLive` is false for one that is built for a while only. */
  applied?(place: SimNode, entries: readonly Entry[], results: readonly ApplyResult<CommandResult>[]): void;
  /** The same of a machine that is built for a while only. */
  replayed?(place: SimNode, entries: readonly Entry[]): void;
  /** A state machine was loaded from a snapshot. */
  restored?(place: SimNode, meta: SnapshotMeta): void;
  /** A request leaves. */
  sent?(place: SimNode, request: PeerRequest): Promise<void> | undefined | void;
  /** An answer is about to leave. */
  answering?(node: Observed, request: PeerRequest, answer: Response): Promise<void> | undefined | void;
  /** An answer of a peer has come. */
  heard?(node: Observed, answer: PeerAnswer): void;
  /** A node has told the sender of a snapshot, by its key, that its log agrees up to `matchIndex`. */
  promised?(node: Observed, leader: string, term: number, matchIndex: number): Promise<void> | undefined | void;
  /** A call of a node's disk is about to begin. */
  diskCall?(place: SimNode, call: Call): Promise<void> | undefined | void;
  /** The faults are over, and the cluster has come to rest. */
  finished?(nodes: readonly Observed[]): Promise<void> | undefined | void;
}
