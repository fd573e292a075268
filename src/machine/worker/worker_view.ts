import { assert } from "../../base/assert.js";
import { CairnError } from "../../base/errors.js";
import type { EncodedHeader, SnapshotMeasure } from "../../encoding/snapshot_file.js";
import { encodeHeader, type SnapshotHeader } from "../../encoding/snapshot_header.js";
import type { LogPosition } from "../../raft/types.js";
import type { StateView } from "../state_machine.js";
import type { Exchange } from "./exchange.js";

/** A captured state that the worker reads for the main thread. */
export class WorkerView implements StateView {
  #isRead = false;

  private constructor(
    private readonly at: LogPosition,
    private readonly exchange: Exchange,
  ) {}

  /**
   * Captures the state in the environment at `path`, which must stay open until the exchange has
   * ended.
   */
  static async capture(path: string, exchange: Exchange): Promise<WorkerView> {
    exchange.post({ type: "capture", path });
    const reply = await exchange.next();
    assert(reply.type === "captured", "a capture is answered by a position", { type: reply.type });
    return new WorkerView(reply.at, exchange);
  }

  get appliedIndex(): number {
    return this.at.index;
  }

  /** Term of the entry at {@link appliedIndex}. */
  get appliedTerm(): number {
    return this.at.term;
  }

  /** Resolves when the worker has released the state. */
  get ended(): Promise<void> {
    return this.exchange.ended;
  }

  /** Aborted when the view was released or has failed, with the reason. */
  get failed(): AbortSignal {
    return this.exchange.failed;
  }

  payload(): AsyncIterable<Uint8Array> {
    return this.#read(undefined);
  }

  snapshotFile(header: SnapshotHeader): AsyncGenerator<Uint8Array, SnapshotMeasure, void> {
    const encoded = { bytes: encodeHeader(header), chunkBytes: header.chunkBytes };
    return this.#read(encoded) as AsyncGenerator<Uint8Array, SnapshotMeasure, void>;
  }

  release(): void {
    const text = "the view of the state was released while its payload was read";
    this.exchange.fail(new CairnError("FAILED_PRECONDITION", text));
  }

  #read(header: EncodedHeader | undefined): AsyncGenerator<Uint8Array, SnapshotMeasure | undefined, void> {
    this.exchange.failed.throwIfAborted();
    assert(!this.#isRead, "a view's payload is read once", { appliedIndex: this.appliedIndex });
    this.#isRead = true;
    return this.#pieces(header);
  }

  async *#pieces(header: EncodedHeader | undefined): AsyncGenerator<Uint8Array, SnapshotMeasure | undefined, void> {
    this.exchange.post({ type: "read", header });
    for (;;) {
      const reply = await this.exchange.next();
      if (reply.type === "end") return reply.measure;
      assert(reply.type === "piece", "a reading is answered by pieces and an end", { type: reply.type });
      yield new Uint8Array(reply.buffer, 0, reply.bytes);
      this.exchange.post({ type: "taken", buffer: reply.buffer }, [reply.buffer]);
    }
  }
}
