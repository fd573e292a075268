/**
 * Cuts a stream of pieces of any size into elements of known length, copying only the elements that
 * two pieces share.
 */
export class Gatherer {
  #wanted: number;
  #gathered = 0;
  /**
   * Two buffers, used alternately, so that an element stays valid while the start of the next one
   * is gathered.
   */
  #buffer = Buffer.alloc(0);
  #spare = Buffer.alloc(0);

  /** @param wanted length of the first element, 1 byte or more. */
  constructor(wanted: number) {
    this.#wanted = wanted;
  }

  /** Length of the current element, in bytes. */
  get wanted(): number {
    return this.#wanted;
  }

  /** Bytes gathered of the current element. */
  get gathered(): number {
    return this.#gathered;
  }

  /**
   * Sets the length of the next element, 1 byte or more. Call it after {@link take} has returned
   * the previous element.
   */
  want(bytes: number): void {
    this.#wanted = bytes;
    this.#gathered = 0;
  }

  /** Turns the element just returned into the start of one that is `bytes` long. */
  extend(beginning: Buffer, bytes: number): void {
    this.want(bytes);
    this.#gather(beginning);
  }

  /**
   * Takes bytes up to the end of the current element; returns their number, and the element when it
   * is complete. The element stays valid until the caller asks for the next but one, and no longer
   * than `piece` does.
   */
  take(piece: Buffer): { readonly element: Buffer | undefined; readonly taken: number } {
    if (this.#gathered === 0 && piece.byteLength >= this.#wanted) {
      return { element: piece.subarray(0, this.#wanted), taken: this.#wanted };
    }
    const taken = Math.min(piece.byteLength, this.#wanted - this.#gathered);
    this.#gather(piece.subarray(0, taken));
    return { element: this.#gathered === this.#wanted ? this.#complete() : undefined, taken };
  }

  #gather(bytes: Buffer): void {
    if (this.#buffer.byteLength < this.#wanted) {
      const larger = Buffer.allocUnsafe(this.#wanted);
      this.#buffer.copy(larger, 0, 0, this.#gathered);
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.#gathered);
    this.#gathered += bytes.byteLength;
  }

  #complete(): Buffer {
    const element = this.#buffer.subarray(0, this.#wanted);
    [this.#buffer, this.#spare] = [this.#spare, this.#buffer];
    return element;
  }
}
