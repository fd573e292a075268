import type { Random } from "../../support/random.js";
import { anyBytes, anyNumber } from "./values.js";

// Changes bytes as damage, bad programs and attackers do.

/** Returns changed bytes: one to four small changes. `other`: something of the same kind, to splice with. */
export function mutated(random: Random, bytes: Uint8Array, other: Uint8Array = bytes): Buffer {
  let changed: Buffer = Buffer.from(bytes);
  for (let left = random.whole(1, 4); left > 0; left--) changed = once(random, changed, other);
  return changed;
}

function once(random: Random, bytes: Buffer, other: Uint8Array): Buffer {
  const at = random.whole(0, Math.max(0, bytes.length - 1));
  const length = random.whole(1, random.oneIn(4) ? 64 : 4);
  switch (random.whole(0, 9)) {
    case 0:
    case 1:
      return poked(bytes, at, (byte) => byte ^ (1 << random.whole(0, 7)));
    case 2:
      return poked(bytes, at, () => random.whole(0, 255));
    case 3:
      return bytes.subarray(0, at);
    case 4:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 5:
      return Buffer.concat([bytes.subarray(0, at), anyBytes(random), bytes.subarray(at)]);
    case 6:
      return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
    case 7: {
      const from = random.whole(0, Math.max(0, other.length - 1));
      return Buffer.concat([bytes.subarray(0, at), other.subarray(from)]);
    }
    case 8: {
      const changed = Buffer.from(bytes);
      changed.fill(random.pick([0, 0xff, 0x80]), at, Math.min(changed.length, at + length));
      return changed;
    }
    default: {
      const changed = Buffer.from(bytes);
      const number = Buffer.alloc(8);
      number.writeBigUInt64LE(anyNumber(random));
      if (at < changed.length) number.copy(changed, at, 0, random.pick([2, 4, 8]));
      return changed;
    }
  }
}

function poked(bytes: Buffer, at: number, change: (byte: number) => number): Buffer {
  if (bytes.length === 0) return bytes;
  const changed = Buffer.from(bytes);
  changed[at] = change(changed[at]!);
  return changed;
}

/** Cuts bytes into pieces, as a network does. */
export function pieces(random: Random, bytes: Uint8Array): Buffer[] {
  const all: Buffer[] = [];
  for (let at = 0; at < bytes.byteLength; ) {
    const length = random.oneIn(3) ? random.whole(1, 8) : random.whole(1, Math.max(1, bytes.byteLength));
    all.push(Buffer.from(bytes.subarray(at, at + length)));
    at += length;
  }
  return all;
}
