import type { InstallSnapshotAnswer } from "../core/messages.js";
import type { Raft } from "../core/raft.js";
import { CairnError, hasCode } from "../errors.js";
import type { SnapshotReceiver } from "../storage/snapshots/receiver.js";
import type { SnapshotStore } from "../storage/snapshots/snapshot_store.js";
import type { StagedSnapshot } from "../storage/snapshots/staged_snapshot.js";
import type { InstallOffer, OfferRefusal } from "../transport/install_messages.js";

/** What the inbox needs of its node. */
export interface InboxNode {
  /** Makes a received snapshot the node's state, if it still should be. */
  install(offer: InstallOffer, staged: StagedSnapshot): Promise<InstallSnapshotAnswer>;
  /** Is shown all work on the disk, whose failure may be the node's. */
  watch<Result>(work: Promise<Result>): Promise<Result>;
}

/** A snapshot on its way to this node. */
export interface IncomingTransfer {
  readonly from: string;
  readonly index: number;
  readonly totalBytes: number;
  /** Bytes that have arrived. */
  readonly doneBytes: number;
}

/**
 * Takes in snapshots that leaders send, one at a time. A transfer that was begun by the leader of an older term makes way for a newer
 * leader's: its own sender may hang for ever.
 */
export class SnapshotInbox {
  /** The transfer that is about to begin. */
  #opening: { readonly offer: InstallOffer; readonly receiver: Promise<SnapshotReceiver> } | undefined;
  #current: IncomingSnapshot | undefined;
  #stopped = false;

  constructor(
    private readonly raft: Raft,
    private readonly snapshots: SnapshotStore,
    private readonly node: InboxNode,
  ) {}

  /** The transfer that is under way. */
  get transfer(): IncomingTransfer | undefined {
    if (this.#current === undefined) return undefined;
    const { offer, offset } = this.#current;
    return { from: offer.from, index: offer.index, totalBytes: offer.fileBytes, doneBytes: offset };
  }

  /** @throws CairnError INVALID_ARGUMENT for an offer that no file can fulfil; STOPPED */
  async accept(offer: InstallOffer): Promise<IncomingSnapshot | OfferRefusal> {
    this.#assertRunning();
    const refusal = this.#refusal(offer);
    if (refusal === undefined) return this.#open(offer);
    const present = this.#current;
    const isSuperseded = present !== undefined && present.offer.leaderTerm < offer.leaderTerm;
    if (refusal.reason !== "busy" || !isSuperseded || !(await present.giveWay())) return refusal;
    // Much may have happened meanwhile.
    return this.accept(offer);
  }

  /** Ends the transfer under way and takes no more. Returns when nothing is left to be written. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#opening?.receiver.catch(() => {});
    await this.#current?.abort();
  }

  #refusal(offer: InstallOffer): OfferRefusal | undefined {
    const { term, log } = this.raft;
    if (offer.leaderTerm < term) {
      return { reason: "stale_term", detail: `term ${offer.leaderTerm} is over, this node is in term ${term}` };
    }
    if (offer.index <= log.commit) {
      const detail = `index ${offer.index} is committed here already, up to ${log.commit}`;
      return { reason: "already_committed", detail };
    }
    const present = this.#current?.offer ?? this.#opening?.offer;
    if (present === undefined) return undefined;
    const detail = `this node is receiving a snapshot up to index ${present.index} from ${present.from}`;
    return { reason: "busy", detail };
  }

  async #open(offer: InstallOffer): Promise<IncomingSnapshot | OfferRefusal> {
    let incoming: IncomingSnapshot;
    try {
      this.#opening = { offer, receiver: this.node.watch(this.snapshots.receive(offer)) };
      const receiver = await this.#opening.receiver;
      incoming = new IncomingSnapshot(offer, this.raft, receiver, this.node, (ended) => {
        if (this.#current === ended) this.#current = undefined;
      });
      this.#current = incoming;
    } catch (error) {
      if (hasCode(error, "DISK_FULL")) return { reason: "no_space", detail: error.text };
      throw error;
    } finally {
      this.#opening = undefined;
    }
    if (this.#stopped) await incoming.abort();
    this.#assertRunning();
    return incoming;
  }

  #assertRunning(): void {
    if (this.#stopped) throw new CairnError("STOPPED", "the node takes no snapshots any more: it is stopping");
  }
}

/** A snapshot that is arriving. End it with {@link finish} or {@link abort}; any error ends it too. Then nothing is left of its file. */
export class IncomingSnapshot {
  #finishing: Promise<InstallSnapshotAnswer> | undefined;

  constructor(
    readonly offer: InstallOffer,
    private readonly raft: Raft,
    private readonly receiver: SnapshotReceiver,
    private readonly node: InboxNode,
    private readonly onEnd: (ended: IncomingSnapshot) => void,
  ) {}

  /** Bytes of the file that have arrived. */
  get offset(): number {
    return this.receiver.offset;
  }

  get isWhole(): boolean {
    return this.offset === this.offer.fileBytes;
  }

  /**
   * Takes the next bytes, sent in `leaderTerm`.
   * @throws CairnError STALE_TERM when that is not the offer's term or a newer term has begun (rule 7); INVALID_ARGUMENT, CORRUPT,
   * WRONG_CLUSTER or DISK_FULL as the receiver; CANCELLED when the transfer was ended
   */
  async write(leaderTerm: number, offset: number, data: Uint8Array): Promise<void> {
    if (leaderTerm !== this.offer.leaderTerm) {
      throw await this.#refused(`chunk of term ${leaderTerm} in a transfer of term ${this.offer.leaderTerm}`);
    }
    if (leaderTerm < this.raft.term) {
      throw await this.#refused(`term ${leaderTerm} is over, this node is in term ${this.raft.term}`);
    }
    try {
      await this.node.watch(this.receiver.write(offset, data));
    } catch (error) {
      await this.abort();
      throw error;
    }
  }

  /** The whole file has arrived: verifies and installs it. */
  finish(): Promise<InstallSnapshotAnswer> {
    this.#finishing ??= this.#finish();
    return this.#finishing;
  }

  /** Gives the transfer up; may be called at any time. What {@link finish} has begun is waited for: it cannot be undone. */
  async abort(): Promise<void> {
    await this.giveWay();
    await this.#finishing?.catch(() => {});
  }

  /** Gives the transfer up, unless it is being installed already. Returns whether it has ended. */
  async giveWay(): Promise<boolean> {
    if (this.#finishing !== undefined) return false;
    await this.receiver.abort();
    this.onEnd(this);
    return true;
  }

  async #finish(): Promise<InstallSnapshotAnswer> {
    let staged: StagedSnapshot | undefined;
    try {
      staged = await this.node.watch(this.receiver.finish());
      return await this.node.install(this.offer, staged);
    } finally {
      // Does nothing to a snapshot that was installed.
      await staged?.discard();
      this.onEnd(this);
    }
  }

  async #refused(text: string): Promise<CairnError> {
    await this.abort();
    return new CairnError("STALE_TERM", `snapshot up to index ${this.offer.index}: ${text}`);
  }
}
