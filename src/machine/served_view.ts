import { assert } from "../core/invariants.js";
import { limits } from "../core/limits.js";
import type { LogPosition } from "../core/types.js";
import { type EncodedHeader, encodeFile, type SnapshotMeasure } from "../storage/snapshots/file_encoder.js";
import { BufferPool } from "./buffer_pool.js";
import { LmdbEnvironment, type LmdbSnapshot } from "./lmdb_environment.js";
import { encodePayload } from "./payload.js";
import { sentError, type ViewReply } from "./view_messages.js";

/** Sends an answer to the main thread; the buffers go with it. */
type Reply = (message: ViewReply, transferred?: readonly ArrayBuffer[]) => void;

/** A captured state as the worker has it: an environment that is open, and a read transaction, until it is released. */
export class ServedView {
  readonly #pool = new BufferPool(limits.viewBuffers, limits.snapshotWriteBytes);
  #reading: Promise<void> = Promise.resolve();

  private constructor(
    private readonly view: number,
    readonly at: LogPosition,
    private readonly environment: LmdbEnvironment,
    private readonly snapshot: LmdbSnapshot,
    private readonly reply: Reply,
  ) {}

  /** Captures the state in the environment at `path`, which the main thread has open. */
  static open(view: number, path: string, reply: Reply): ServedView {
    const environment = LmdbEnvironment.openShared(path);
    try {
      const snapshot = environment.snapshot();
      // Read in the transaction whose state it is about: what is applied meanwhile does not count (etcd#13973).
      const at = environment.readApplied(snapshot.transaction);
      assert(at !== undefined, "an open state has an applied position", { path });
      return new ServedView(view, at, environment, snapshot, reply);
    } catch (error) {
      void environment.close();
      throw error;
    }
  }

  /** Sends the payload, or the whole snapshot file with this header, as far as there are buffers; goes on as they come back. */
  read(header: EncodedHeader | undefined): void {
    this.#reading = this.#read(header).catch((error) => {
      // After a release nobody listens any more.
      if (!this.#pool.isClosed) this.reply({ type: "failed", view: this.view, error: sentError(error) });
    });
  }

  /** A buffer comes back. */
  used(buffer: ArrayBuffer): void {
    this.#pool.put(buffer);
  }

  /** Ends the transaction; the file may grow over what it has kept. */
  async release(): Promise<void> {
    this.#pool.close();
    await this.#reading;
    this.snapshot.close();
    await this.environment.close();
  }

  async #read(header: EncodedHeader | undefined): Promise<void> {
    const payload = this.#payload();
    const measure = await this.#send(header === undefined ? withoutMeasure(payload) : encodeFile(header, payload));
    this.reply({ type: "end", view: this.view, measure });
  }

  async *#payload(): AsyncGenerator<Uint8Array, void, undefined> {
    const { records, sessions, transaction } = this.snapshot;
    yield* encodePayload(this.at, {
      keys: () => records.entries(transaction, NO_BYTES),
      sessions: () => sessions.entries(transaction),
    });
  }

  /** Fills one buffer after the other, and sends each when it is full. Waits for those that are on their way. */
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
    if (bytes > 0) this.reply({ type: "piece", view: this.view, buffer, bytes }, [buffer]);
  }
}

const NO_BYTES = new Uint8Array(0);

async function* withoutMeasure(
  pieces: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, SnapshotMeasure | undefined, void> {
  yield* pieces;
  return undefined;
}
