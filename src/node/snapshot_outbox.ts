import { limits } from "../core/limits.js";
import type { SnapshotOutcome, SnapshotSend } from "../core/replication.js";
import { CairnError, hasCode } from "../errors.js";
import type { SnapshotInfo } from "../storage/snapshots/snapshot_info.js";
import type { SnapshotStore } from "../storage/snapshots/snapshot_store.js";
import type { InstallReply } from "../transport/install_messages.js";
import type { InstallStream } from "../transport/transport.js";
import type { Clock } from "./clock.js";
import type { Logger } from "./logger.js";

export interface SnapshotOutboxOptions {
  readonly id: string;
  readonly snapshots: SnapshotStore;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A transfer in which nothing moves for so long is given up, in milliseconds. */
  readonly idleMs: number;
  /** Bytes of a chunk. */
  readonly chunkBytes: number;
  /** The snapshot to send; undefined when there is none. */
  newest(): Promise<SnapshotInfo | undefined>;
  /** Opens a stream to a peer; undefined when its address is not known. */
  open(to: string): InstallStream | undefined;
  /** A transfer has ended. */
  ended(send: SnapshotSend, outcome: SnapshotOutcome): void;
}

/** A snapshot on its way to a peer. */
export interface OutgoingTransfer {
  readonly to: string;
  readonly index: number;
  readonly totalBytes: number;
  /** Bytes that the peer has, as it has told. */
  readonly doneBytes: number;
  /** How many of them it got in a second, since the transfer began; 0 at the very beginning. */
  readonly bytesPerSecond: number;
}

/** Sends snapshots to followers, at most one to each. */
export class SnapshotOutbox {
  readonly #transfers = new Map<string, Transfer>();
  #stopped = false;

  constructor(private readonly options: SnapshotOutboxOptions) {}

  /** Sends the newest snapshot, in place of one that is on its way there. */
  send(send: SnapshotSend): void {
    if (this.#stopped) return;
    this.#transfers.get(send.to)?.cancel();
    const transfer = new Transfer(send, this.options);
    this.#transfers.set(send.to, transfer);
    void transfer.run().then((outcome) => {
      // The end of one that another has taken the place of says nothing about that one.
      if (this.#transfers.get(send.to) !== transfer) return;
      this.#transfers.delete(send.to);
      if (!this.#stopped) this.options.ended(send, outcome);
    });
  }

  list(): OutgoingTransfer[] {
    return [...this.#transfers.values()].flatMap((transfer) => transfer.state ?? []);
  }

  /** Their receivers need the log from behind this index on; undefined when nothing is on its way. */
  get lowestIndex(): number | undefined {
    const indexes = this.list().map(({ index }) => index);
    return indexes.length === 0 ? undefined : Math.min(...indexes);
  }

  /** Ends all transfers, and waits until nothing is read any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const transfers = [...this.#transfers.values()];
    for (const transfer of transfers) transfer.cancel();
    await Promise.all(transfers.map((transfer) => transfer.settled));
  }
}

class Transfer {
  readonly #send: SnapshotSend;
  readonly #options: SnapshotOutboxOptions;
  #stream: InstallStream | undefined;
  #cancelled = false;
  #info: SnapshotInfo | undefined;
  #doneBytes = 0;
  /** Where the transfer has begun, and when. */
  #firstByte = 0;
  #startedMs = 0;
  #cancelIdle: () => void = () => {};
  settled: Promise<unknown> = Promise.resolve();

  constructor(send: SnapshotSend, options: SnapshotOutboxOptions) {
    this.#send = send;
    this.#options = options;
  }

  get state(): OutgoingTransfer | undefined {
    if (this.#info === undefined) return undefined;
    const { index, fileBytes } = this.#info;
    const ms = this.#options.clock.now() - this.#startedMs;
    const bytesPerSecond = ms > 0 ? Math.round(((this.#doneBytes - this.#firstByte) * 1_000) / ms) : 0;
    return { to: this.#send.to, index, totalBytes: fileBytes, doneBytes: this.#doneBytes, bytesPerSecond };
  }

  /** Ends it; {@link run} says that it has failed. */
  cancel(): void {
    this.#cancelled = true;
    this.#stream?.cancel();
  }

  /** Never rejects. */
  run(): Promise<SnapshotOutcome> {
    const { logger } = this.#options;
    const running = this.#run().catch((error): SnapshotOutcome => {
      const facts = { to: this.#send.to, index: this.#info?.index, reason: CairnError.from(error).text };
      if (!this.#cancelled) logger.warn(facts, "sending a snapshot failed");
      return { kind: "failed" };
    });
    this.settled = running;
    return running;
  }

  async #run(): Promise<SnapshotOutcome> {
    const { snapshots, open, logger } = this.#options;
    const info = await this.#options.newest();
    if (this.#cancelled) throw new CairnError("CANCELLED", "the transfer was given up before it began");
    if (info === undefined) throw new CairnError("NOT_FOUND", "there is no snapshot to send");
    const stream = open(this.#send.to);
    if (stream === undefined) throw new CairnError("UNREACHABLE", `the address of ${this.#send.to} is not known`);
    this.#stream = stream;
    this.#info = info;
    this.#startedMs = this.#options.clock.now();
    const unpin = snapshots.pin(info);
    try {
      logger.info({ to: this.#send.to, index: info.index, bytes: info.fileBytes }, "sending a snapshot");
      return await this.#converse(stream, info);
    } finally {
      this.#cancelIdle();
      stream.cancel();
      unpin();
    }
  }

  async #converse(stream: InstallStream, info: SnapshotInfo): Promise<SnapshotOutcome> {
    const { index, term, fileBytes, sha256 } = info;
    const replies = stream.replies[Symbol.asyncIterator]();
    this.#moved();
    const offer = { from: this.#options.id, leaderTerm: this.#send.term, index, term, fileBytes, sha256 };
    await stream.send({ kind: "offer", ...offer });
    const first = await this.#next(replies);
    if (first.kind === "refused") return this.#refused(first);
    if (first.kind !== "accepted") throw unexpected(first);
    this.#doneBytes = this.#firstByte = first.offset;
    // The replies are read while the chunks are sent: the receiver may end the transfer at any time.
    const ended = this.#untilEnd(replies);
    const sent = this.#sendChunks(stream, info, first.offset);
    sent.catch(() => {});
    // When sending fails, the replies say why.
    const outcome = await ended;
    stream.cancel();
    await sent.catch(() => {});
    return outcome;
  }

  async #sendChunks(stream: InstallStream, info: SnapshotInfo, from: number): Promise<void> {
    const { snapshots, chunkBytes } = this.#options;
    let offset = from;
    try {
      for await (const data of snapshots.readFile(info, from, chunkBytes)) {
        await stream.send({ kind: "chunk", leaderTerm: this.#send.term, offset, data });
        offset += data.byteLength;
        this.#moved();
      }
    } catch (error) {
      // A file that is damaged or gone: the receiver must not wait for the rest of it.
      if (hasCode(error, "CORRUPT") || hasCode(error, "NOT_FOUND")) stream.cancel();
      throw error;
    }
  }

  async #untilEnd(replies: AsyncIterator<InstallReply>): Promise<SnapshotOutcome> {
    for (;;) {
      const reply = await this.#next(replies);
      if (reply.kind === "installed") return { kind: "installed", matchIndex: reply.matchIndex };
      if (reply.kind === "refused") return this.#refused(reply);
      if (reply.kind !== "progress") throw unexpected(reply);
      this.#doneBytes = reply.receivedBytes;
    }
  }

  async #next(replies: AsyncIterator<InstallReply>): Promise<InstallReply> {
    const { done, value } = await replies.next();
    if (done === true) throw new CairnError("UNREACHABLE", "the receiver ended the stream without an answer");
    this.#moved();
    return value;
  }

  #refused(reply: InstallReply & { kind: "refused" }): SnapshotOutcome {
    const { reason, detail, commitIndex } = reply;
    this.#options.logger.info({ to: this.#send.to, reason, detail }, "a snapshot was refused");
    return reason === "already_committed" ? { kind: "ahead", commitIndex } : { kind: "failed" };
  }

  /** The limit is on standing still, not on the whole: else it would limit the size of the state. */
  #moved(): void {
    const { clock, idleMs } = this.#options;
    this.#cancelIdle();
    this.#cancelIdle = clock.after(idleMs, () => this.#stream?.cancel());
  }
}

function unexpected(reply: InstallReply): CairnError {
  return new CairnError("INTERNAL", `the receiver of a snapshot answered ${reply.kind} out of turn`);
}

/** Chunk of a snapshot as it is sent. */
export const defaultChunkBytes = limits.snapshotChunkBytes;
