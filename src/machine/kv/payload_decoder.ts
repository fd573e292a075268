import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { LogPosition } from "../../raft/types.js";
import { LeaseKeyCounts } from "./leases/lease_key_counts.js";
import type { StoredLease } from "./leases/lease_store.js";
import { PAYLOAD_MAGIC, PAYLOAD_PREAMBLE_BYTES, partTag } from "./payload.js";
import type { KeyRecord } from "./record_store.js";
import {
  answerBytes,
  answersMax,
  encodedAnswerBytesMax,
  NEWEST_RULES,
  type SessionLimits,
  type SessionRules,
  type SessionsHead,
  sessionBytes,
  sessionRules,
} from "./session_limits.js";
import type { SessionHead } from "./sessions.js";

// Decodes the snapshot payload of the key-value machine, and checks every byte of it.

/** Receives a payload's contents, in the payload's order. Bytes are lent for the call. */
export interface PayloadSink {
  lease(lease: StoredLease): void;
  /** The lease that the record names was given before. */
  key(key: Uint8Array, record: KeyRecord): void;
  /** Precedes all sessions; not called for a payload of the first rules. */
  sessionsHead(head: SessionsHead): void;
  session(head: SessionHead): void;
  /** An answer of the last session. */
  answer(sequence: number, answer: Uint8Array): void;
}

/**
 * Decodes a payload from pieces of any size. Memory: the largest part and one piece, and 12 bytes a
 * lease. Throws CairnError CORRUPT for anything that is not exactly a payload of the expected
 * position, before it trusts a length in it.
 */
export class PayloadDecoder {
  /** Bytes of a part whose end has not arrived yet. */
  #carry: Buffer = Buffer.allocUnsafeSlow(4 * limits.keyBytes);
  #carried = 0;
  /** Bytes of the payload before the ones being parsed, for messages. */
  #done = 0;
  #stage: "preamble" | "leases" | "keys" | "sessions" | "ended" = "preamble";
  #rules: SessionRules = sessionRules.counted;
  #horizon = 0;
  /** Bytes of all sessions so far, as their limit counts them. */
  #sessionBytes = 0;
  readonly #counts = { leases: 0, keys: 0, sessions: 0, answers: 0 };
  readonly #leases = new LeaseKeyCounts();
  readonly #lastKey = new LastBytes(limits.keyBytes);
  readonly #lastClientId = new LastBytes(limits.clientIdBytes);
  #lastSequence = 0;
  #answersOfSession = 0;

  constructor(
    private readonly expected: LogPosition,
    private readonly bounds: SessionLimits,
    private readonly sink: PayloadSink,
  ) {}

  push(piece: Uint8Array): void {
    if (this.#carried === 0) {
      this.#keep(piece, this.#parse(piece));
      return;
    }
    this.#append(piece);
    const bytes = this.#carry.subarray(0, this.#carried);
    const read = this.#parse(bytes);
    this.#carry.copyWithin(0, read, this.#carried);
    this.#carried -= read;
  }

  /** Throws unless the payload has ended with its end mark. */
  finish(): void {
    if (this.#stage !== "ended") throw this.#corrupt(this.#carried, "it ends before its end mark");
  }

  #keep(piece: Uint8Array, from: number): void {
    if (from < piece.byteLength) this.#append(piece.subarray(from));
  }

  #append(bytes: Uint8Array): void {
    const needed = this.#carried + bytes.byteLength;
    if (needed > this.#carry.byteLength) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#carry.byteLength * 2));
      this.#carry.copy(larger, 0, 0, this.#carried);
      this.#carry = larger;
    }
    this.#carry.set(bytes, this.#carried);
    this.#carried = needed;
  }

  /** Reads all whole parts; returns their bytes. */
  #parse(bytes: Uint8Array): number {
    const scan = new Scan(bytes);
    let read = 0;
    while (scan.at < bytes.byteLength && this.#part(scan)) read = scan.at;
    this.#done += read;
    return read;
  }

  /** Reads the part at `scan`; returns false when its end has not arrived yet. */
  #part(scan: Scan): boolean {
    const start = scan.at;
    if (this.#stage === "ended") throw this.#corrupt(start, "bytes follow its end mark");
    if (this.#stage === "preamble") return this.#preamble(scan);
    const tag = scan.byte();
    if (tag === partTag.lease && this.#stage === "leases") return this.#lease(scan, start);
    if (tag === partTag.key && this.#mayHaveKeys) return this.#key(scan, start, false);
    if (tag === partTag.leasedKey && this.#mayHaveKeys && this.#rules >= sessionRules.leased) {
      return this.#key(scan, start, true);
    }
    if (tag === partTag.sessionsHead && this.#mayHaveHead) return this.#sessionsHead(scan, start);
    if (this.#mayHaveHead) throw this.#corrupt(start, `a part with tag ${tag} stands before the head of the sessions`);
    if (tag === partTag.session) return this.#session(scan, start);
    if (tag === partTag.answer && this.#counts.sessions > 0) return this.#answer(scan, start);
    if (tag === partTag.end) return this.#end(scan, start);
    throw this.#corrupt(start, `a part with tag ${tag} cannot stand here`);
  }

  #preamble(scan: Scan): boolean {
    const bytes = scan.take(PAYLOAD_PREAMBLE_BYTES);
    if (bytes === undefined) return false;
    if (bytes.toString("latin1", 0, PAYLOAD_MAGIC.length) !== PAYLOAD_MAGIC)
      throw this.#corrupt(0, "it is not Cairn's");
    const version = bytes[PAYLOAD_MAGIC.length];
    const rules = Object.values(sessionRules).find((known) => known === version);
    if (rules === undefined) {
      throw this.#corrupt(0, `its format version is ${version}, this program reads 1 to ${NEWEST_RULES}`);
    }
    this.#rules = rules;
    const index = bytes.readBigUInt64LE(PAYLOAD_MAGIC.length + 1);
    const term = bytes.readBigUInt64LE(PAYLOAD_MAGIC.length + 9);
    const { expected } = this;
    if (index !== BigInt(expected.index) || term !== BigInt(expected.term)) {
      const labelled = `index ${expected.index} of term ${expected.term}`;
      throw this.#corrupt(0, `it holds the state at index ${index} of term ${term}, but its snapshot says ${labelled}`);
    }
    this.#stage = rules >= sessionRules.leased ? "leases" : "keys";
    return true;
  }

  #lease(scan: Scan, start: number): boolean {
    const id = scan.varint();
    const ttlMs = scan.varint();
    const keepAlives = scan.varint();
    const keys = scan.varint();
    if (!this.#hasHeader(scan, start)) return false;
    if (id <= this.#leases.last || id > this.expected.index) {
      throw this.#corrupt(start, `a lease cannot have the id ${id} here`);
    }
    if (ttlMs < limits.leaseTtlMs || ttlMs > limits.leaseTtlMsMax) {
      throw this.#corrupt(start, `a lease cannot have ${ttlMs} ms to live`);
    }
    if (keys > limits.leaseKeys) throw this.#corrupt(start, `a lease cannot have ${keys} keys`);
    if (this.#counts.leases === limits.leases) throw this.#corrupt(start, `it has over ${limits.leases} leases`);
    this.sink.lease({ id, ttlMs, keepAlives, keys });
    this.#leases.push(id, keys);
    this.#counts.leases++;
    return true;
  }

  get #mayHaveKeys(): boolean {
    return this.#stage === "leases" || this.#stage === "keys";
  }

  #key(scan: Scan, start: number, hasLease: boolean): boolean {
    const lease = hasLease ? scan.varint() : 0;
    const keyBytes = scan.varint();
    const createVersion = scan.varint();
    const version = scan.varint();
    const valueBytes = scan.varint();
    if (!this.#hasHeader(scan, start)) return false;
    if (keyBytes < 1 || keyBytes > limits.keyBytes) throw this.#corrupt(start, `a key cannot have ${keyBytes} bytes`);
    if (valueBytes > limits.valueBytes) throw this.#corrupt(start, `a value cannot have ${valueBytes} bytes`);
    if (createVersion < 1 || createVersion > version || version > this.expected.index) {
      throw this.#corrupt(start, `a key cannot have create version ${createVersion} and version ${version}`);
    }
    const bytes = scan.take(keyBytes + valueBytes);
    if (bytes === undefined) return false;
    const key = bytes.subarray(0, keyBytes);
    if (!this.#lastKey.isBelow(key)) throw this.#corrupt(start, "keys do not ascend");
    const record = { createVersion, version, value: bytes.subarray(keyBytes) };
    if (hasLease && !this.#leases.take(lease)) {
      throw this.#corrupt(start, `a key cannot be attached to lease ${lease}, which has no further key`);
    }
    this.sink.key(key, hasLease ? { ...record, lease } : record);
    this.#stage = "keys";
    this.#lastKey.set(key);
    this.#counts.keys++;
    return true;
  }

  get #mayHaveHead(): boolean {
    return this.#mayHaveKeys && this.#rules !== sessionRules.counted;
  }

  #sessionsHead(scan: Scan, start: number): boolean {
    const horizon = scan.varint();
    if (!this.#hasHeader(scan, start)) return false;
    if (horizon > this.expected.index) throw this.#corrupt(start, `no session can have been used at index ${horizon}`);
    this.sink.sessionsHead({ rules: this.#rules, horizon });
    this.#horizon = horizon;
    this.#stage = "sessions";
    return true;
  }

  #session(scan: Scan, start: number): boolean {
    const idBytes = scan.varint();
    const floor = scan.varint();
    const lastUsed = scan.varint();
    if (!this.#hasHeader(scan, start)) return false;
    if (idBytes < 1 || idBytes > limits.clientIdBytes) {
      throw this.#corrupt(start, `a client id cannot have ${idBytes} bytes`);
    }
    if (lastUsed <= this.#horizon || lastUsed > this.expected.index) {
      throw this.#corrupt(start, `a session cannot have been used at index ${lastUsed}`);
    }
    const bytes = scan.take(idBytes);
    if (bytes === undefined) return false;
    if (!this.#lastClientId.isBelow(bytes)) throw this.#corrupt(start, "client ids do not ascend");
    if (this.#counts.sessions === this.bounds.sessions) {
      throw this.#corrupt(start, `it has over ${this.bounds.sessions} sessions`);
    }
    const clientId = this.#text(bytes, start);
    this.#countBytes(sessionBytes(clientId), start);
    this.sink.session({ clientId, floor, lastUsed });
    this.#lastClientId.set(bytes);
    this.#lastSequence = floor;
    this.#answersOfSession = 0;
    this.#counts.sessions++;
    this.#stage = "sessions";
    return true;
  }

  #answer(scan: Scan, start: number): boolean {
    const sequence = scan.varint();
    const length = scan.varint();
    if (!this.#hasHeader(scan, start)) return false;
    if (length > this.#answerBytesMax) throw this.#corrupt(start, `an answer cannot have ${length} bytes`);
    if (sequence <= this.#lastSequence) throw this.#corrupt(start, "a session's answers do not ascend from its floor");
    const most = answersMax(this.#rules, this.bounds);
    if (this.#answersOfSession === most) throw this.#corrupt(start, `a session has over ${most} answers`);
    const answer = scan.take(length);
    if (answer === undefined) return false;
    this.#countBytes(answerBytes(length), start);
    this.sink.answer(sequence, answer);
    this.#lastSequence = sequence;
    this.#answersOfSession++;
    this.#counts.answers++;
    return true;
  }

  /** Largest answer; the first rules remember values of any length. */
  get #answerBytesMax(): number {
    const isCounted = this.#rules === sessionRules.counted;
    return encodedAnswerBytesMax(isCounted ? limits.valueBytes : this.bounds.valueBytes);
  }

  #countBytes(bytes: number, start: number): void {
    this.#sessionBytes += bytes;
    if (this.#rules === sessionRules.counted || this.#sessionBytes <= this.bounds.bytes) return;
    throw this.#corrupt(start, `its sessions count for over ${this.bounds.bytes} bytes`);
  }

  #end(scan: Scan, start: number): boolean {
    const keys = scan.varint();
    const sessions = scan.varint();
    const answers = scan.varint();
    const leases = this.#rules >= sessionRules.leased ? scan.varint() : 0;
    if (!this.#hasHeader(scan, start)) return false;
    const counts = this.#counts;
    if (leases !== counts.leases) {
      throw this.#corrupt(start, `it counts ${leases} leases, but holds ${counts.leases}`);
    }
    const short = this.#leases.missing;
    if (short !== undefined) throw this.#corrupt(start, `lease ${short} has fewer keys than it counts`);
    if (keys !== counts.keys || sessions !== counts.sessions || answers !== counts.answers) {
      const counted = `${keys} keys, ${sessions} sessions and ${answers} answers`;
      const held = `${counts.keys}, ${counts.sessions} and ${counts.answers}`;
      throw this.#corrupt(start, `it counts ${counted}, but holds ${held}`);
    }
    this.#stage = "ended";
    return true;
  }

  /** Returns whether all numbers just read were present; throws when one is malformed. */
  #hasHeader(scan: Scan, start: number): boolean {
    if (scan.malformed) throw this.#corrupt(start, "a number is not in its shortest form, or too large");
    return !scan.short;
  }

  #text(bytes: Uint8Array, start: number): string {
    try {
      return UTF_8.decode(bytes);
    } catch {
      throw this.#corrupt(start, "a client id is not UTF-8");
    }
  }

  #corrupt(at: number, what: string): CairnError {
    const { index, term } = this.expected;
    return new CairnError(
      "CORRUPT",
      `the payload of the snapshot at index ${index} of term ${term} is damaged at byte ${this.#done + at}: ${what}; ` +
        "take the snapshot from another replica",
    );
  }
}

/** Rejects bytes that are not UTF-8, and keeps a byte order mark as a character. */
const UTF_8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const VARINT_BYTES_MAX = 8;

/** A cursor over bytes. Reading past the end returns 0 and sets `short`. */
class Scan {
  readonly #bytes: Buffer;
  at = 0;
  short = false;
  /** A varint was too long or too large. */
  malformed = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  byte(): number {
    if (this.at < this.#bytes.byteLength) return this.#bytes[this.at++]!;
    this.short = true;
    return 0;
  }

  varint(): number {
    let value = 0;
    let factor = 1;
    for (let read = 1; read <= VARINT_BYTES_MAX; read++) {
      const byte = this.byte();
      if (this.short) return 0;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        if ((byte === 0 && read > 1) || value > Number.MAX_SAFE_INTEGER) this.malformed = true;
        return value;
      }
      factor *= 0x80;
    }
    this.malformed = true;
    return 0;
  }

  take(bytes: number): Buffer | undefined {
    if (this.at + bytes > this.#bytes.byteLength) return undefined;
    const taken = this.#bytes.subarray(this.at, this.at + bytes);
    this.at += bytes;
    return taken;
  }
}

/** Keeps a copy of the last bytes, to check that the next ones are above them. */
class LastBytes {
  readonly #bytes: Buffer;
  #length = 0;

  constructor(bytesMax: number) {
    this.#bytes = Buffer.allocUnsafeSlow(bytesMax);
  }

  isBelow(bytes: Uint8Array): boolean {
    return this.#bytes.compare(bytes, 0, bytes.byteLength, 0, this.#length) < 0;
  }

  set(bytes: Uint8Array): void {
    this.#bytes.set(bytes);
    this.#length = bytes.byteLength;
  }
}
