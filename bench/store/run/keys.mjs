// Makes the keys, and the entries of the log that write them.
import { encodeCommand } from "../../../dist/src/machine/kv/command.js";

export const KEY_BYTES = 16;
/** Entries that are applied together. */
export const BATCH = 64;
/** Writes that a client has in flight, each of which has its answer remembered. */
const IN_FLIGHT = 128;
/** Share of the keys that are next to each other and rewritten, in the order "local". */
const LOCAL_SHARE = 100;

let state = 7;

/** A random whole number below `end`, the same sequence in each run. */
export function random(end) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return Math.floor(((state >>> 0) / 2 ** 32) * end);
}

export function keyAt(n) {
  return Buffer.from(`user-${String(n).padStart(KEY_BYTES - 5, "0")}`, "latin1");
}

/** Each number below `count` once, in an order that jumps about. */
export function scattered(count) {
  let step = Math.max(1, Math.floor(count * 0.618));
  while (divisor(step, count) !== 1) step++;
  return (n) => (n * step) % count;
}

function divisor(a, b) {
  return b === 0 ? a : divisor(b, a % b);
}

/** Numbers of keys to overwrite. `order`: random among all, or among a hundredth that lies together. */
export function overwritten(count, order) {
  if (order === "random") return () => random(count);
  const some = Math.max(1, Math.floor(count / LOCAL_SHARE));
  return () => Math.floor(count / 2) + random(some);
}

/** Makes entries from an index on, in batches. */
export class Entries {
  #sequence = 0;

  constructor(valueBytes) {
    this.value = new Uint8Array(valueBytes).map((_, at) => (at * 37) & 0xff);
  }

  /** Batches of puts of the keys whose numbers `next` returns. */
  puts(first, count, next, { withId = false } = {}) {
    return this.#batches(first, count, () => {
      const operation = { case: "put", value: { key: keyAt(next()), value: this.value } };
      return withId ? { requestId: this.#requestId(), operation } : { operation };
    });
  }

  deletes(first, count, next) {
    return this.#batches(first, count, () => ({ operation: { case: "delete", value: { key: keyAt(next()) } } }));
  }

  /** A flush point, as a leader asks for it. */
  flush(index, drain) {
    return this.#batches(index, 1, () => ({ operation: { case: "store", value: { drain } } }))[0];
  }

  /** All commands of a chunk lie in one buffer: as objects of their own they would be work for the collector. */
  #batches(first, count, command) {
    const commands = Array.from({ length: count }, () => encodeCommand(command()));
    const buffer = Buffer.concat(commands);
    let offset = 0;
    const entries = commands.map(({ byteLength }, at) => {
      const data = new Uint8Array(buffer.buffer, buffer.byteOffset + offset, byteLength);
      offset += byteLength;
      return { index: first + at, term: 1, type: "command", data };
    });
    const batches = [];
    for (let at = 0; at < count; at += BATCH) batches.push(entries.slice(at, at + BATCH));
    return batches;
  }

  #requestId() {
    const sequence = ++this.#sequence;
    return {
      clientId: "client-of-the-benchmark",
      sequence: BigInt(sequence),
      acknowledgedThrough: BigInt(Math.max(0, sequence - IN_FLIGHT)),
    };
  }
}
