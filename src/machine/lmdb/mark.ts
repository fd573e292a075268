import type { LogPosition } from "../../raft/types.js";
import { CHECKSUM_BYTES, DIGEST_BYTES, damagedState, StateDigest } from "./checksums.js";
import type { EffectsKnown } from "./effects/effect_rows.js";

/**
 * Applied position of a state, the digest of all rows at that position, and the extent of the
 * history of changes.
 */
export interface StateMark extends LogPosition {
  readonly digest: StateDigest;
  readonly effects: EffectsKnown;
}

/**
 * Key of the one row of the table "meta": checksum, a format byte, index and term as doubles, the
 * digest, then the first index with known effects and the bytes of their rows as doubles.
 */
export const MARK_KEY = Buffer.from("applied");

const FORMAT = 5;
const FORMAT_AT = CHECKSUM_BYTES;
const INDEX_AT = FORMAT_AT + 1;
const TERM_AT = INDEX_AT + 8;
const DIGEST_AT = TERM_AT + 8;
const SINCE_AT = DIGEST_AT + DIGEST_BYTES;
const EFFECT_BYTES_AT = SINCE_AT + 8;
const MARK_BYTES = EFFECT_BYTES_AT + 8;

/** Encodes the row, without its checksum. */
export function encodeMark({ index, term, digest, effects }: StateMark): Buffer {
  const row = Buffer.allocUnsafe(MARK_BYTES);
  row[FORMAT_AT] = FORMAT;
  row.writeDoubleLE(index, INDEX_AT);
  row.writeDoubleLE(term, TERM_AT);
  digest.write(row, DIGEST_AT);
  row.writeDoubleLE(effects.since, SINCE_AT);
  row.writeDoubleLE(effects.bytes, EFFECT_BYTES_AT);
  return row;
}

/** Decodes a row whose checksum is good. Throws CairnError CORRUPT. */
export function decodeMark(row: Buffer): StateMark {
  if (row.byteLength !== MARK_BYTES || row[FORMAT_AT] !== FORMAT) {
    throw damagedState("its applied position has another format");
  }
  const digest = StateDigest.read(row, DIGEST_AT);
  const effects = { since: row.readDoubleLE(SINCE_AT), bytes: row.readDoubleLE(EFFECT_BYTES_AT) };
  return { index: row.readDoubleLE(INDEX_AT), term: row.readDoubleLE(TERM_AT), digest, effects };
}
