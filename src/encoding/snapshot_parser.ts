import { createHash } from "node:crypto";
import { assert } from "../base/assert.js";
import { CairnError } from "../base/errors.js";
import { Gatherer } from "./gatherer.js";
import type { SnapshotMeasure } from "./snapshot_file.js";
import {
  asBuffer,
  CHUNK_HEAD_BYTES,
  checkCrc,
  corrupt,
  decodePreamble,
  decodeTrailer,
  hex,
  PREAMBLE_BYTES,
  sameBytes,
  TRAILER_BYTES,
} from "./snapshot_format.js";
import { decodeHeader, type SnapshotHeader } from "./snapshot_header.js";

/** The next element that the parser expects. */
type NextElement =
  | { readonly element: "preamble" }
  | { readonly element: "header"; readonly crc: number }
  | { readonly element: "chunk head" }
  | { readonly element: "chunk"; readonly crc: number; readonly head: Buffer }
  | { readonly element: "trailer" }
  | { readonly element: "end of file" };

/**
 * Reads and verifies a snapshot file that arrives in pieces of any size. Memory: at most two
 * chunks. Any error throws CairnError CORRUPT with the name and the offset in the file, and every
 * later call throws the same error.
 *
 * A chunk is verified by its own CRC32 when it is handed out. The payload as a whole is verified
 * only when {@link finish} returns: nothing may build on it before.
 */
export class SnapshotParser {
  readonly #name: string;
  readonly #checkChunk: (chunk: Uint8Array) => void;
  readonly #gatherer = new Gatherer(PREAMBLE_BYTES);
  readonly #hash = createHash("sha256");
  #expected: NextElement = { element: "preamble" };
  /** Offset in the file of the expected element. */
  #offset = 0;
  #header: SnapshotHeader | undefined;
  #chunks = 0;
  #payloadBytes = 0;
  /** End of the last verified chunk; 0 before the first one. */
  #verifiedBytes = 0;
  /** Only the last chunk may be shorter than the header says. */
  #shortChunkSeen = false;
  #measure: SnapshotMeasure | undefined;
  #failure: CairnError | undefined;

  /**
   * @param name names the bytes in error texts: "snapshot file /path", "the snapshot that n1 sends"
   * @param checkChunk receives each chunk of the payload that has passed its CRC32, before it
   * counts as verified, and must not keep it; an error that it throws ends the reading
   */
  constructor(name: string, checkChunk: (chunk: Uint8Array) => void = () => {}) {
    this.#name = name;
    this.#checkChunk = checkChunk;
  }

  /** The header, once it is read. */
  get header(): SnapshotHeader | undefined {
    return this.#header;
  }

  /**
   * Length of the verified prefix of the file, up to the end of a chunk, in bytes: each part has
   * passed its CRC32. 0 before the end of the first chunk, and when the SHA-256 shows that the
   * whole is damaged although its parts passed.
   */
  get verifiedBytes(): number {
    return this.#verifiedBytes;
  }

  /** Whether the whole file is read and verified. */
  get done(): boolean {
    return this.#measure !== undefined;
  }

  /**
   * Takes the file's next bytes; returns the payload chunks that they complete. The chunks may
   * share memory with `bytes` and with the parser: they stay valid until `bytes` changes or the
   * next call.
   */
  push(bytes: Uint8Array): Uint8Array[] {
    return this.#failing(() => {
      const chunks: Uint8Array[] = [];
      for (let rest = asBuffer(bytes); rest.byteLength > 0; ) {
        if (this.#expected.element === "end of file") {
          throw corrupt(this.#name, this.#offset, "there are bytes after the trailer, expected the end of the file");
        }
        const { element, taken } = this.#gatherer.take(rest);
        rest = rest.subarray(taken);
        if (element !== undefined) this.#accept(element, chunks);
      }
      return chunks;
    });
  }

  /**
   * Ends the file and returns its measure; on return the payload is verified. @throws CairnError
   * CORRUPT when the file is incomplete
   */
  finish(): SnapshotMeasure {
    return this.#failing(() => {
      if (this.#measure !== undefined) return this.#measure;
      const got = this.#gatherer.gathered;
      const missing = this.#gatherer.wanted - got;
      throw corrupt(
        this.#name,
        this.#offset + got,
        `the file ends here, expected ${missing} more bytes of the ${this.#expected.element}`,
      );
    });
  }

  /**
   * Discards the bytes after {@link verifiedBytes}, whether incomplete or damaged: the next bytes
   * belong there. The caller must not call it when that is 0, nor after the trailer.
   */
  rewind(): void {
    assert(this.#verifiedBytes > 0 && !this.done, "there is a verified chunk to go back to");
    this.#failure = undefined;
    this.#offset = this.#verifiedBytes;
    this.#expect({ element: "chunk head" }, CHUNK_HEAD_BYTES);
  }

  #failing<Result>(task: () => Result): Result {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      return task();
    } catch (error) {
      this.#failure = CairnError.from(error);
      throw this.#failure;
    }
  }

  #accept(bytes: Buffer, chunks: Uint8Array[]): void {
    const expected = this.#expected;
    if (expected.element === "preamble") this.#acceptPreamble(bytes);
    else if (expected.element === "header") this.#acceptHeader(bytes, expected.crc);
    else if (expected.element === "chunk head") this.#acceptChunkHead(bytes);
    else if (expected.element === "chunk") chunks.push(this.#acceptChunk(bytes, expected));
    else this.#acceptTrailer(bytes);
  }

  #acceptPreamble(bytes: Buffer): void {
    const { headerBytes, headerCrc } = decodePreamble(bytes, this.#name);
    this.#hash.update(bytes);
    this.#offset += PREAMBLE_BYTES;
    this.#expect({ element: "header", crc: headerCrc }, headerBytes);
  }

  #acceptHeader(bytes: Buffer, crc: number): void {
    checkCrc(bytes, crc, this.#name, this.#offset, "the header");
    this.#header = decodeHeader(bytes, this.#name);
    this.#hash.update(bytes);
    this.#offset += bytes.byteLength;
    this.#expect({ element: "chunk head" }, CHUNK_HEAD_BYTES);
  }

  /**
   * Handles a chunk's length and CRC32, or the start of the trailer, which has 0 in place of the
   * length.
   */
  #acceptChunkHead(bytes: Buffer): void {
    const length = bytes.readUInt32LE(0);
    if (length === 0) {
      this.#gatherer.extend(bytes, TRAILER_BYTES);
      this.#expected = { element: "trailer" };
      return;
    }
    const { chunkBytes } = this.#header!;
    if (length > chunkBytes) {
      throw corrupt(
        this.#name,
        this.#offset,
        `chunk ${this.#chunks} has length ${length}, expected 1 to ${chunkBytes}`,
      );
    }
    if (this.#shortChunkSeen) {
      throw corrupt(this.#name, this.#offset, `chunk ${this.#chunks} follows a short one, expected the trailer`);
    }
    this.#offset += CHUNK_HEAD_BYTES;
    // The head counts only once the chunk is verified, so that a failure leaves nothing to undo.
    this.#expect({ element: "chunk", crc: bytes.readUInt32LE(4), head: Buffer.from(bytes) }, length);
  }

  #acceptChunk(bytes: Buffer, { crc, head }: NextElement & { element: "chunk" }): Uint8Array {
    checkCrc(bytes, crc, this.#name, this.#offset, `chunk ${this.#chunks}`);
    this.#checkChunk(bytes);
    this.#hash.update(head).update(bytes);
    this.#offset += bytes.byteLength;
    this.#verifiedBytes = this.#offset;
    this.#chunks += 1;
    this.#payloadBytes += bytes.byteLength;
    this.#shortChunkSeen = bytes.byteLength < this.#header!.chunkBytes;
    this.#expect({ element: "chunk head" }, CHUNK_HEAD_BYTES);
    return bytes;
  }

  #acceptTrailer(bytes: Buffer): void {
    const trailer = decodeTrailer(bytes, this.#name, this.#offset);
    this.#checkCount("chunks", trailer.chunks, this.#chunks);
    this.#checkCount("payload bytes", trailer.payloadBytes, this.#payloadBytes);
    const sha256 = this.#hash.digest();
    if (!sameBytes(sha256, trailer.sha256)) {
      this.#verifiedBytes = 0;
      throw corrupt(this.#name, this.#offset, `its SHA-256 is ${hex(sha256)}, expected ${hex(trailer.sha256)}`);
    }
    this.#offset += TRAILER_BYTES;
    this.#measure = { fileBytes: this.#offset, payloadBytes: this.#payloadBytes, sha256: trailer.sha256 };
    this.#expected = { element: "end of file" };
  }

  #checkCount(what: string, expected: number, actual: number): void {
    if (actual === expected) return;
    throw corrupt(this.#name, this.#offset, `it holds ${actual} ${what}, expected ${expected} as the trailer says`);
  }

  #expect(expected: NextElement, bytes: number): void {
    this.#expected = expected;
    this.#gatherer.want(bytes);
  }
}
