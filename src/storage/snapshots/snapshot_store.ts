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
import { inspectHeader, inspectSnapshot, nameOf, type SnapshotOwner } from "./inspect.js";
import type { PartFile } from "./part_file.js";
import { PartFiles } from "./part_files.js";
import type { PayloadChecker } from "./payload_check.js";
import { checkOffer, SnapshotReceiver } from "./receiver.js";
import type { DamagedSnapshot, SnapshotInfo, SnapshotOffer, StoreLogger } from "./snapshot_info.js";

export interface SnapshotStoreOptions {
  readonly fs: FileSystem;
  /** Absolute path; made when it is not there. Nobody else may write in it. */
  readonly directory: string;
  readonly clusterId: string;
  /** Snapshot that the cluster began with: accepted by its digest, whatever cluster it names. */
  readonly base?: Base | undefined;
  /**
   * Checks the payloads of snapshots that are received. Left out: a state machine's affair when it
   * loads them.
   */
  readonly checkPayload?: PayloadChecker | undefined;
  /** Told of what an operator may want to know: files removed, damage found. */
  readonly logger?: StoreLogger;
}

/**
 * The snapshots of one node: a directory of immutable, verified files. A file is one of its
 * snapshots from when it has its final name, durably, until it is found damaged or retention
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
   * Opens a directory: removes what was left half-written, except one received part that {@link
   * receive} may go on with, and looks at the header and trailer of every snapshot. Payloads are
   * not read; see {@link verify}.
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

  /** All snapshots, newest first: by index, then by term. */
  list(): readonly SnapshotInfo[] {
    return this.#catalog.snapshots;
  }

  newest(): SnapshotInfo | undefined {
    return this.#catalog.snapshots[0];
  }

  /**
   * Files found damaged, when the store was opened or since. They are kept until the same snapshot
   * is published again.
   */
  damaged(): readonly DamagedSnapshot[] {
    return this.#catalog.damaged;
  }

  /**
   * Writes a snapshot and publishes it: it is durable on return. Any error, the payload's own
   * included, leaves the store as it was. Throws DISK_FULL; CANCELLED when the signal is set before
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
   * The same with a file that comes encoded already: `encode` must do as {@link encodeSnapshot}
   * does. Called once.
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
   * Starts to take a snapshot file from another node, or goes on: what an earlier transfer of the
   * same snapshot has left is verified, which takes a second for some hundred MB, and {@link
   * SnapshotReceiver.offset} says where the next bytes belong. What was left of another snapshot is
   * removed. What the store's `checkPayload` refuses is not received. Throws INVALID_ARGUMENT for a
   * bad offer, BUSY when the same snapshot is being received already: abort that transfer first;
   * CANCELLED when the signal is set before it is verified; DISK_FULL when there is no room for the
   * rest of it.
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
   * Bytes that a transfer of this snapshot has left, for {@link receive} to go on with as far as
   * they are good.
   */
  async receivedBytes(offer: SnapshotOffer): Promise<number> {
    checkOffer(offer);
    return this.#parts.bytesOf(offer);
  }

  /** Reads the whole file; throws CORRUPT with its name and the offset of what is wrong. */
  async verify(info: SnapshotInfo): Promise<void> {
    for await (const _ of this.#reading(info, readVerified(this.#fs, info, limits.snapshotWriteBytes)));
  }

  /**
   * The payload's chunks, read with constant memory. A chunk is valid until the next one is asked
   * for. The payload is good only when the iteration has ended: it throws CORRUPT at any point up
   * to its end. NOT_FOUND when retention has removed the file.
   */
  async *openPayload(info: SnapshotInfo): AsyncGenerator<Uint8Array, void, void> {
    const pieces = readVerified(this.#fs, info, limits.snapshotWriteBytes);
    for await (const { chunks } of this.#reading(info, pieces)) yield* chunks;
  }

  /**
   * The file's bytes from `offset` on, as they are on the disk, in pieces of `chunkBytes` (1 to
   * limits.transferChunkBytes; the last one may be shorter), for a receiver that verifies them. A
   * piece is valid until the next one is asked for.
   */
  async *readFile(info: SnapshotInfo, offset: number, chunkBytes: number): AsyncGenerator<Uint8Array, void, void> {
    checkRange("offset", offset, 0, info.fileBytes);
    checkRange("chunkBytes", chunkBytes, 1, limits.transferChunkBytes);
    yield* this.#reading(info, readPieces(this.#fs, info, offset, chunkBytes));
  }

  /**
   * The whole file in the same way, verified: CORRUPT is thrown before a bad piece is handed out.
   */
  async *readGoodFile(info: SnapshotInfo, chunkBytes: number): AsyncGenerator<Uint8Array, void, void> {
    checkRange("chunkBytes", chunkBytes, 1, limits.transferChunkBytes);
    for await (const { bytes } of this.#reading(info, readVerified(this.#fs, info, chunkBytes))) yield bytes;
  }

  /**
   * Removes all but the newest `count` snapshots and those that are pinned; returns the ones
   * removed. Durable on return. Damaged files stay and do not count.
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
   * Keeps {@link retain} from removing a snapshot until the returned function is called; it may be
   * called more than once.
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

  /** Better to refuse now than to fill the disk and fail. */
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

  /** Takes a file found on disk into the catalog, as a snapshot or as damaged. */
  async #take(path: string): Promise<void> {
    try {
      this.#catalog.add(await inspectSnapshot(this.#fs, path, this.#owner));
    } catch (error) {
      this.#markDamaged(path, error, await inspectHeader(this.#fs, path, this.#owner.clusterId));
    }
  }

  /**
   * Takes what is damaged off the list of snapshots; throws any error that says nothing about the
   * file.
   */
  #markDamaged(path: string, error: unknown, meta: SnapshotMeta | undefined): void {
    const reason = damageReason(error);
    if (reason === undefined) throw error;
    this.#catalog.markDamaged({ path, reason, meta });
    this.#logger?.warn({ path, reason }, "found a snapshot that must not be used");
  }

  /**
   * Reads of a snapshot: it is pinned meanwhile, and leaves the list when it is found to be corrupt
   * or gone.
   */
  async *#reading<Piece>(info: SnapshotInfo, pieces: AsyncIterable<Piece>): AsyncGenerator<Piece, void, void> {
    const release = this.pin(info);
    try {
      yield* pieces;
    } catch (error) {
      // Damaged, or gone though nobody here has removed it.
      const isLost = hasCode(error, "CORRUPT") || hasCode(error, "NOT_FOUND");
      // A file that was published again since is not the one that was read.
      if (isLost && this.list().includes(info)) this.#markDamaged(info.path, error, metaOf(info));
      throw error;
    } finally {
      release();
    }
  }

  /** Gives a sealed file its final name, and makes it one of the snapshots once that is durable. */
  #publish(part: PartFile, info: SnapshotInfo): Promise<SnapshotInfo> {
    return this.#changes.run(async () => {
      try {
        checkSameDigest(this.#catalog.find(info), info);
        // Also when it is there: the bytes are the same, and these ones were written just now.
        await part.rename(info.path);
      } catch (error) {
        // When there is room again, the same file can still be published.
        if (!hasCode(error, "DISK_FULL")) await part.remove();
        throw error;
      }
      await this.#fs.syncDirectory(this.#directory);
      // Looked up only now: a reader may meanwhile have found the one before to be damaged.
      const existing = this.#catalog.find(info);
      if (existing !== undefined) return existing;
      this.#catalog.add(info);
      // One that cannot be removed goes when the store is opened next.
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

/** Equal positions have equal files; anything else means that replicas or runs have diverged. */
function checkSameDigest(existing: SnapshotInfo | undefined, info: SnapshotInfo): void {
  if (existing === undefined || sameBytes(existing.sha256, info.sha256)) return;
  throw new CairnError(
    "CORRUPT",
    `a snapshot with SHA-256 ${hex(info.sha256)} was to become ${nameOf(info.path)}, which is there with SHA-256 ` +
      `${hex(existing.sha256)}: the state is not the same function of the log; compare the members' snapshots`,
  );
}

/** Why a file must not be used; undefined when the error says nothing about the file. */
function damageReason(error: unknown): string | undefined {
  if (error instanceof CairnError) {
    return ["CORRUPT", "WRONG_CLUSTER", "NOT_FOUND"].includes(error.code) ? error.text : undefined;
  }
  const { code, message } = error as NodeJS.ErrnoException;
  // A file that the disk cannot read, that is gone, or that is a directory.
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
