import { assert } from "../../base/assert.js";
import { limits } from "../../base/limits.js";
import { sentError } from "../../base/sent_error.js";
import { type EncodedHeader, encodeFile, type SnapshotMeasure } from "../../encoding/snapshot_file.js";
import { encodePayload } from "../kv/payload.js";
import type { KeyEntry } from "../kv/record_store.js";
import { damagedState, StateDigest } from "../lmdb/checksums.js";
import { LmdbEnvironment, type LmdbSnapshot } from "../lmdb/environment.js";
import type { StateMark } from "../lmdb/mark.js";
import { BufferPool } from "./buffer_pool.js";
import type { TaskRequest } from "./messages.js";
import type { SendReply, ServedTask } from "./served_task.js";

/**
 * A captured state on the worker's side: an open environment, and a read transaction, until it is
 * released.
 */
export class ServedView implements ServedTask {
  readonly #pool = new BufferPool(limits.workerBuffers, limits.snapshotWriteBytes);
  #reading: Promise<void> = Promise.resolve();

  private constructor(
    private readonly mark: StateMark,
    private readonly environment: LmdbEnvironment,
    private readonly snapshot: LmdbSnapshot,
    private readonly reply: SendReply,
  ) {}

  /** Captures the state in an environment that the main thread has open. */
  static open({ path }: TaskRequest & { type: "capture" }, reply: SendReply): ServedView {
    const environment = LmdbEnvironment.openShared(path);
    try {
      const snapshot = environment.snapshot();
      // Read in the same transaction as the state: entries that are applied meanwhile do not count
      // (etcd#13973).
      const { mark } = snapshot;
      assert(mark !== undefined, "an open state has an applied position", { path });
      reply({ type: "captured", at: { index: mark.index, term: mark.term } });
      return new ServedView(mark, environment, snapshot, reply);
    } catch (error) {
      void environment.close();
      throw error;
    }
  }

  handle(request: TaskRequest): void {
    if (request.type === "read") this.#reading = this.#read(request.header).catch((error) => this.#fail(error));
    else if (request.type === "taken") this.#pool.put(request.buffer);
  }

  /** Ends the transaction, so that the pages that it kept may be reused. */
  async release(): Promise<void> {
    this.#pool.close();
    await this.#reading;
    this.snapshot.close();
    await this.environment.close();
  }

  #fail(error: unknown): void {
    // After a release nobody listens.
    if (!this.#pool.isClosed) this.reply({ type: "failed", error: sentError(error) });
  }

  /**
   * Sends the payload or, with a header, the whole snapshot file, as far as there are buffers;
   * resumes as they come back.
   */
  async #read(header: EncodedHeader | undefined): Promise<void> {
    const payload = this.#payload();
    const measure = await this.#send(header === undefined ? withoutMeasure(payload) : encodeFile(header, payload));
    this.reply({ type: "end", measure });
  }

  /**
   * Yields the payload. Throws CairnError CORRUPT, at the end at the latest, when the state differs
   * from the one that was written.
   */
  async *#payload(): AsyncGenerator<Uint8Array, void, undefined> {
    const { transaction, sessions, leases, effects } = this.snapshot;
    const walked = new StateDigest();
    yield* encodePayload(this.mark, {
      leases: () => leases.entries(transaction, walked.leases),
      keys: () => this.#keys(walked),
      sessionsHead: sessions.head(transaction),
      sessions: () => sessions.entries(transaction, walked),
    });
    effects.walk(transaction, walked.effects);
    const difference = this.mark.digest.difference(walked);
    if (difference !== undefined) throw damagedState(difference);
  }

  /** Yields the keys. Counts their rows, and the rows that the index of the leases must have. */
  *#keys(walked: StateDigest): Generator<KeyEntry, void, undefined> {
    const { records, leases, transaction } = this.snapshot;
    for (const entry of records.entries(transaction, NO_BYTES, NO_BYTES, walked.keys)) {
      if (entry.lease !== undefined) leases.countKey(entry.lease, entry.key, walked.leaseKeys);
      yield entry;
    }
  }

  /**
   * Fills one buffer after the other, and sends each when it is full. Waits for buffers that are on
   * their way.
   */
  async #send<Measure>(pieces: AsyncGenerator<Uint8Array, Measure, void>): Promise<Measure> {
    let block = new Uint8Array(await this.#pool.take());
    let filled = 0;
    try {
      for (;;) {
        const step = await pieces.next();
        if (step.done) {
          this.#sendBlock(block, filled);
          return step.value;
        }
        for (let rest = step.value; rest.byteLength > 0; ) {
          const taken = Math.min(rest.byteLength, block.byteLength - filled);
          block.set(rest.subarray(0, taken), filled);
          filled += taken;
          rest = rest.subarray(taken);
          if (filled < block.byteLength) continue;
          this.#sendBlock(block, filled);
          block = new Uint8Array(await this.#pool.take());
          filled = 0;
        }
      }
    } catch (error) {
      // Closes the cursors, which must not outlive their transaction.
      await pieces.throw(error).catch(() => undefined);
      throw error;
    }
  }

  #sendBlock({ buffer }: Uint8Array<ArrayBuffer>, bytes: number): void {
    if (bytes > 0) this.reply({ type: "piece", buffer, bytes }, [buffer]);
  }
}

const NO_BYTES = new Uint8Array(0);

async function* withoutMeasure(
  pieces: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, SnapshotMeasure | undefined, void> {
  yield* pieces;
  return undefined;
}
