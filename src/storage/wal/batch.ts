import type { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { overLimit } from "../../base/telemetry/refusals.js";
import { checkCounter, encodedEntryBytes, encodeEntry, encodeHardState } from "../../encoding/entry.js";
import type { Entry, HardState, LogPosition } from "../../raft/types.js";
import { RECORD_HEADER_BYTES, type RecordPlace, RecordType, recordBytes, sealRecord } from "./record.js";

/**
 * Records to write in one piece, encoded before their place is known. The hard state goes first: no
 * entry has a term beyond it.
 */
export class Batch {
  readonly #hardState: Uint8Array | undefined;
  readonly #payloadBytes: Uint32Array;
  /** Size of the whole batch. */
  readonly bytes: number;

  /** Throws CairnError LIMIT_EXCEEDED when an entry is too large. */
  constructor(
    readonly entries: readonly Entry[],
    hardState: HardState | undefined,
  ) {
    this.#hardState = hardState && encodeHardState(hardState);
    this.#payloadBytes = new Uint32Array(entries.length);
    let bytes = this.#hardState === undefined ? 0 : recordBytes(this.#hardState.byteLength);
    entries.forEach((entry, at) => {
      const payloadBytes = encodedEntryBytes(entry);
      if (payloadBytes > limits.entryBytes) throw tooLarge(entry, payloadBytes);
      this.#payloadBytes[at] = payloadBytes;
      bytes += recordBytes(payloadBytes);
    });
    this.bytes = bytes;
  }

  /** Encodes the batch into the start of `buffer`, as it will stand from `place` on. */
  encode(buffer: Buffer, place: RecordPlace): void {
    let at = 0;
    if (this.#hardState !== undefined) {
      buffer.set(this.#hardState, RECORD_HEADER_BYTES);
      at = sealRecord(buffer, 0, RecordType.hardState, this.#hardState.byteLength, place);
    }
    const start = place.position;
    for (let slot = 0; slot < this.entries.length; slot++) {
      encodeEntry(this.entries[slot]!, buffer, at + RECORD_HEADER_BYTES);
      const entryPlace = { position: start + at, synced: place.synced, seed: place.seed };
      at = sealRecord(buffer, at, RecordType.entry, this.#payloadBytes[slot]!, entryPlace);
    }
  }

  /** Visits each entry with its record's offset, for a batch that starts at `position`. */
  forEachEntry(position: number, visit: (entry: Entry, offset: number, payloadBytes: number) => void): void {
    let offset = position + (this.#hardState === undefined ? 0 : recordBytes(this.#hardState.byteLength));
    this.entries.forEach((entry, at) => {
      visit(entry, offset, this.#payloadBytes[at]!);
      offset += recordBytes(this.#payloadBytes[at]!);
    });
  }
}

const TRIM_PAYLOAD_BYTES = 16;

/** Encodes a record that says that the log starts behind `position`. */
export function encodeTrim(position: LogPosition, place: RecordPlace): Buffer {
  const buffer = Buffer.alloc(recordBytes(TRIM_PAYLOAD_BYTES));
  buffer.writeBigUInt64LE(BigInt(position.index), RECORD_HEADER_BYTES);
  buffer.writeBigUInt64LE(BigInt(position.term), RECORD_HEADER_BYTES + 8);
  sealRecord(buffer, 0, RecordType.trim, TRIM_PAYLOAD_BYTES, place);
  return buffer;
}

export function decodeTrim(payload: Buffer): LogPosition {
  const [index, term] = [payload.readBigUInt64LE(0), payload.readBigUInt64LE(8)];
  checkCounter("index", index, "indexMax");
  checkCounter("term", term, "termMax");
  return { index: Number(index), term: Number(term) };
}

function tooLarge(entry: Entry, bytes: number): CairnError {
  return overLimit(
    "LIMIT_EXCEEDED",
    "entryBytes",
    `entry ${entry.index} takes ${bytes} bytes, and limit entryBytes is ${limits.entryBytes}: propose smaller commands`,
  );
}
