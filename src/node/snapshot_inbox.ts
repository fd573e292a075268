import type { InstallSnapshotAnswer } from "../core/messages.js";
import type { Raft } from "../core/raft.js";
import { CairnError } from "../errors.js";
import type { SnapshotReceiver } from "../storage/snapshots/receiver.js";
import type { SnapshotOffer } from "../storage/snapshots/snapshot_info.js";
import type { SnapshotStore } from "../storage/snapshots/snapshot_store.js";
import type { StagedSnapshot } from "../storage/snapshots/staged_snapshot.js";

/** A leader's announcement of a snapshot. */
export interface InstallOffer extends SnapshotOffer {
  readonly from: string;
  /** The leader's term; `term` is that of the snapshot's last entry. */
  readonly leaderTerm: number;
}

/** Why an offer is refused. */
export interface OfferRefusal {
  readonly reason: "stale_term" | "already_committed" | "busy" | "no_space";
  readonly detail: string;
}

/** Takes in snapshots that leaders send, one at a time. */
export class SnapshotInbox {
  #busyWith: string | undefined;

  constructor(
    private readonly raft: Raft,
    private readonly snapshots: SnapshotStore,
    private readonly install: (offer: InstallOffer, staged: StagedSnapshot) => Promise<InstallSnapshotAnswer>,
  ) {}

  /** @throws CairnError INVALID_ARGUMENT for an offer that no file can fulfil */
  async accept(offer: InstallOffer): Promise<IncomingSnapshot | OfferRefusal> {
    const { raft } = this;
    if (offer.leaderTerm < raft.term) {
      return { reason: "stale_term", detail: `term ${offer.leaderTerm} is over, this node is in term ${raft.term}` };
    }
    if (offer.index <= raft.log.commit) {
      const detail = `index ${offer.index} is committed here already, up to ${raft.log.commit}`;
      return { reason: "already_committed", detail };
    }
    if (this.#busyWith !== undefined) {
      return { reason: "busy", detail: `this node is receiving ${this.#busyWith}` };
    }
    this.#busyWith = `a snapshot up to index ${offer.index} from ${offer.from}`;
    let isFree = false;
    const free = () => {
      // The next transfer may have begun by the second call.
      if (!isFree) this.#busyWith = undefined;
      isFree = true;
    };
    try {
      const receiver = await this.snapshots.receive(offer);
      return new IncomingSnapshot(offer, raft, receiver, this.install, free);
    } catch (error) {
      free();
      if (error instanceof CairnError && error.code === "DISK_FULL") return { reason: "no_space", detail: error.text };
      throw error;
    }
  }
}

/** A snapshot that is arriving. End it with {@link finish} or {@link abort}; any error ends it too. Then nothing is left of its file. */
export class IncomingSnapshot {
  constructor(
    readonly offer: InstallOffer,
    private readonly raft: Raft,
    private readonly receiver: SnapshotReceiver,
    private readonly install: (offer: InstallOffer, staged: StagedSnapshot) => Promise<InstallSnapshotAnswer>,
    private readonly free: () => void,
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
   * WRONG_CLUSTER or DISK_FULL as the receiver
   */
  async write(leaderTerm: number, offset: number, data: Uint8Array): Promise<void> {
    if (leaderTerm !== this.offer.leaderTerm) {
      throw await this.#refused(`chunk of term ${leaderTerm} in a transfer of term ${this.offer.leaderTerm}`);
    }
    if (leaderTerm < this.raft.term) {
      throw await this.#refused(`term ${leaderTerm} is over, this node is in term ${this.raft.term}`);
    }
    await this.receiver.write(offset, data);
  }

  /** The whole file has arrived: verifies and installs it. */
  async finish(): Promise<InstallSnapshotAnswer> {
    try {
      const staged = await this.receiver.finish();
      const answer = await this.install(this.offer, staged);
      if (answer.outcome !== "installed") await staged.discard();
      return answer;
    } finally {
      this.free();
    }
  }

  /** Gives the transfer up; may be called at any time. */
  async abort(): Promise<void> {
    await this.receiver.abort();
    this.free();
  }

  async #refused(text: string): Promise<CairnError> {
    await this.abort();
    return new CairnError("STALE_TERM", `snapshot up to index ${this.offer.index}: ${text}`);
  }
}
