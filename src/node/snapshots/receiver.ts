import { CairnError, hasCode } from "../../base/errors.js";
import type { InstallChoice, InstallOffer, OfferRefusal } from "../../peers/install/install_messages.js";
import { type InstallSnapshotAnswer, leaderTermProblem } from "../../raft/messages.js";
import type { SnapshotReceiver } from "../../storage/snapshots/receiver.js";
import type { SnapshotStore } from "../../storage/snapshots/snapshot_store.js";
import type { StagedSnapshot } from "../../storage/snapshots/staged_snapshot.js";
import type { CoreView, NodeHost } from "../host.js";
import type { ProtocolWatch } from "../protocol_watch.js";
import type { PeerRequests } from "../requests/peer_requests.js";
import { checkSender } from "../requests/refusals.js";

/** The parts of a node that its receiver of snapshots uses. */
export interface ReceivingParts {
  readonly host: Pick<NodeHost, "raft" | "ending">;
  /** Makes a received snapshot the node's state. */
  readonly requests: Pick<PeerRequests, "install">;
  /** Counts messages that no correct member sends. */
  readonly protocol: Pick<ProtocolWatch, "violated" | "strange">;
}

/** A snapshot on its way to this node. */
export interface IncomingTransfer {
  readonly from: string;
  readonly index: number;
  readonly totalBytes: number;
  /** Bytes received so far. */
  readonly doneBytes: number;
  /** Bytes of these that were there when the transfer began. */
  readonly resumedBytes: number;
}

/** A transfer that is about to begin, while the part file of an earlier one is verified. */
interface Opening {
  readonly offer: InstallOffer;
  readonly abort: AbortController;
  /** Never rejects. */
  readonly settled: Promise<unknown>;
}

/**
 * Receives snapshots from leaders, one at a time. A transfer from the leader of an older term gives
 * way to a newer leader's: the older sender may hang for ever. When a transfer ends early, the
 * received part is kept.
 */
export class TransferReceiver {
  readonly #raft: CoreView;
  #opening: Opening | undefined;
  #current: IncomingSnapshot | undefined;
  #stopped = false;

  constructor(
    private readonly snapshots: SnapshotStore,
    private readonly node: ReceivingParts,
  ) {
    this.#raft = node.host.raft;
  }

  /** The transfer that is under way. */
  get transfer(): IncomingTransfer | undefined {
    const offer = this.#current?.offer ?? this.#opening?.offer;
    if (offer === undefined) return undefined;
    const { from, index, fileBytes } = offer;
    const { offset = 0, resumedBytes = 0 } = this.#current ?? {};
    return { from, index, totalBytes: fileBytes, doneBytes: offset, resumedBytes };
  }

  /**
   * Returns the transfer, which knows its first offset, or the refusal. The part file of an earlier
   * transfer is verified first, unless the signal ends that.
   * @throws CairnError INVALID_ARGUMENT for an offer that no file can fulfil, FAILED_PRECONDITION
   * for an offer of a member that cannot be the leader, before the file is sent in vain; CANCELLED;
   * STOPPED
   */
  async accept(offer: InstallOffer, signal?: AbortSignal): Promise<IncomingSnapshot | OfferRefusal> {
    this.#assertRunning();
    this.#checkSender(offer);
    const refusal = this.#refusal(offer);
    if (refusal === undefined) return this.#open(offer, signal);
    if (refusal.reason !== "busy" || !(await this.#makesWay(offer))) return refusal;
    // The node's state may have changed meanwhile, so check again.
    return this.accept(offer, signal);
  }

  /**
   * Ends the transfer under way for an operator, and tells its sender. The received part is kept.
   * `transfer` names the transfer to end.
   * @throws CairnError NOT_FOUND when it is no longer under way; FAILED_PRECONDITION when it is
   * being installed: that cannot be undone
   */
  async cancel({ from, index }: Pick<IncomingTransfer, "from" | "index">): Promise<void> {
    const { transfer } = this;
    if (transfer?.from !== from || transfer.index !== index) {
      throw new CairnError("NOT_FOUND", `no snapshot up to index ${index} is being received from ${from}`);
    }
    if (this.#current === undefined) return this.#opening?.abort.abort(CANCELLED);
    if (await this.#current.cancel()) return;
    throw new CairnError("FAILED_PRECONDITION", `the snapshot up to index ${index} is whole, and is being installed`);
  }

  /** Ends the transfer under way and accepts no more. Returns when no write is pending. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#opening?.abort.abort();
    await this.#opening?.settled;
    await this.#current?.abort();
  }

  #checkSender(offer: InstallOffer): void {
    const { from, leaderTerm: term, membershipIndex, others = [] } = offer;
    checkSender(from);
    const problem = leaderTermProblem(term);
    if (problem !== undefined) {
      this.node.protocol.violated(offer, problem);
      throw new CairnError("INVALID_ARGUMENT", problem);
    }
    const index = Math.max(offer.index, ...others.map((other) => other.index));
    const fault = this.#raft.faultOf({ type: "install_snapshot", from, term, membershipIndex, index });
    if (fault === undefined) return;
    if (fault.kind === "stranger") this.node.protocol.strange(offer, fault.detail);
    else this.node.protocol.violated(offer, fault.detail);
    throw new CairnError("FAILED_PRECONDITION", fault.detail);
  }

  #refusal(offer: InstallOffer): OfferRefusal | undefined {
    const { term, log } = this.#raft;
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

  /** Ends the transfer under way if it is an older leader's. Returns whether it has ended. */
  async #makesWay(offer: InstallOffer): Promise<boolean> {
    const present = this.#current?.offer ?? this.#opening?.offer;
    if (present === undefined || present.leaderTerm >= offer.leaderTerm) return false;
    if (this.#current !== undefined) return this.#current.giveWay();
    this.#opening?.abort.abort();
    await this.#opening?.settled;
    return true;
  }

  async #open(offer: InstallOffer, given: AbortSignal | undefined): Promise<IncomingSnapshot | OfferRefusal> {
    const abort = new AbortController();
    const signal = given === undefined ? abort.signal : AbortSignal.any([abort.signal, given]);
    const receiving = this.node.host.ending.watch(this.#receive(offer, signal));
    this.#opening = { offer, abort, settled: receiving.catch(() => {}) };
    let incoming: IncomingSnapshot;
    try {
      const { chosen, receiver } = await receiving;
      incoming = new IncomingSnapshot(chosen, receiver, this.node, (ended) => {
        if (this.#current === ended) this.#current = undefined;
      });
      this.#current = incoming;
    } catch (error) {
      if (hasCode(error, "DISK_FULL")) return { reason: "no_space", detail: error.text };
      this.#assertRunning();
      if (abort.signal.reason === CANCELLED) return CANCELLED;
      throw error;
    } finally {
      this.#opening = undefined;
    }
    if (this.#stopped) await incoming.abort();
    this.#assertRunning();
    return incoming;
  }

  async #receive(
    offer: InstallOffer,
    signal: AbortSignal,
  ): Promise<{ readonly chosen: InstallOffer; readonly receiver: SnapshotReceiver }> {
    const chosen = { ...offer, ...(await this.#choose(offer)) };
    return { chosen, receiver: await this.snapshots.receive(chosen, { signal }) };
  }

  /**
   * Returns the snapshot that lacks the fewest bytes here: the offered one, or one of the others
   * whose part file is on disk.
   */
  async #choose({ others = [], ...offered }: InstallOffer): Promise<InstallChoice> {
    let best: InstallChoice = offered;
    let missing = offered.fileBytes - (await this.snapshots.receivedBytes(offered));
    for (const other of others) {
      const there = other.index > this.#raft.log.commit ? await this.snapshots.receivedBytes(other) : 0;
      if (there === 0 || other.fileBytes - there >= missing) continue;
      best = other;
      missing = other.fileBytes - there;
    }
    return best;
  }

  #assertRunning(): void {
    if (this.#stopped) throw new CairnError("STOPPED", "the node accepts no more snapshots: it is stopping");
  }
}

/**
 * A snapshot that is arriving. End it with {@link finish} or {@link abort}; any error ends it too.
 */
export class IncomingSnapshot {
  /** Bytes that were on disk from an earlier transfer. */
  readonly resumedBytes: number;
  #finishing: Promise<InstallSnapshotAnswer> | undefined;
  #isCancelled = false;
  #onCancel: () => void = () => {};

  constructor(
    readonly offer: InstallOffer,
    private readonly receiver: SnapshotReceiver,
    private readonly node: ReceivingParts,
    private readonly onEnd: (ended: IncomingSnapshot) => void,
  ) {
    this.resumedBytes = receiver.offset;
  }

  /** Bytes of the file received so far. */
  get offset(): number {
    return this.receiver.offset;
  }

  /** Whether an operator has ended it. */
  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  get isWhole(): boolean {
    return this.offset === this.offer.fileBytes;
  }

  /**
   * Writes the next bytes, sent in `leaderTerm`.
   * @throws CairnError STALE_TERM when that is not the offer's term or a newer term has begun (R7);
   * INVALID_ARGUMENT, CORRUPT, WRONG_CLUSTER or DISK_FULL as the receiver; CANCELLED when the
   * transfer was ended
   */
  async write(leaderTerm: number, offset: number, data: Uint8Array): Promise<void> {
    if (leaderTerm !== this.offer.leaderTerm) {
      throw await this.#refused(`chunk of term ${leaderTerm} in a transfer of term ${this.offer.leaderTerm}`);
    }
    const { term } = this.node.host.raft;
    if (leaderTerm < term) {
      throw await this.#refused(`term ${leaderTerm} is over, this node is in term ${term}`);
    }
    try {
      await this.#judged(this.receiver.write(offset, data));
    } catch (error) {
      await this.abort();
      throw error;
    }
  }

  /** Verifies and installs the file, which has arrived completely. */
  finish(): Promise<InstallSnapshotAnswer> {
    this.#finishing ??= this.#finish();
    return this.#finishing;
  }

  /**
   * Ends the transfer; may be called at any time. Waits for {@link finish} if that has begun: it
   * cannot be undone.
   */
  async abort(): Promise<void> {
    await this.giveWay();
    await this.#finishing?.catch(() => {});
  }

  /** Ends the transfer, unless it is being installed already. Returns whether it has ended. */
  async giveWay(): Promise<boolean> {
    if (this.#finishing !== undefined) return false;
    await this.receiver.abort();
    this.onEnd(this);
    return true;
  }

  /** Ends the transfer for an operator, as {@link giveWay}. */
  async cancel(): Promise<boolean> {
    if (this.#finishing !== undefined) return false;
    this.#isCancelled = true;
    await this.giveWay();
    this.#onCancel();
    return true;
  }

  /**
   * Calls `run` when an operator ends the transfer; at once if that has happened. Replaces the
   * function of an earlier call.
   */
  onCancel(run: () => void): void {
    this.#onCancel = run;
    if (this.#isCancelled) run();
  }

  async #finish(): Promise<InstallSnapshotAnswer> {
    let staged: StagedSnapshot | undefined;
    try {
      staged = await this.#judged(this.receiver.finish());
      const answer = await this.node.requests.install(this.offer, staged);
      // The next leader will offer it again.
      if (answer.outcome === "stale_term") await staged.keep();
      return answer;
    } catch (error) {
      if (hasCode(error, "STOPPED")) await staged?.keep();
      throw error;
    } finally {
      // Does nothing to a snapshot that was installed or kept.
      await staged?.discard();
      this.onEnd(this);
    }
  }

  /** Reports a bad file to this node's operator (T5). The error also reaches the sender. */
  async #judged<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await this.node.host.ending.watch(work);
    } catch (error) {
      const isBad = hasCode(error, "CORRUPT") || hasCode(error, "INVALID_ARGUMENT") || hasCode(error, "WRONG_CLUSTER");
      if (isBad) this.node.protocol.violated(this.offer, error.text);
      throw error;
    }
  }

  async #refused(text: string): Promise<CairnError> {
    await this.abort();
    return new CairnError("STALE_TERM", `snapshot up to index ${this.offer.index}: ${text}`);
  }
}

/** The refusal that the sender gets when an operator has ended its transfer. */
export const CANCELLED: OfferRefusal = {
  reason: "cancelled",
  detail: "an operator of the receiving node has ended the transfer; what was received is kept",
};
