import type { OpenPut } from "../kv/effects/effect_notes.js";
import type { IndexSpan } from "../kv/effects/effects.js";

const OPEN = 0;
const EXISTED = 1;
const CREATED = 2;

/** Tells whether a key existed before the entry at an index. */
type ExistedBefore = (key: Uint8Array, index: number) => boolean;

/**
 * Puts of which it is not known whether they created their key, in order of their indexes, until a
 * step tells. Takes 13 bytes a put and those of its key.
 */
export class OpenPuts {
  #indexes = new Float64Array(256);
  /** End of each key within the keys' bytes. */
  #ends = new Uint32Array(256);
  #states = new Uint8Array(256);
  #keys = Buffer.allocUnsafeSlow(8192);
  #count = 0;

  /** Whether there is none up to this index. */
  isEmptyThrough(index: number): boolean {
    return this.#count === 0 || this.#indexes[0]! > index;
  }

  has(index: number): boolean {
    const at = this.#placeOf(index);
    return at < this.#count && this.#indexes[at] === index;
  }

  add(puts: readonly OpenPut[]): void {
    for (const { index, key } of puts) {
      this.#reserve(key.byteLength);
      const start = this.#endOf(this.#count - 1);
      this.#indexes[this.#count] = index;
      this.#keys.set(key, start);
      this.#ends[this.#count] = start + key.byteLength;
      this.#states[this.#count] = OPEN;
      this.#count++;
    }
  }

  /**
   * Yields the indexes of the puts of a span that created their key. `existed` tells whether a key
   * existed before an index.
   */
  *created(span: IndexSpan, existed: ExistedBefore): Generator<number, void> {
    for (let at = this.#placeOf(span[0]); at < this.#count && this.#indexes[at]! <= span[1]; at++) {
      const index = this.#indexes[at]!;
      if (this.#states[at] === OPEN) {
        const key = this.#keys.subarray(this.#endOf(at - 1), this.#ends[at]);
        this.#states[at] = existed(key, index) ? EXISTED : CREATED;
      }
      if (this.#states[at] === CREATED) yield index;
    }
  }

  /** Forgets the puts up to an index. */
  forgetThrough(index: number): void {
    const from = this.#placeOf(index + 1);
    if (from === 0) return;
    const keysFrom = this.#endOf(from - 1);
    const keysTo = this.#endOf(this.#count - 1);
    this.#indexes.copyWithin(0, from, this.#count);
    this.#states.copyWithin(0, from, this.#count);
    for (let at = from; at < this.#count; at++) this.#ends[at - from] = this.#ends[at]! - keysFrom;
    this.#keys.copyWithin(0, keysFrom, keysTo);
    this.#count -= from;
  }

  clear(): void {
    this.#count = 0;
  }

  #endOf(at: number): number {
    return at < 0 ? 0 : this.#ends[at]!;
  }

  /** Returns the place of the first put at `index` or above. */
  #placeOf(index: number): number {
    let [low, high] = [0, this.#count];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#indexes[middle]! < index) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #reserve(keyBytes: number): void {
    if (this.#count === this.#indexes.length) {
      this.#indexes = grown(new Float64Array(2 * this.#count), this.#indexes);
      this.#ends = grown(new Uint32Array(2 * this.#count), this.#ends);
      this.#states = grown(new Uint8Array(2 * this.#count), this.#states);
    }
    const needed = this.#endOf(this.#count - 1) + keyBytes;
    if (needed > this.#keys.byteLength) this.#keys = grown(Buffer.allocUnsafeSlow(2 * needed), this.#keys);
  }
}

function grown<Numbers extends Float64Array | Uint32Array | Uint8Array>(into: Numbers, from: Numbers): Numbers {
  into.set(from);
  return into;
}
