import { counterProblem } from "../../base/counters.js";
import { CairnError, type CairnErrorCode } from "../../base/errors.js";
import { hex, SHA256_BYTES, SMALLEST_FILE_BYTES, sameBytes, TRAILER_BYTES } from "../../encoding/snapshot_format.js";
import type { SnapshotHeader } from "../../encoding/snapshot_header.js";
import { SnapshotParser } from "../../encoding/snapshot_parser.js";
import type { SnapshotMeta } from "../../raft/types.js";
import { Serial } from "../../system/serial.js";
import { checkSnapshotCluster, type SnapshotOwner } from "./inspect.js";
import type { PartFile } from "./part_file.js";
import type { PayloadCheck, PayloadChecker } from "./payload_check.js";
import type { SnapshotInfo, SnapshotOffer } from "./snapshot_info.js";
import { StagedSnapshot } from "./staged_snapshot.js";

// Receives a snapshot file from another node.

/** Destination of a received file, and the checks that the file must pass. */
export interface ReceiverTarget {
  readonly owner: SnapshotOwner;
  readonly part: PartFile;
  /** Path of the snapshot once it is published. */
  readonly path: string;
  readonly checkPayload?: PayloadChecker | undefined;
  publish(info: SnapshotInfo): Promise<SnapshotInfo>;
}

/** Throws INVALID_ARGUMENT for an offer that no file can fulfil. */
export function checkOffer({ index, term, fileBytes, sha256 }: SnapshotOffer): void {
  const problems = {
    index: counterProblem(index, "indexMax", 1),
    term: counterProblem(term, "termMax", 1),
    fileBytes: counterProblem(fileBytes, "countMax", SMALLEST_FILE_BYTES),
  };
  for (const [name, problem] of Object.entries(problems)) {
    if (problem !== undefined) throw invalid(`snapshot offer: ${name} is ${problem}`);
  }
  if (sha256.byteLength !== SHA256_BYTES) {
    throw invalid(`snapshot offer: sha256 has ${sha256.byteLength} bytes, expected ${SHA256_BYTES}`);
  }
}

/**
 * Receives a snapshot file from another node, and verifies every piece before it goes to disk. Any
 * error ends the transfer; later calls throw the same error. Keeps the received bytes when the next
 * transfer of the same snapshot can resume with them; otherwise removes the file. Calls may
 * overlap: they run one after the other.
 */
export class SnapshotReceiver {
  readonly #offer: SnapshotOffer;
  readonly #target: ReceiverTarget;
  readonly #name: string;
  #parser: SnapshotParser;
  readonly #calls = new Serial();
  #offset = 0;
  #header: SnapshotHeader | undefined;
  #payload: PayloadCheck | undefined;
  /** Reason why the receiver takes no more bytes. */
  #ended: CairnError | undefined;
  #isAborted = false;
  /** The received bytes are of no use to a later transfer. */
  #isWorthless = false;

  constructor(offer: SnapshotOffer, target: ReceiverTarget) {
    this.#offer = offer;
    this.#target = target;
    this.#name = `the snapshot offered at index ${offer.index} of term ${offer.term}`;
    this.#parser = this.#newParser();
  }

  /**
   * Bytes of the file that are received and checked, which is also the offset of the next bytes.
   * Not durable before {@link finish}.
   */
  get offset(): number {
    return this.#offset;
  }

  /**
   * Resumes with the bytes of an earlier transfer, up to the last chunk that is whole and good:
   * bytes behind it may be torn. The trailer is always received again, so that each transfer has an
   * end. Call it first. Throws CANCELLED when the signal is set or the transfer is aborted.
   */
  resume(signal?: AbortSignal): Promise<void> {
    return this.#run(async () => {
      const { part } = this.#target;
      if (!part.isLeftOver) return;
      if (await this.#takesLeftOver(signal)) this.#parser.rewind();
      else this.#startOver();
      this.#offset = this.#parser.verifiedBytes;
      await part.goOnAt(this.#offset);
    });
  }

  /**
   * Writes the bytes at `offset`, which must be {@link offset}. The caller must not change them
   * until the promise is settled. Throws INVALID_ARGUMENT for another offset, for more bytes than
   * were offered and for another index or term, WRONG_CLUSTER, CORRUPT for damaged bytes and for a
   * payload that is not this state machine's, DISK_FULL, and the file system's errors.
   */
  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#run(async () => {
      this.#checkPlace(offset, data.byteLength);
      this.#take(data);
      await this.#target.part.append(data);
      this.#offset += data.byteLength;
    });
  }

  /**
   * Verifies the whole file; call it after the last byte. The bytes are durable on return, and the
   * snapshot is not published. An error removes the file.
   */
  finish(): Promise<StagedSnapshot> {
    return this.#run(async () => {
      this.#isWorthless = true;
      const { part, path } = this.#target;
      const { fileBytes, payloadBytes, sha256 } = this.#parser.finish();
      this.#payloadOf(this.#header!)?.finish();
      if (fileBytes !== this.#offer.fileBytes) {
        throw invalid(`${this.#name} has ${fileBytes} bytes, expected ${this.#offer.fileBytes} as offered`);
      }
      if (!sameBytes(sha256, this.#offer.sha256)) {
        throw new CairnError(
          "CORRUPT",
          `${this.#name} has the SHA-256 ${hex(sha256)}, expected ${hex(this.#offer.sha256)} as offered; offer it again`,
        );
      }
      await part.seal();
      this.#ended = new CairnError(
        "FAILED_PRECONDITION",
        `${this.#name} was received; offer it again to send it again`,
      );
      const info = { ...this.#header!.meta, fileBytes, payloadBytes, sha256, path };
      return new StagedSnapshot(info, part, this.#target.publish);
    });
  }

  /** Ends the transfer; never throws. Does nothing once the transfer has ended. */
  abort(): Promise<void> {
    this.#isAborted = true;
    return this.#calls.run(async () => {
      if (this.#ended !== undefined) return;
      await this.#end(this.#givenUp());
    });
  }

  /**
   * Reads and checks the bytes that were left; returns whether the transfer can resume with them.
   */
  async #takesLeftOver(signal: AbortSignal | undefined): Promise<boolean> {
    try {
      for await (const bytes of this.#target.part.leftOver(this.#offer.fileBytes - TRAILER_BYTES)) {
        if (this.#isAborted || signal?.aborted) throw this.#givenUp();
        this.#take(bytes);
      }
    } catch (error) {
      const { code } = CairnError.from(error);
      if (code === "CANCELLED") throw error;
      // The part is another snapshot's, or not this machine's. After any other error (damage, or a
      // place that the disk cannot read) the part is cut off there.
      if (this.#header === undefined || this.#isWorthless) return false;
    }
    return this.#parser.verifiedBytes > 0 && !this.#parser.done;
  }

  #newParser(): SnapshotParser {
    return new SnapshotParser(this.#name, (chunk) => this.#checkChunk(chunk));
  }

  #startOver(): void {
    this.#parser = this.#newParser();
    this.#header = undefined;
    this.#payload = undefined;
    this.#isWorthless = false;
  }

  #givenUp(): CairnError {
    return new CairnError("CANCELLED", `${this.#name} was given up; offer it again`);
  }

  #run<Result>(task: () => Promise<Result>): Promise<Result> {
    return this.#calls.run(async () => {
      if (this.#ended !== undefined) throw this.#ended;
      try {
        return await task();
      } catch (error) {
        await this.#end(CairnError.from(error));
        throw error;
      }
    });
  }

  async #end(why: CairnError): Promise<void> {
    this.#ended = why;
    const { part } = this.#target;
    const hasChunk = this.#header !== undefined && this.#parser.verifiedBytes > 0;
    const isOfUse = part.isLeftOver || (hasChunk && !this.#isWorthless);
    if (isOfUse && KEPT_ON.has(why.code)) await part.keep();
    else await part.remove();
  }

  #checkPlace(offset: number, bytes: number): void {
    if (offset !== this.#offset) {
      throw invalid(`${this.#name}: bytes at offset ${offset}, expected offset ${this.#offset}`);
    }
    if (offset + bytes > this.#offer.fileBytes) {
      throw invalid(
        `${this.#name}: bytes up to ${offset + bytes}, expected ${this.#offer.fileBytes} in all as offered`,
      );
    }
  }

  /** Reads the next bytes, and checks everything that they say before anything relies on it. */
  #take(bytes: Uint8Array): void {
    this.#parser.push(bytes);
    this.#checkHeader();
  }

  #checkChunk(chunk: Uint8Array): void {
    this.#checkHeader();
    try {
      this.#payloadOf(this.#header!)?.push(chunk);
    } catch (error) {
      // The sender wrote these bytes: no other transfer of the file can be better.
      this.#isWorthless = true;
      throw error;
    }
  }

  #payloadOf({ meta }: SnapshotHeader): PayloadCheck | undefined {
    this.#payload ??= this.#target.checkPayload?.(meta);
    return this.#payload;
  }

  #checkHeader(): void {
    if (this.#header !== undefined || this.#parser.header === undefined) return;
    checkSnapshotCluster(this.#name, this.#parser.header, this.#target.owner, this.#offer.sha256);
    this.#checkPosition(this.#parser.header.meta);
    this.#header = this.#parser.header;
  }

  #checkPosition({ index, term }: SnapshotMeta): void {
    if (index === this.#offer.index && term === this.#offer.term) return;
    throw invalid(`${this.#name} is one at index ${index} of term ${term}; offer it as what it is`);
  }
}

/**
 * Codes of errors that do not discredit the bytes received before them. DISK_FULL is not one:
 * removing the part frees its room.
 */
const KEPT_ON: ReadonlySet<CairnErrorCode> = new Set(["CANCELLED", "CORRUPT", "INVALID_ARGUMENT"]);

function invalid(text: string): CairnError {
  return new CairnError("INVALID_ARGUMENT", text);
}
