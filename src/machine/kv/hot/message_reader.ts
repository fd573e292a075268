/** Tags of fields with a small number, by their type on the wire. */
export const wireType = {
  varint: (field: number): number => field * 8,
  bytes: (field: number): number => field * 8 + 2,
} as const;

/** Bytes of the longest number that is read: it has 49 bits. */
const NUMBER_BYTES_MAX = 7;

/**
 * Reads a protobuf message of plain fields. It does not throw: {@link isOdd} says that something
 * was not plain, or cut off, and that nothing read since is of use.
 */
export class MessageReader {
  data: Uint8Array = new Uint8Array(0);
  at = 0;
  isOdd = false;

  begin(data: Uint8Array): void {
    this.data = data;
    this.at = 0;
    this.isOdd = false;
  }

  /** Gives up on the message. */
  giveUp(): undefined {
    this.isOdd = true;
    return undefined;
  }

  /** Returns whether another field comes before `end`. */
  hasMore(end: number): boolean {
    if (this.at > end) this.isOdd = true;
    return !this.isOdd && this.at < end;
  }

  /** Reads a tag of one byte; a longer one is that of no field that is looked for. */
  tag(): number {
    const tag = this.data[this.at++]!;
    if (tag >= 0x80) this.isOdd = true;
    return tag;
  }

  varint(): number {
    let value = 0;
    let factor = 1;
    for (let read = 0; read < NUMBER_BYTES_MAX; read++) {
      const byte = this.data[this.at++];
      if (byte === undefined) break;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 0x80;
    }
    this.isOdd = true;
    return 0;
  }

  /** Reads the length of a field; returns where it ends. */
  end(): number {
    const length = this.varint();
    const end = this.at + length;
    if (end > this.data.byteLength) this.isOdd = true;
    return end;
  }

  /** Reads bytes, which point into the message. */
  bytes(): Uint8Array | undefined {
    const end = this.end();
    if (this.isOdd) return undefined;
    const bytes = this.data.subarray(this.at, end);
    this.at = end;
    return bytes;
  }
}
