import type { StoreRules } from "../rules/rules.js";
import { hash } from "../rules/v1.js";

// Tells most keys that a table does not hold, from memory: a Bloom filter whose probes of one key
// lie within 64 bytes.

const BITS_PER_KEY = 10;

/** Bytes of a group: all bits of a key lie in one. */
const GROUP_BYTES = 64;

/** Returns the hash of a key that filters are asked with: the same for all tables of a store. */
export function filterHash(rules: StoreRules, key: Uint8Array): number {
  return hash(key, 0, key.byteLength, rules.seeds[1]);
}

/** Returns the size of a filter for so many keys. */
export function filterBytes(keys: number): number {
  const groups = (keys * BITS_PER_KEY + 511) >>> 9;
  return (groups === 0 ? 1 : groups) * GROUP_BYTES;
}

/** Adds keys, by their hashes, to a filter that begins with zeros. */
export function fillFilter(filter: Uint8Array, hashes: Uint32Array, count: number): void {
  const groups = filter.byteLength >>> 6;
  for (let i = 0; i < count; i++) {
    const h = hashes[i]!;
    const at = groupOf(h, groups);
    let bits = bitsOf(h);
    for (let probe = 0; probe < 6; probe++) {
      if (probe === 3) bits = moreBitsOf(bits);
      const bit = (bits >>> ((probe % 3) * 9)) & 511;
      const byte = at + (bit >>> 3);
      filter[byte] = filter[byte]! | (1 << (bit & 7));
    }
  }
}

/** Whether a key with this hash may have been added. */
export function filterHas(filter: Uint8Array, h: number): boolean {
  const at = groupOf(h, filter.byteLength >>> 6);
  const bits = bitsOf(h);
  if (!(isSet(filter, at, bits) && isSet(filter, at, bits >>> 9) && isSet(filter, at, bits >>> 18))) return false;
  const more = moreBitsOf(bits);
  return isSet(filter, at, more) && isSet(filter, at, more >>> 9) && isSet(filter, at, more >>> 18);
}

function isSet(filter: Uint8Array, at: number, bits: number): boolean {
  return (filter[at + ((bits & 511) >>> 3)]! & (1 << (bits & 7))) !== 0;
}

function groupOf(h: number, groups: number): number {
  return ((Math.imul(h, 0x9e3779b1) >>> 0) % groups) * GROUP_BYTES;
}

function bitsOf(h: number): number {
  const mixed = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  return mixed ^ (mixed >>> 13);
}

function moreBitsOf(bits: number): number {
  const mixed = Math.imul(bits, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
