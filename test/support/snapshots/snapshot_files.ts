import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { CairnError, type CairnErrorCode } from "../../../src/base/errors.js";
import { limits } from "../../../src/base/limits.js";
import { encodeSnapshot } from "../../../src/encoding/snapshot_encoder.js";
import type { SnapshotHeader } from "../../../src/encoding/snapshot_header.js";
import type { SnapshotMeta } from "../../../src/raft/types.js";
import type { SnapshotInfo, SnapshotOffer } from "../../../src/storage/snapshots/snapshot_info.js";
import { SnapshotStore } from "../../../src/storage/snapshots/snapshot_store.js";
import { type File, type FileSystem, nodeFileSystem } from "../../../src/system/fs.js";

export const CLUSTER = "cluster-1";

export function metaAt(index: number, term = 3): SnapshotMeta {
  const members = [
    { id: "n1", address: "127.0.0.1:7001", role: "voter" },
    { id: "n2", address: "", role: "learner" },
  ] as const;
  return { index, term, membership: { index: Math.min(index, 2), members } };
}

export function headerAt(index: number, options: Partial<SnapshotHeader> = {}): SnapshotHeader {
  return { clusterId: CLUSTER, meta: metaAt(index), chunkBytes: limits.snapshotChunkBytes, ...options };
}

/** Bytes that differ from place to place, so that a swap or a shift shows. */
export function patterned(bytes: number, seed = 1): Buffer {
  const buffer = Buffer.alloc(bytes);
  for (let at = 0, state = seed; at < bytes; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    buffer[at] = state >>> 24;
  }
  return buffer;
}

/** The payload in pieces of `pieceBytes`, all handed out in one buffer that is reused, as the interface allows. */
export async function* inPieces(payload: Uint8Array, pieceBytes = payload.byteLength): AsyncGenerator<Uint8Array> {
  const shared = new Uint8Array(pieceBytes);
  for (let at = 0; at < payload.byteLength; at += pieceBytes) {
    const piece = payload.subarray(at, at + pieceBytes);
    shared.set(piece);
    yield shared.subarray(0, piece.byteLength);
    shared.fill(0xee);
  }
}

export async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = [];
  for await (const piece of pieces) copies.push(Buffer.from(piece));
  return Buffer.concat(copies);
}

/** toEqual for large buffers, which it compares slowly. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
  expect(actual.byteLength).toBe(expected.byteLength);
  expect(Buffer.compare(actual, expected), "the contents differ").toBe(0);
}

export function encodeToBuffer(header: SnapshotHeader, payload: Uint8Array, pieceBytes?: number): Promise<Buffer> {
  return collect(encodeSnapshot(header, inPieces(payload, pieceBytes)));
}

/** What a task fails with, which must be a CairnError of this code. */
export async function failure(code: CairnErrorCode, task: () => unknown): Promise<CairnError> {
  try {
    await task();
  } catch (error) {
    expect(error).toBeInstanceOf(CairnError);
    expect((error as CairnError).message).toContain(`[${code}]`);
    return error as CairnError;
  }
  throw new Error(`expected a failure with ${code}, got none`);
}

/** Runs a test in a new directory and removes it, also when the test fails. */
export async function inDirectory(task: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "cairn-snapshots-"));
  try {
    await task(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

export function openStore(directory: string, fs: FileSystem = nodeFileSystem): Promise<SnapshotStore> {
  return SnapshotStore.open({ fs, directory, clusterId: CLUSTER });
}

export async function filesIn(directory: string): Promise<string[]> {
  return (await readdir(directory)).sort();
}

export function indexesOf(snapshots: readonly SnapshotInfo[]): number[] {
  return snapshots.map((info) => info.index);
}

/** A snapshot file as another node would send it. */
export async function offered(index: number, payload: Uint8Array, header = headerAt(index)) {
  const file = await encodeToBuffer(header, payload);
  const sha256 = Uint8Array.from(file.subarray(file.byteLength - 32));
  const offer: SnapshotOffer = { index, term: header.meta.term, fileBytes: file.byteLength, sha256 };
  return { file, offer };
}

/** Receives a whole file in pieces; publishes it. */
export async function receiveAll(store: SnapshotStore, offer: SnapshotOffer, file: Uint8Array, pieceBytes = 100_000) {
  const receiver = await store.receive(offer);
  for (let at = 0; at < file.byteLength; at += pieceBytes) {
    await receiver.write(at, file.subarray(at, at + pieceBytes));
  }
  const staged = await receiver.finish();
  try {
    return await staged.publish();
  } catch (error) {
    // A full disk leaves it to be published later.
    await staged.discard();
    throw error;
  }
}

export async function bytesOf(info: SnapshotInfo): Promise<Buffer> {
  return readFile(info.path);
}

/** The operating system's files, with every call written down by name, and one of them made to fail. */
export class RecordingFileSystem implements FileSystem {
  readonly calls: string[] = [];
  /** Number of the call that fails, from 0, counted from now; undefined: none. */
  failAt: number | undefined;
  failWith: unknown = new Error("this call fails");

  async open(path: string, mode: "read" | "update" | "create"): Promise<File> {
    this.#note(`open ${mode} ${extension(path)}`);
    const file = await nodeFileSystem.open(path, mode);
    return {
      read: (buffer, position) => this.#run("read", () => file.read(buffer, position)),
      readNow: (buffer, position) => file.readNow(buffer, position),
      write: (parts, position) => this.#run("write", () => file.write(parts, position)),
      datasync: () => this.#run("datasync", () => file.datasync()),
      truncate: (bytes) => this.#run("truncate", () => file.truncate(bytes)),
      size: () => this.#run("size", () => file.size()),
      renamed: (name) => file.renamed(name),
      close: async () => {
        // Also when the call fails: the test must not leak the descriptor.
        await file.close();
        this.#note("close");
      },
      closeNow: () => file.closeNow(),
    };
  }

  openNow = (path: string) => nodeFileSystem.openNow(path);
  list = (path: string) => this.#run("list", () => nodeFileSystem.list(path));
  makeDirectory = (path: string) => this.#run("makeDirectory", () => nodeFileSystem.makeDirectory(path));
  rename = (from: string, to: string) =>
    this.#run(`rename ${extension(from)} ${extension(to)}`, () => nodeFileSystem.rename(from, to));
  symlink = (text: string, path: string) => this.#run("symlink", () => nodeFileSystem.symlink(text, path));
  readLink = (path: string) => this.#run("readLink", () => nodeFileSystem.readLink(path));
  unlink = (path: string) => this.#run(`unlink ${extension(path)}`, () => nodeFileSystem.unlink(path));
  exists = (path: string) => this.#run("exists", () => nodeFileSystem.exists(path));
  removeAll = (path: string) => this.#run("removeAll", () => nodeFileSystem.removeAll(path));
  availableBytes = (path: string) => nodeFileSystem.availableBytes(path);
  syncDirectory = (path: string) => this.#run("syncDirectory", () => nodeFileSystem.syncDirectory(path));

  async #run<Result>(name: string, task: () => Promise<Result>): Promise<Result> {
    this.#note(name);
    return task();
  }

  #note(name: string): void {
    const number = this.calls.push(name) - 1;
    if (number === this.failAt) throw this.failWith;
  }
}

function extension(path: string): string {
  return path.slice(path.lastIndexOf(".") + 1);
}
