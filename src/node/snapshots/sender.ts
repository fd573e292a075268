import { CairnError, type CairnErrorCode, hasCode } from "../../base/errors.js";
import { nameOf } from "../../base/ids.js";
import { type InstallChunk, InstallConversation } from "../../peers/install/conversation.js";
import type { InstallReply, SnapshotCompression } from "../../peers/install/install_messages.js";
import type { InstallStream } from "../../peers/transport.js";
import type { SnapshotSend, TransferOutcome } from "../../raft/leader/replication.js";
import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import type { SnapshotStore } from "../../storage/snapshots/snapshot_store.js";
import type { Clock } from "../../system/clock.js";
import type { Logger } from "../../system/logger.js";
import type { Bandwidth } from "./bandwidth.js";
import { deflateChunk } from "./chunk_compression.js";
import type { OutgoingTransfer } from "./send_queue.js";

/** Options for sending one snapshot to one follower. */
export interface TransferSenderOptions {
  readonly id: string;
  readonly snapshots: SnapshotStore;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A transfer without progress for this long is given up, in milliseconds. */
  readonly idleMs: number;
  /** Bytes per chunk. */
  readonly chunkBytes: number;
  /** Bandwidth that all transfers share; undefined: unlimited. */
  readonly bandwidth: Bandwidth | undefined;
  readonly compression: SnapshotCompression | undefined;
  /** Whether the snapshot is still wanted: it may have waited long for its turn. */
  isWanted(send: SnapshotSend): boolean;
  /** Returns the suitable snapshots, best first; empty when there are none. */
  choices(): Promise<readonly SnapshotInfo[]>;
  /** Opens a stream to a peer; undefined when its address is not known. */
  open(to: string): InstallStream | undefined;
}

/** Sends one snapshot to a peer, from the offer to the end. */
export class TransferSender {
  readonly send: SnapshotSend;
  readonly #options: TransferSenderOptions;
  #stream: InstallStream | undefined;
  #cancelled = false;
  /** The offered snapshots; after the receiver's choice, only the chosen one. */
  #offered: readonly SnapshotInfo[] = [];
  #info: SnapshotInfo | undefined;
  #isAccepted = false;
  /** The compression that the receiver has agreed to. */
  #compression: SnapshotCompression | undefined;
  #doneBytes = 0;
  /** Offset and time at which the transfer began. */
  #firstByte = 0;
  #startedMs = 0;
  #cancelIdle: () => void = () => {};
  settled: Promise<unknown> = Promise.resolve();

  /**
   * @param onAccepted called with the receiver's choice: other snapshots that were retained for
   * this receiver are of no use to it
   */
  constructor(
    send: SnapshotSend,
    options: TransferSenderOptions,
    private readonly onAccepted: (info: SnapshotInfo) => void,
  ) {
    this.send = send;
    this.#options = options;
  }

  /** Progress of the transfer. Before it begins, this shows the snapshot that it would send now. */
  get state(): Omit<OutgoingTransfer, "cancel"> | undefined {
    const info = this.#info ?? this.#options.snapshots.newest();
    if (info === undefined) return undefined;
    const { index, fileBytes } = info;
    const ms = this.#isAccepted ? this.#options.clock.now() - this.#startedMs : 0;
    const bytesPerSecond = ms > 0 ? Math.round(((this.#doneBytes - this.#firstByte) * 1_000) / ms) : 0;
    return {
      to: this.send.to,
      index,
      totalBytes: fileBytes,
      doneBytes: this.#doneBytes,
      resumedBytes: this.#firstByte,
      bytesPerSecond,
    };
  }

  /** Lowest index behind which the receiver needs the log; undefined before the offer. */
  get pinnedIndex(): number | undefined {
    return this.#offered.at(-1)?.index;
  }

  /** After a failure: the snapshot of which the receiver may have a part. */
  get interrupted(): SnapshotInfo | undefined {
    return this.#isAccepted ? this.#info : undefined;
  }

  /**
   * Whether the receiver has got a part that it keeps. It keeps nothing of a complete file that was
   * not installed.
   */
  #hasProgressed(failure: CairnErrorCode): boolean {
    if (this.#cancelled || this.#info === undefined || !BROKEN_OFF.has(failure)) return false;
    return this.#doneBytes > this.#firstByte && this.#doneBytes < this.#info.fileBytes;
  }

  /** Ends the transfer; {@link run} then reports a failure. */
  cancel(): void {
    this.#cancelled = true;
    this.#stream?.cancel();
  }

  /** Carries the transfer out. Never rejects. */
  run(): Promise<TransferOutcome> {
    const { logger } = this.#options;
    const running = this.#run().catch((error): TransferOutcome => {
      const { code, text } = CairnError.from(error);
      const facts = { to: nameOf(this.send.to), index: this.#info?.index, reason: text };
      if (!this.#cancelled) logger.warn(facts, "sending a snapshot failed");
      return { kind: "failed", hasProgressed: this.#hasProgressed(code) };
    });
    this.settled = running;
    return running;
  }

  async #run(): Promise<TransferOutcome> {
    const { open } = this.#options;
    if (!this.#options.isWanted(this.send)) throw new CairnError("CANCELLED", "this node does not lead any more");
    const choices = await this.#options.choices();
    if (this.#cancelled) throw new CairnError("CANCELLED", "the transfer was given up before it began");
    if (choices.length === 0) throw new CairnError("NOT_FOUND", "there is no snapshot to send");
    const stream = open(this.send.to);
    if (stream === undefined)
      throw new CairnError("UNREACHABLE", `the address of ${nameOf(this.send.to)} is not known`);
    this.#stream = stream;
    this.#offered = choices;
    this.#info = choices[0];
    let unpin = () => {};
    const conversation = new InstallConversation(stream, (reply) => this.#heard(reply));
    try {
      const accepted = await this.#offer(conversation, choices);
      if ("outcome" in accepted) return accepted.outcome;
      // Not pinned earlier: all offered snapshots would stay on disk while offers wait for answers.
      unpin = this.#pinned(accepted.info);
      this.onAccepted(accepted.info);
      return await this.#sendFile(conversation, accepted.info);
    } catch (error) {
      await this.#findDamage(error);
      throw error;
    } finally {
      this.#cancelIdle();
      stream.cancel();
      unpin();
    }
  }

  #pinned(info: SnapshotInfo): () => void {
    const { snapshots } = this.#options;
    if (snapshots.list().includes(info)) return snapshots.pin(info);
    throw new CairnError("NOT_FOUND", `the snapshot at index ${info.index} has gone since it was offered`);
  }

  /** Makes the offer; returns the receiver's choice, or its refusal. */
  async #offer(conversation: InstallConversation, [info, ...others]: readonly SnapshotInfo[]) {
    const { logger, id, clock, compression } = this.#options;
    const { to, term: leaderTerm } = this.send;
    this.#moved();
    const offer = { from: id, leaderTerm, ...choiceOf(info!), others: others.map(choiceOf), compression };
    const reply = await conversation.offer(offer);
    if (reply.kind === "refused") return { outcome: this.#refused(reply) };
    const wanted = reply.index === undefined ? info : others.find(({ index }) => index === reply.index);
    if (wanted === undefined) throw new CairnError("INTERNAL", `the receiver wants a snapshot at ${reply.index}`);
    this.#offered = [wanted];
    this.#info = wanted;
    this.#isAccepted = true;
    this.#compression = reply.compression;
    this.#doneBytes = this.#firstByte = reply.offset;
    this.#startedMs = clock.now();
    const { index, fileBytes } = wanted;
    logger.info({ to: nameOf(to), index, bytes: fileBytes, from: reply.offset }, "sending a snapshot");
    return { info: wanted };
  }

  async #sendFile(conversation: InstallConversation, info: SnapshotInfo): Promise<TransferOutcome> {
    const reply = await conversation.sendChunks((over) => this.#chunks(info, over));
    return reply.kind === "refused" ? this.#refused(reply) : { kind: "installed", matchIndex: reply.matchIndex };
  }

  async *#chunks(info: SnapshotInfo, over: AbortSignal): AsyncGenerator<InstallChunk> {
    let offset = this.#firstByte;
    for await (const data of this.#options.snapshots.readFile(info, offset, this.#chunkBytes)) {
      yield await this.#chunk(offset, data, over);
      offset += data.byteLength;
      this.#moved();
    }
  }

  async #chunk(offset: number, data: Uint8Array, over: AbortSignal): Promise<InstallChunk> {
    const chunk = { kind: "chunk", leaderTerm: this.send.term, offset } as const;
    const compressed = this.#compression === "deflate" ? await deflateChunk(data) : undefined;
    await this.#options.bandwidth?.take((compressed ?? data).byteLength, over);
    return compressed === undefined ? { ...chunk, data } : { ...chunk, data: compressed, fileBytes: data.byteLength };
  }

  /**
   * Limits a chunk to the bytes of one second, so that a limited bandwidth is used evenly, and
   * waiting for bandwidth never counts as idle time.
   */
  get #chunkBytes(): number {
    const { chunkBytes, bandwidth } = this.#options;
    return Math.min(chunkBytes, bandwidth?.bytesPerSecond ?? chunkBytes);
  }

  #heard(reply: InstallReply): void {
    this.#moved();
    if (reply.kind === "progress" && this.#isAccepted) this.#doneBytes = reply.receivedBytes;
  }

  #refused(reply: InstallReply & { kind: "refused" }): TransferOutcome {
    const { reason, detail, commitIndex } = reply;
    this.#options.logger.info({ to: nameOf(this.send.to), reason, detail }, "a snapshot was refused");
    return reason === "already_committed" ? { kind: "ahead", commitIndex } : { kind: "failed" };
  }

  /**
   * Verifies the file on this node after the receiver has found damaged bytes. The sender does not
   * check the bytes that it sends: if they are damaged on this node's disk, the snapshot must not
   * be sent over and over.
   */
  async #findDamage(error: unknown): Promise<void> {
    const { snapshots } = this.#options;
    const info = this.#info;
    if (!hasCode(error, "CORRUPT") || this.#cancelled || info === undefined) return;
    // The store records the damage that it finds.
    if (snapshots.list().includes(info)) await snapshots.verify(info).catch(() => {});
  }

  /**
   * Restarts the idle timer. The limit is on idle time, not on the duration of the transfer: that
   * would limit the size of the state.
   */
  #moved(): void {
    const { clock, idleMs } = this.#options;
    this.#cancelIdle();
    this.#cancelIdle = clock.after(idleMs, () => this.#stream?.cancel());
  }
}

/** Errors that interrupt a transfer and leave the received part with the receiver. */
const BROKEN_OFF: ReadonlySet<CairnErrorCode> = new Set(["UNREACHABLE", "CORRUPT"]);

function choiceOf({ index, term, fileBytes, sha256 }: SnapshotInfo) {
  return { index, term, fileBytes, sha256 };
}
