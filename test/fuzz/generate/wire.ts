// Writes protobuf's wire format field by field, also in ways in which no encoder would.

export const wireTypes = { varint: 0, fixed64: 1, bytes: 2, groupStart: 3, groupEnd: 4, fixed32: 5 } as const;

/** The numbers that take one byte. */
const SMALL = Array.from({ length: 128 }, (_, value) => Uint8Array.of(value));

/** Collects fields of a message. */
export class WireWriter {
  readonly #parts: Uint8Array[] = [];

  tag(field: number, wireType: number): this {
    return this.varint(field * 8 + wireType);
  }

  /** Writes an unsigned number of up to 64 bits; `padding` adds bytes that an encoder would leave out. */
  varint(value: bigint | number, padding = 0): this {
    if (typeof value === "number" && value >= 0 && value < 128 && padding === 0) return this.raw(SMALL[value]!);
    const bytes: number[] = [];
    let rest = BigInt.asUintN(64, BigInt(value));
    do {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      bytes.push(rest > 0n || padding > 0 ? low | 0x80 : low);
    } while (rest > 0n);
    for (let left = padding; left > 0; left--) bytes.push(left === 1 ? 0 : 0x80);
    return this.raw(Uint8Array.from(bytes));
  }

  fixed32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value >>> 0);
    return this.raw(bytes);
  }

  fixed64(value: bigint): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt.asUintN(64, value));
    return this.raw(bytes);
  }

  /** Writes bytes behind their length; `claimed` is a length that need not be theirs. */
  bytes(value: Uint8Array, claimed: number = value.byteLength): this {
    return this.varint(claimed).raw(value);
  }

  raw(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    return this;
  }

  done(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
