import { CairnError, type CairnErrorCode, hasCode } from "../../base/errors.js";
import { nameOf } from "../../base/ids.js";
import { type InstallAnswer, type InstallChunk, InstallConversation } from "../../peers/install/conversation.js";
import type { InstallReply, SnapshotCompression } from "../../peers/install/install_messages.js";
import type { InstallStream } from "../../peers/transport.js";
import type { SnapshotSend, TransferOutcome } from "../../raft/leader/replication.js";
import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import type { SnapshotStore } from "../../storage/snapshots/snapshot_store.js";
import type { Clock } from "../../system/clock.js";
import type { LogFacts } from "../../system/log_fields.js";
import type { Logger } from "../../system/logger.js";
import type { Bandwidth } from "./bandwidth.js";
import { deflateChunk } from "./chunk_compression.js";
import type { OutgoingTransfer } from "./send_queue.js";

/** Options of all transfers. */
export interface TransferOptions {
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
}

/** The owner of a transfer, as the transfer uses it. */
export interface TransferOwner {
  /** Member key of this node. */
  readonly from: string;
  /** Returns the index of the newest membership in this node's log. */
  membershipIndex(): number;
  /** Whether the snapshot is still wanted: it may have waited long for its turn. */
  isWanted(): boolean;
  /** Returns the suitable snapshots, best first; empty when there are none. */
  choices(): Promise<readonly SnapshotInfo[]>;
  /** Opens a stream to the receiver; undefined when its address is not known. */
  open(): InstallStream | undefined;
  /**
   * Called with the receiver's choice: other snapshots that were retained for this receiver are of
   * no use to it.
   */
  accepted(info: SnapshotInfo): void;
}

/** Suitable snapshots, best first. */
type Choices = readonly [SnapshotInfo, ...SnapshotInfo[]];

/** A transfer that the receiver has accepted. */
interface Sending {
  readonly kind: "sending";
  readonly stream: InstallStream;
  /** The receiver's choice. */
  readonly info: SnapshotInfo;
  /** The compression that the receiver has agreed to. */
  readonly compression: SnapshotCompression | undefined;
  /** Offset and time at which the transfer began. */
  readonly firstByte: number;
  readonly startedMs: number;
  /** Bytes that the receiver has, by its own report. */
  doneBytes: number;
}

/** A transfer keeps its last phase when it ends. */
type Phase =
  /** It waits for its turn, or for a snapshot to be taken. */
  | { readonly kind: "waiting" }
  /** The receiver has not answered the offer. */
  | { readonly kind: "offered"; readonly stream: InstallStream; readonly choices: Choices }
  | Sending;

/** Sends one snapshot to a peer, from the offer to the end. */
export class TransferSender {
  #phase: Phase = { kind: "waiting" };
  #cancelled = false;
  #cancelIdle: () => void = () => {};
  settled: Promise<unknown> = Promise.resolve();

  constructor(
    readonly send: SnapshotSend,
    private readonly options: TransferOptions,
    private readonly owner: TransferOwner,
  ) {}

  /** Progress of the transfer. Before it begins, this shows the snapshot that it would send now. */
  get progress(): Omit<OutgoingTransfer, "cancel"> | undefined {
    const info = this.#info ?? this.options.snapshots.newest();
    if (info === undefined) return undefined;
    const { index, fileBytes } = info;
    const begun = { to: this.send.to, index, totalBytes: fileBytes };
    if (this.#phase.kind !== "sending") return { ...begun, doneBytes: 0, resumedBytes: 0, bytesPerSecond: 0 };
    const { doneBytes, firstByte, startedMs } = this.#phase;
    const ms = this.options.clock.now() - startedMs;
    const bytesPerSecond = ms > 0 ? Math.round(((doneBytes - firstByte) * 1_000) / ms) : 0;
    return { ...begun, doneBytes, resumedBytes: firstByte, bytesPerSecond };
  }

  /** Lowest index of the snapshots that the receiver may choose; undefined before the offer. */
  get lowestOffered(): number | undefined {
    const phase = this.#phase;
    return phase.kind === "offered" ? phase.choices.at(-1)!.index : this.#info?.index;
  }

  /** After a failure: the snapshot of which the receiver may have a part. */
  get interrupted(): SnapshotInfo | undefined {
    return this.#phase.kind === "sending" ? this.#phase.info : undefined;
  }

  /** The snapshot that is sent, or the best one on offer. */
  get #info(): SnapshotInfo | undefined {
    const phase = this.#phase;
    if (phase.kind === "waiting") return undefined;
    return phase.kind === "offered" ? phase.choices[0] : phase.info;
  }

  /**
   * Whether the receiver has got a part that it keeps. It keeps nothing of a complete file that was
   * not installed.
   */
  #hasProgressed(failure: CairnErrorCode): boolean {
    if (this.#cancelled || this.#phase.kind !== "sending" || !BROKEN_OFF.has(failure)) return false;
    const { doneBytes, firstByte, info } = this.#phase;
    return doneBytes > firstByte && doneBytes < info.fileBytes;
  }

  /** Ends the transfer; {@link run} then reports a failure. */
  cancel(): void {
    this.#cancelled = true;
    this.#cancelStream();
  }

  #cancelStream(): void {
    if (this.#phase.kind !== "waiting") this.#phase.stream.cancel();
  }

  /** Carries the transfer out. Never rejects. */
  run(): Promise<TransferOutcome> {
    const { logger } = this.options;
    const running = this.#run().catch((error): TransferOutcome => {
      const { code, text } = CairnError.from(error);
      const facts: LogFacts = { peer: nameOf(this.send.to), snapshotIndex: this.#info?.index, reason: text };
      if (!this.#cancelled) logger.warn(facts, "sending a snapshot failed");
      return { kind: "failed", hasProgressed: this.#hasProgressed(code) };
    });
    this.settled = running;
    return running;
  }

  async #run(): Promise<TransferOutcome> {
    const { owner } = this;
    if (!owner.isWanted()) throw new CairnError("CANCELLED", "this node no longer leads");
    const [best, ...others] = await owner.choices();
    if (this.#cancelled) throw new CairnError("CANCELLED", "the transfer was given up before it began");
    if (best === undefined) throw new CairnError("NOT_FOUND", "there is no snapshot to send");
    const stream = owner.open();
    if (stream === undefined)
      throw new CairnError("UNREACHABLE", `the address of ${nameOf(this.send.to)} is not known`);
    const choices: Choices = [best, ...others];
    this.#phase = { kind: "offered", stream, choices };
    let unpin = () => {};
    try {
      const conversation = new InstallConversation(stream, (reply) => this.#heard(reply));
      const answer = await this.#offer(conversation, choices);
      if (answer.kind === "refused") return this.#refused(answer);
      const sending = this.#accepted(answer, stream, choices);
      this.#phase = sending;
      // Not pinned earlier: all offered snapshots would stay on disk while offers wait for answers.
      unpin = this.#pinned(sending.info);
      owner.accepted(sending.info);
      return await this.#sendFile(conversation, sending);
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
    const { snapshots } = this.options;
    if (snapshots.list().includes(info)) return snapshots.pin(info);
    throw new CairnError("NOT_FOUND", `the snapshot at index ${info.index} was removed after it was offered`);
  }

  /** Makes the offer, and returns the answer to it. */
  #offer(conversation: InstallConversation, [info, ...others]: Choices): Promise<InstallAnswer> {
    this.#moved();
    return conversation.offer({
      from: this.owner.from,
      leaderTerm: this.send.term,
      membershipIndex: this.owner.membershipIndex(),
      ...choiceOf(info),
      others: others.map(choiceOf),
      compression: this.options.compression,
    });
  }

  /** Returns the transfer of the receiver's choice. */
  #accepted(
    reply: Extract<InstallAnswer, { readonly kind: "accepted" }>,
    stream: InstallStream,
    [info, ...others]: Choices,
  ): Sending {
    const { logger, clock } = this.options;
    const { offset, compression } = reply;
    const wanted = reply.index === undefined ? info : others.find(({ index }) => index === reply.index);
    if (wanted === undefined) throw new CairnError("INTERNAL", `the receiver wants a snapshot at ${reply.index}`);
    const { index, fileBytes } = wanted;
    const facts: LogFacts = {
      peer: nameOf(this.send.to),
      snapshotIndex: index,
      totalBytes: fileBytes,
      doneBytes: offset,
    };
    logger.info(facts, "sending a snapshot");
    const startedMs = clock.now();
    return { kind: "sending", stream, info: wanted, compression, firstByte: offset, doneBytes: offset, startedMs };
  }

  async #sendFile(conversation: InstallConversation, sending: Sending): Promise<TransferOutcome> {
    const reply = await conversation.sendChunks((over) => this.#chunks(sending, over));
    return reply.kind === "refused" ? this.#refused(reply) : { kind: "installed", matchIndex: reply.matchIndex };
  }

  async *#chunks(sending: Sending, over: AbortSignal): AsyncGenerator<InstallChunk> {
    const { info, firstByte } = sending;
    let offset = firstByte;
    for await (const data of this.options.snapshots.readFile(info, firstByte, this.#chunkBytes)) {
      yield await this.#chunk(sending, offset, data, over);
      offset += data.byteLength;
      this.#moved();
    }
  }

  async #chunk({ compression }: Sending, offset: number, data: Uint8Array, over: AbortSignal): Promise<InstallChunk> {
    const chunk = { kind: "chunk", leaderTerm: this.send.term, offset } as const;
    const compressed = compression === "deflate" ? await deflateChunk(data) : undefined;
    await this.options.bandwidth?.take((compressed ?? data).byteLength, over);
    return compressed === undefined ? { ...chunk, data } : { ...chunk, data: compressed, fileBytes: data.byteLength };
  }

  /**
   * Limits a chunk to the bytes of one second, so that a limited bandwidth is used evenly, and
   * waiting for bandwidth never counts as idle time.
   */
  get #chunkBytes(): number {
    const { chunkBytes, bandwidth } = this.options;
    return Math.min(chunkBytes, bandwidth?.bytesPerSecond ?? chunkBytes);
  }

  #heard(reply: InstallReply): void {
    this.#moved();
    if (reply.kind === "progress" && this.#phase.kind === "sending") this.#phase.doneBytes = reply.receivedBytes;
  }

  #refused(reply: InstallReply & { kind: "refused" }): TransferOutcome {
    const { reason, detail, commitIndex } = reply;
    this.options.logger.info({ peer: nameOf(this.send.to), reason, detail }, "a snapshot was refused");
    return reason === "already_committed" ? { kind: "ahead", commitIndex } : { kind: "failed" };
  }

  /**
   * Verifies the file on this node after the receiver has found damaged bytes. The sender does not
   * check the bytes that it sends: if they are damaged on this node's disk, the snapshot must not
   * be sent over and over.
   */
  async #findDamage(error: unknown): Promise<void> {
    const { snapshots } = this.options;
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
    const { clock, idleMs } = this.options;
    this.#cancelIdle();
    this.#cancelIdle = clock.after(idleMs, () => this.#cancelStream());
  }
}

/** Errors that interrupt a transfer and leave the received part with the receiver. */
const BROKEN_OFF: ReadonlySet<CairnErrorCode> = new Set(["UNREACHABLE", "CORRUPT"]);

function choiceOf({ index, term, fileBytes, sha256 }: SnapshotInfo) {
  return { index, term, fileBytes, sha256 };
}
