import { dirname, join } from "node:path";
import { assert } from "../../base/assert.js";
import { CairnError, hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { encodeSnapshot } from "../../encoding/snapshot_encoder.js";
import type { SnapshotMeasure } from "../../encoding/snapshot_file.js";
import { hex, sameBytes } from "../../encoding/snapshot_format.js";
import type { SnapshotHeader } from "../../encoding/snapshot_header.js";
import type { Base } from "../../raft/membership/introduction.js";
import type { LogPosition, SnapshotMeta } from "../../raft/types.js";
import type { FileSystem } from "../../system/fs.js";
import { Serial } from "../../system/serial.js";
import { abortable, checkNotAborted } from "./abortable.js";
import { SnapshotCatalog } from "./catalog.js";
import { PART_EXTENSION, SNAPSHOT_EXTENSION, snapshotFileName } from "./file_names.js";
import { readPieces, readVerified } from "./file_reader.js";
import { inspectHeader, inspectSnapshot, type SnapshotOwner, snapshotLabel } from "./inspect.js";
import type { PartFile } from "./part_file.js";
import { PartFiles } from "./part_files.js";
import type { PayloadChecker } from "./payload_check.js";
import { checkOffer, SnapshotReceiver } from "./receiver.js";
import type { DamagedSnapshot, SnapshotInfo, SnapshotOffer, StoreLogger } from "./snapshot_info.js";

// Writes, receives, reads and removes the snapshot files of one node.

export interface SnapshotStoreOptions {
  readonly fs: FileSystem;
  /** Absolute path; made when it is missing. No other process may write in it. */
  readonly directory: string;
  readonly clusterId: string;
  /** Snapshot that the cluster began with: accepted by its digest, whatever cluster it names. */
  readonly base?: Base | undefined;
  /**
   * Checks the payloads of received snapshots. Without it, a bad payload shows only when the state
   * machine loads it.
   */
  readonly checkPayload?: PayloadChecker | undefined;
  /** Receives messages for the operator: files removed, damage found. */
  readonly logger?: StoreLogger;
}

/**
 * The snapshots of one node: a directory of immutable, verified files. A file is one of its
 * snapshots from the moment its final name is durable until it is found damaged or retention
 * removes it. Any number of calls may run at the same time.
 */
export class SnapshotStore {
  readonly #fs: FileSystem;
  readonly #directory: string;
  readonly #owner: SnapshotOwner;
  readonly #logger: StoreLogger | undefined;
  readonly #checkPayload: PayloadChecker | undefined;
  readonly #catalog = new SnapshotCatalog();
  /** Runs the changes of the directory's snapshots one at a time. */
  readonly #changes = new Serial();
  readonly #parts: PartFiles;
  /** Number of readers of each path. */
  readonly #pins = new Map<string, number>();

  private constructor(options: SnapshotStoreOptions) {
    this.#fs = options.fs;
    this.#directory = options.directory;
    this.#owner = { clusterId: options.clusterId, base: options.base };
    this.#logger = options.logger;
    this.#checkPayload = options.checkPayload;
    this.#parts = new PartFiles(options.fs, options.directory, options.logger);
  }

  /**
   * Opens a directory: reads the header and trailer of every snapshot, and removes unfinished
   * files, except one received part that {@link receive} may resume with. Does not read payloads;
   * see {@link verify}.
   */
  static async open(options: SnapshotStoreOptions): Promise<SnapshotStore> {
    const store = new SnapshotStore(options);
    await store.#makeDirectory();
    const names = (await options.fs.list(options.directory)).sort();
    for (const name of names) {
      if (name.endsWith(SNAPSHOT_EXTENSION)) await store.#take(join(options.directory, name));
    }
    const parts = names.filter((name) => name.endsWith(PART_EXTENSION));
    await store.#parts.tidy(parts, store.newest()?.index ?? 0);
    return store;
  }

  /** Returns all snapshots, newest first: by index, then by term. */
  list(): readonly SnapshotInfo[] {
    return this.#catalog.snapshots;
  }

  newest(): SnapshotInfo | undefined {
    return this.#catalog.snapshots[0];
  }

  /**
   * Returns the files found damaged, when the store was opened or since. A file is kept until the
   * same snapshot is published again.
   */
  damaged(): readonly DamagedSnapshot[] {
    return this.#catalog.damaged;
  }

  /**
   * Writes a snapshot and publishes it: it is durable on return. Any error, the payload's own
   * included, leaves the store unchanged. Throws DISK_FULL; CANCELLED when the signal is set before
   * it is published; BUSY when one at this index and term is being written; CORRUPT when the store
   * has a snapshot of this index and term with another digest; STORAGE_FAILED.
   */
  async write(
    meta: SnapshotMeta,
    payload: AsyncIterable<Uint8Array>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<SnapshotInfo> {
    return this.writeEncoded(meta, (header) => encodeSnapshot(header, payload), options);
  }

  /**
   * Writes a snapshot as {@link write} does, from a file that is encoded already: `encode` must do
   * as {@link encodeSnapshot} does. Calls it once.
   */
  async writeEncoded(
    meta: SnapshotMeta,
    encode: (header: SnapshotHeader) => AsyncGenerator<Uint8Array, SnapshotMeasure, void>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<SnapshotInfo> {
    const { signal } = options;
    checkNotAborted(signal);
    const header = { clusterId: this.#owner.clusterId, meta, chunkBytes: limits.snapshotChunkBytes };
    const part = await this.#parts.create(meta);
    try {
      const measure = await appendAll(part, abortable(encode(header), signal));
      await part.seal();
      checkNotAborted(signal);
      const { index, term, membership } = meta;
      return await this.#publish(part, { index, term, membership, ...measure, path: this.#pathOf(meta) });
    } catch (error) {
      await part.remove();
      throw error;
    }
  }

  /**
   * Starts or resumes receiving a snapshot file from another node. Verifies the bytes that an
   * earlier transfer of the same snapshot left, which takes a second for some hundred MB;
   * {@link SnapshotReceiver.offset} then says where the next bytes belong. Removes the parts of
   * other snapshots. Rejects a payload that the store's `checkPayload` refuses. Throws
   * INVALID_ARGUMENT for a bad offer, BUSY when the same snapshot is being received already: abort
   * that transfer first; CANCELLED when the signal is set before the bytes are verified; DISK_FULL
   * when there is no room for the rest.
   */
  async receive(offer: SnapshotOffer, options: { readonly signal?: AbortSignal } = {}): Promise<SnapshotReceiver> {
    checkOffer(offer);
    const part = await this.#parts.open(offer);
    const receiver = new SnapshotReceiver(offer, {
      owner: this.#owner,
      part,
      path: this.#pathOf(offer),
      checkPayload: this.#checkPayload,
      publish: (info) => this.#publish(part, info),
    });
    await receiver.resume(options.signal);
    try {
      await this.#checkRoom(offer.fileBytes - receiver.offset);
      return receiver;
    } catch (error) {
      await receiver.abort();
      throw error;
    }
  }

  /**
   * Returns the bytes that a transfer of this snapshot left. {@link receive} resumes with those
   * that are good.
   */
  async receivedBytes(offer: SnapshotOffer): Promise<number> {
    checkOffer(offer);
    return this.#parts.bytesOf(offer);
  }

  /**
   * Reads and verifies the whole file. Throws CORRUPT with its name and the offset of the damage.
   */
  async verify(info: SnapshotInfo): Promise<void> {
    for await (const _ of this.#reading(info, readVerified(this.#fs, info, limits.snapshotWriteBytes)));
  }

  /**
   * Yields the payload's chunks in constant memory. A chunk is valid until the caller asks for the
   * next. The payload is good only when the iteration has ended: it may throw CORRUPT at any point
   * up to its end. Throws NOT_FOUND when retention has removed the file.
   */
  async *openPayload(info: SnapshotInfo): AsyncGenerator<Uint8Array, void, void> {
    const pieces = readVerified(this.#fs, info, limits.snapshotWriteBytes);
    for await (const { chunks } of this.#reading(info, pieces)) yield* chunks;
  }

  /**
   * Yields the file's bytes from `offset` on, not verified, in pieces of `chunkBytes` (1 to
   * limits.transferChunkBytes; the last one may be shorter), for a receiver that verifies them. A
   * piece is valid until the caller asks for the next.
   */
  async *readFile(info: SnapshotInfo, offset: number, chunkBytes: number): AsyncGenerator<Uint8Array, void, void> {
    checkRange("offset", offset, 0, info.fileBytes);
    checkRange("chunkBytes", chunkBytes, 1, limits.transferChunkBytes);
    yield* this.#reading(info, readPieces(this.#fs, info, offset, chunkBytes));
  }

  /**
   * Yields the whole file in the same way, verified: throws CORRUPT before it yields a bad piece.
   */
  async *readGoodFile(info: SnapshotInfo, chunkBytes: number): AsyncGenerator<Uint8Array, void, void> {
    checkRange("chunkBytes", chunkBytes, 1, limits.transferChunkBytes);
    for await (const { bytes } of this.#reading(info, readVerified(this.#fs, info, chunkBytes))) yield bytes;
  }

  /**
   * Removes all but the newest `count` snapshots and the pinned ones; returns the removed ones.
   * Durable on return. Damaged files stay and do not count.
   */
  retain(count: number = limits.snapshotsKept): Promise<readonly SnapshotInfo[]> {
    assert(Number.isSafeInteger(count) && count >= 1, "at least one snapshot is kept", { count });
    return this.#changes.run(async () => {
      const unwanted = this.list()
        .slice(count)
        .filter((info) => !this.#pins.has(info.path));
      for (const info of unwanted) await this.#remove(info);
      if (unwanted.length > 0) await this.#fs.syncDirectory(this.#directory);
      return unwanted;
    });
  }

  /**
   * Keeps {@link retain} from removing a snapshot until the returned function is called; that may
   * happen more than once.
   */
  pin(info: SnapshotInfo): () => void {
    this.#pins.set(info.path, (this.#pins.get(info.path) ?? 0) + 1);
    let pinned = true;
    return () => {
      if (!pinned) return;
      pinned = false;
      const others = this.#pins.get(info.path)! - 1;
      if (others > 0) this.#pins.set(info.path, others);
      else this.#pins.delete(info.path);
    };
  }

  /** Refuses a transfer now that would fill the disk later. */
  async #checkRoom(neededBytes: number): Promise<void> {
    const available = await this.#fs.availableBytes(this.#directory);
    if (neededBytes + limits.receiveReserveBytes <= available) return;
    const text = `${neededBytes} more bytes of the snapshot, and ${limits.receiveReserveBytes} to spare`;
    throw new CairnError("DISK_FULL", `${this.#directory} has room for ${available} bytes, expected ${text}`);
  }

  async #makeDirectory(): Promise<void> {
    if (await this.#fs.exists(this.#directory)) return;
    await this.#fs.makeDirectory(this.#directory);
    await this.#fs.syncDirectory(dirname(this.#directory));
  }

  /** Adds a file found on disk to the catalog, as a snapshot or as damaged. */
  async #take(path: string): Promise<void> {
    try {
      this.#catalog.add(await inspectSnapshot(this.#fs, path, this.#owner));
    } catch (error) {
      this.#markDamaged(path, error, await inspectHeader(this.#fs, path, this.#owner.clusterId));
    }
  }

  /**
   * Moves a file from the snapshots to the damaged ones; rethrows an error that says nothing about
   * the file.
   */
  #markDamaged(path: string, error: unknown, meta: SnapshotMeta | undefined): void {
    const reason = damageReason(error);
    if (reason === undefined) throw error;
    this.#catalog.markDamaged({ path, reason, meta });
    this.#logger?.warn({ path, reason }, "found a snapshot that must not be used");
  }

  /**
   * Runs a read of a snapshot. Pins it meanwhile, and takes it off the list when it is found to be
   * corrupt or gone.
   */
  async *#reading<Piece>(info: SnapshotInfo, pieces: AsyncIterable<Piece>): AsyncGenerator<Piece, void, void> {
    const release = this.pin(info);
    try {
      yield* pieces;
    } catch (error) {
      // The file is damaged, or gone although this process did not remove it.
      const isLost = hasCode(error, "CORRUPT") || hasCode(error, "NOT_FOUND");
      // A file that was published again since is not the one that was read.
      if (isLost && this.list().includes(info)) this.#markDamaged(info.path, error, metaOf(info));
      throw error;
    } finally {
      release();
    }
  }

  /** Gives a sealed file its final name, and adds it to the snapshots once that is durable. */
  #publish(part: PartFile, info: SnapshotInfo): Promise<SnapshotInfo> {
    return this.#changes.run(async () => {
      try {
        checkSameDigest(this.#catalog.find(info), info);
        // Also over the same snapshot: the bytes are equal, and these were just written.
        await part.rename(info.path);
      } catch (error) {
        // The same file can be published later, when there is room.
        if (!hasCode(error, "DISK_FULL")) await part.remove();
        throw error;
      }
      await this.#fs.syncDirectory(this.#directory);
      // Looked up only now: a reader may have found the previous file to be damaged meanwhile.
      const existing = this.#catalog.find(info);
      if (existing !== undefined) return existing;
      this.#catalog.add(info);
      // The next opening of the store removes a part that this cannot.
      await this.#parts.removeUpTo(info.index).catch(() => undefined);
      return info;
    });
  }

  async #remove(info: SnapshotInfo): Promise<void> {
    await this.#fs.unlink(info.path).catch(unlessGone);
    this.#catalog.remove(info);
    this.#logger?.info({ path: info.path }, "removed an old snapshot");
  }

  #pathOf(position: LogPosition): string {
    return join(this.#directory, snapshotFileName(position));
  }
}

async function appendAll(
  part: PartFile,
  encoder: AsyncGenerator<Uint8Array, SnapshotMeasure, void>,
): Promise<SnapshotMeasure> {
  let bytes = 0;
  for (;;) {
    const step = await encoder.next();
    if (step.done) {
      assert(bytes === step.value.fileBytes, "a file has the size that its encoder measures", { bytes, ...step.value });
      return step.value;
    }
    bytes += step.value.byteLength;
    try {
      await part.append(step.value);
    } catch (error) {
      // Ends the payload's iteration, so that it can clean up.
      await encoder.throw(error).catch(() => undefined);
      throw error;
    }
  }
}

/** Throws CORRUPT for two digests at one position: replicas, or runs, have diverged. */
function checkSameDigest(existing: SnapshotInfo | undefined, info: SnapshotInfo): void {
  if (existing === undefined || sameBytes(existing.sha256, info.sha256)) return;
  throw new CairnError(
    "CORRUPT",
    `a snapshot with SHA-256 ${hex(info.sha256)} was to become ${snapshotLabel(info.path)}, which is there with SHA-256 ` +
      `${hex(existing.sha256)}: the state is not the same function of the log; compare the members' snapshots`,
  );
}

/** Returns why a file must not be used; undefined when the error says nothing about the file. */
function damageReason(error: unknown): string | undefined {
  if (error instanceof CairnError) {
    return ["CORRUPT", "WRONG_CLUSTER", "NOT_FOUND"].includes(error.code) ? error.text : undefined;
  }
  const { code, message } = error as NodeJS.ErrnoException;
  // The disk cannot read the file, or the file is gone or a directory.
  return code !== undefined && ["EIO", "ENOENT", "EISDIR"].includes(code) ? message : undefined;
}

function unlessGone(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}

function checkRange(name: string, value: number, least: number, most: number): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  throw new CairnError("INVALID_ARGUMENT", `${name} is ${value}, expected ${least} to ${most}`);
}

function metaOf({ index, term, membership }: SnapshotInfo): SnapshotMeta {
  return { index, term, membership };
}
