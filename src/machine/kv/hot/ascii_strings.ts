/** Slots of the strings that were met last. A power of two. */
const SLOTS = 1024;

/**
 * Returns strings for ASCII bytes, each time the same one while it is remembered: a client's id
 * comes with each of its commands, and a known string is looked up faster than a new one.
 */
export class AsciiStrings {
  readonly #slots: (string | undefined)[] = new Array(SLOTS).fill(undefined);

  /** Returns undefined when the bytes are not ASCII. */
  get(data: Uint8Array, start: number, end: number): string | undefined {
    let hash = 0;
    for (let at = start; at < end; at++) {
      const byte = data[at]!;
      if (byte >= 0x80) return undefined;
      hash = (Math.imul(hash, 31) + byte) | 0;
    }
    const slot = (hash ^ (hash >>> 15)) & (SLOTS - 1);
    const known = this.#slots[slot];
    if (known !== undefined && isSame(known, data, start, end)) return known;
    const text = Buffer.from(data.buffer, data.byteOffset + start, end - start).toString("latin1");
    this.#slots[slot] = text;
    return text;
  }
}

function isSame(known: string, data: Uint8Array, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  for (let at = 0; at < known.length; at++) if (known.charCodeAt(at) !== data[start + at]) return false;
  return true;
}
