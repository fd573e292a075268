import { assert } from "../core/invariants.js";
import type { LogPosition } from "../core/types.js";
import { CairnError } from "../errors.js";
import type { EncodedHeader, SnapshotMeasure } from "../storage/snapshots/file_encoder.js";
import { encodeHeader, type SnapshotHeader } from "../storage/snapshots/header.js";
import type { StateView } from "./state_machine.js";
import { receivedError, type ViewReply } from "./view_messages.js";
import type { ViewClient, ViewThread } from "./view_thread.js";

/** A captured state that a worker thread reads. */
export class WorkerView implements StateView, ViewClient {
  /** Resolves when the worker has nothing of it open any more. */
  readonly ended: Promise<void>;
  readonly #number: number;
  #at: LogPosition | undefined;
  #isRead = false;
  #failure: Error | undefined;
  /** Answers that nobody has asked for yet. */
  readonly #replies: ViewReply[] = [];
  #waiter: { resolve(reply: ViewReply): void; reject(error: Error): void } | undefined;
  #markEnded: () => void = () => {};

  /** Has the state in the environment at `path` captured. It is a view once {@link captured} resolves. */
  constructor(
    private readonly thread: ViewThread,
    path: string,
  ) {
    this.ended = new Promise((resolve) => {
      this.#markEnded = resolve;
    });
    this.#number = thread.add(this);
    thread.post({ type: "capture", view: this.#number, path });
  }

  /** When it fails, the view has been released. */
  async captured(): Promise<void> {
    try {
      const reply = await this.#next();
      assert(reply.type === "captured", "a capture is answered by a position", { type: reply.type });
      this.#at = reply.at;
    } catch (error) {
      this.release();
      throw error;
    }
  }

  get appliedIndex(): number {
    return this.#at!.index;
  }

  /** Term of the entry at {@link appliedIndex}. */
  get appliedTerm(): number {
    return this.#at!.term;
  }

  payload(): AsyncIterable<Uint8Array> {
    return this.#read(undefined);
  }

  snapshotFile(header: SnapshotHeader): AsyncGenerator<Uint8Array, SnapshotMeasure, void> {
    const encoded = { bytes: encodeHeader(header), chunkBytes: header.chunkBytes };
    return this.#read(encoded) as AsyncGenerator<Uint8Array, SnapshotMeasure, void>;
  }

  release(): void {
    this.fail(new CairnError("FAILED_PRECONDITION", "the view of the state was released while it was read"));
  }

  /** Releases the view; who reads it gets the error. */
  fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#end(error);
    this.thread.post({ type: "release", view: this.#number });
  }

  abandon(error: Error): void {
    this.#end(error);
    this.#released();
  }

  /** Waits until it has ended, which must be under way. */
  settled(): Promise<void> {
    return this.thread.wait(this.ended);
  }

  deliver(reply: ViewReply): void {
    if (reply.type === "released") {
      this.#released();
      return;
    }
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter === undefined) this.#replies.push(reply);
    else waiter.resolve(reply);
  }

  #read(header: EncodedHeader | undefined): AsyncGenerator<Uint8Array, SnapshotMeasure | undefined, void> {
    if (this.#failure !== undefined) throw this.#failure;
    assert(!this.#isRead, "a view's payload is read once", { appliedIndex: this.appliedIndex });
    this.#isRead = true;
    return this.#pieces(header);
  }

  async *#pieces(header: EncodedHeader | undefined): AsyncGenerator<Uint8Array, SnapshotMeasure | undefined, void> {
    const view = this.#number;
    this.thread.post({ type: "read", view, header });
    for (;;) {
      const reply = await this.#next();
      if (reply.type === "end") return reply.measure;
      assert(reply.type === "piece", "a reading is answered by pieces and an end", { type: reply.type });
      yield new Uint8Array(reply.buffer, 0, reply.bytes);
      this.thread.post({ type: "used", view, buffer: reply.buffer }, [reply.buffer]);
    }
  }

  /** The next answer. Throws what has ended the view, or what the worker has failed with. */
  async #next(): Promise<ViewReply> {
    if (this.#failure !== undefined) throw this.#failure;
    const reply = this.#replies.shift() ?? (await this.thread.wait(this.#arrival()));
    if (reply.type === "failed") throw receivedError(reply.error);
    return reply;
  }

  #arrival(): Promise<ViewReply> {
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
  }

  #end(error: Error): void {
    this.#failure ??= error;
    this.#replies.length = 0;
    this.#waiter?.reject(this.#failure);
    this.#waiter = undefined;
  }

  /** The worker has nothing open any more. */
  #released(): void {
    this.thread.remove(this.#number);
    this.#markEnded();
  }
}
