import { setImmediate as nextTurn } from "node:timers/promises";
import { assert } from "../../base/assert.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { LogPosition } from "../../raft/types.js";
import type { StateView } from "../state_machine.js";
import { encodePayload, type PayloadSource } from "./payload.js";

/**
 * A captured key-value state. It makes its payload while that is read, one slice in each turn of
 * the event loop.
 */
export class PayloadView implements StateView {
  #pieces: Generator<Uint8Array, void, undefined> | undefined;
  #failure: Error | undefined;

  /** `letGo` releases the source of the payload; called once. */
  constructor(
    private readonly at: LogPosition,
    private readonly source: PayloadSource,
    private readonly letGo: (view: PayloadView) => void,
  ) {}

  get appliedIndex(): number {
    return this.at.index;
  }

  /** Term of the entry at {@link appliedIndex}. */
  get appliedTerm(): number {
    return this.at.term;
  }

  payload(): AsyncIterable<Uint8Array> {
    if (this.#failure !== undefined) throw this.#failure;
    assert(this.#pieces === undefined, "a view's payload is read once", { appliedIndex: this.appliedIndex });
    this.#pieces = encodePayload(this.at, this.source);
    return this.#slices(this.#pieces);
  }

  release(): void {
    this.fail(new CairnError("FAILED_PRECONDITION", "the view of the state was released while its payload was read"));
  }

  /** Releases the view; a reader of its payload gets `failure`. */
  fail(failure: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = failure;
    // Ends the cursors of the payload before their source is released: an open cursor must not
    // outlive its read transaction.
    this.#pieces?.return();
    this.letGo(this);
  }

  async *#slices(pieces: Generator<Uint8Array, void, undefined>): AsyncGenerator<Uint8Array, void, undefined> {
    let slice = 0;
    for (const piece of pieces) {
      yield piece;
      slice += piece.byteLength;
      if (slice >= limits.payloadSliceBytes) {
        slice = 0;
        await nextTurn();
      }
      if (this.#failure !== undefined) throw this.#failure;
    }
  }
}
