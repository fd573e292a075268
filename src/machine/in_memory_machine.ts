import { isUint8Array } from "node:util/types";
import { assert } from "../base/assert.js";
import { CairnError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { type Entry, LOG_START, type LogPosition, type SnapshotMeta } from "../raft/types.js";
import type { ApplyResult, StateMachine, StateView } from "./state_machine.js";

/**
 * A replicated state that fits in memory. Cairn keeps it durable with its log and its snapshots,
 * and builds it anew from both at each start: the machine itself writes nothing. It must be
 * deterministic: the state and each answer are a function of the commands applied before, with no
 * clock, no random number and nothing local. Put anything that differs between members into the
 * command.
 */
export interface SimpleMachine {
  /**
   * Applies one command, and returns its answer; undefined is the same as no bytes. `at` is the
   * command's place in the log. The bytes are lent for the call: copy them to keep them. Must not
   * throw, and must not be asynchronous: to refuse a command, answer that it is refused. A machine
   * that throws stops its node, and every other member that comes to that command.
   */
  apply(command: Uint8Array, at: LogPosition): Uint8Array | undefined;
  /**
   * Returns the whole state as bytes, the same on every member for the same commands applied.
   * Nothing is applied during the call, and it blocks the event loop: writes and heartbeats wait.
   * It may return pieces instead, which are taken while further commands are applied: they must
   * show the state as it was at the call.
   */
  serialize(): Uint8Array | AsyncIterable<Uint8Array>;
  /**
   * Takes the state from the bytes that {@link serialize} returned. Called once, on a new machine.
   * May throw for bytes that it cannot read.
   */
  restore(bytes: Uint8Array): void;
}

/**
 * The payload of a snapshot: these eight bytes, then applied index and term, 8 bytes each,
 * little-endian, then the machine's bytes.
 */
const MAGIC = Buffer.from("CAIRNMM1", "latin1");
const PREAMBLE_BYTES = MAGIC.byteLength + 16;

const NO_BYTES = new Uint8Array(0);

/**
 * Runs a {@link SimpleMachine} as a {@link StateMachine}. A capture takes as long as serialize()
 * does, and its bytes stay in memory until the snapshot is written. A snapshot being loaded is
 * briefly in memory twice: as bytes, and as the state made of them.
 */
export class InMemoryMachine<Simple extends SimpleMachine> implements StateMachine<Uint8Array> {
  #state: Simple;
  #applied: LogPosition = LOG_START;
  /** Set once nothing more may be applied: the state may show half a command. */
  #broken: CairnError | undefined;
  #isClosed = false;

  /** `make` returns a new machine with the empty state. */
  constructor(private readonly make: () => Simple) {
    this.#state = make();
  }

  /** The present machine; loading a snapshot replaces it. */
  get state(): Simple {
    this.#assertUsable();
    return this.#state;
  }

  get appliedIndex(): number {
    return this.#applied.index;
  }

  apply(entries: readonly Entry[]): readonly ApplyResult<Uint8Array>[] {
    this.#assertUsable();
    assert((entries[0]?.index ?? 0) === this.#applied.index + 1, "entries follow the applied index", {
      first: entries[0]?.index,
      applied: this.#applied.index,
    });
    const results = entries.map((entry) => ({ index: entry.index, result: this.#applyOne(entry) }));
    const { index, term } = entries.at(-1)!;
    this.#applied = { index, term };
    return results;
  }

  async capture(): Promise<StateView> {
    this.#assertUsable();
    return new SerializedState(this.#applied, this.#state.serialize());
  }

  async restore(payload: AsyncIterable<Uint8Array>, at: SnapshotMeta): Promise<void> {
    const pieces: Uint8Array[] = [];
    // A piece is lent until the next one is taken.
    for await (const piece of payload) pieces.push(Uint8Array.prototype.slice.call(piece));
    if (this.#isClosed) throw stopped();
    const bytes = Buffer.concat(pieces);
    checkPreamble(bytes, at);
    const state = this.make();
    try {
      state.restore(bytes.subarray(PREAMBLE_BYTES));
    } catch (error) {
      const text = `the machine cannot restore the snapshot at index ${at.index}: ${String(error)}`;
      throw new CairnError("CORRUPT", text, { cause: error });
    }
    this.#state = state;
    this.#applied = { index: at.index, term: at.term };
    this.#broken = undefined;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  crash(): Promise<void> {
    return this.close();
  }

  /** Returns whether the first eight bytes of a payload name this kind of machine. */
  static isPayload(head: Uint8Array): boolean {
    return MAGIC.equals(head.subarray(0, MAGIC.byteLength));
  }

  /**
   * Begins a check that refuses a payload of another kind of machine, or of another index, before
   * it is taken from a peer.
   */
  static checkPayload(at: LogPosition) {
    let head = NO_BYTES;
    return {
      push(piece: Uint8Array): void {
        if (head.byteLength < PREAMBLE_BYTES) {
          head = Buffer.concat([head, piece.subarray(0, PREAMBLE_BYTES - head.byteLength)]);
        }
      },
      finish: () => checkPreamble(head, at),
    };
  }

  #applyOne({ type, data, index, term }: Entry): Uint8Array | undefined {
    if (type !== "command") return undefined;
    try {
      const answer = this.#state.apply(data, { index, term });
      if (answer === undefined) return NO_BYTES;
      if (isUint8Array(answer)) return answer;
      throw new TypeError("it must return a Uint8Array or undefined, and at once");
    } catch (error) {
      const text = `the machine could not apply the command at index ${index}: ${String(error)}`;
      this.#broken = new CairnError("INTERNAL", text, { cause: error });
      throw this.#broken;
    }
  }

  #assertUsable(): void {
    if (this.#isClosed) throw stopped();
    if (this.#broken !== undefined) throw this.#broken;
  }
}

/** Serves the result of serialize() as a snapshot's payload. */
class SerializedState implements StateView {
  #released = false;

  constructor(
    private readonly at: LogPosition,
    private readonly bytes: Uint8Array | AsyncIterable<Uint8Array>,
  ) {}

  get appliedIndex(): number {
    return this.at.index;
  }

  async *payload(): AsyncGenerator<Uint8Array, void, undefined> {
    yield preamble(this.at);
    for await (const piece of isUint8Array(this.bytes) ? [this.bytes] : this.bytes) {
      for (let start = 0; start < piece.byteLength; start += limits.payloadPieceBytes) {
        if (this.#released)
          throw new CairnError("FAILED_PRECONDITION", "the view of the state was released while read");
        yield piece.subarray(start, start + limits.payloadPieceBytes);
      }
    }
  }

  release(): void {
    this.#released = true;
  }
}

function preamble({ index, term }: LogPosition): Buffer {
  const bytes = Buffer.alloc(PREAMBLE_BYTES);
  MAGIC.copy(bytes);
  bytes.writeBigUInt64LE(BigInt(index), MAGIC.byteLength);
  bytes.writeBigUInt64LE(BigInt(term), MAGIC.byteLength + 8);
  return bytes;
}

/** @throws CairnError CORRUPT */
function checkPreamble(bytes: Uint8Array, at: LogPosition): void {
  if (preamble(at).equals(bytes.subarray(0, PREAMBLE_BYTES))) return;
  const is = InMemoryMachine.isPayload(bytes) ? "another index or term" : "another kind of machine";
  throw new CairnError("CORRUPT", `the payload of the snapshot at index ${at.index} is of ${is}`);
}

function stopped(): CairnError {
  return new CairnError("STOPPED", "the state machine is closed");
}
