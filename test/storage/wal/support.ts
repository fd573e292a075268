import { crc32 } from "node:zlib";
import { expect, onTestFinished } from "vitest";
import type { CairnErrorCode } from "../../../src/base/errors.js";
import {
  type Entry,
  type HardState,
  INITIAL_HARD_STATE,
  LOG_START,
  type LogPosition,
} from "../../../src/raft/types.js";
import { WriteAheadLog, type WriteAheadLogOptions } from "../../../src/storage/wal/wal.js";
import { FaultyFileSystem } from "../../support/disk/faulty_fs.js";

export const DIRECTORY = "/data/log";

/** An entry whose data tells its index and term. */
export function entry(index: number, term = 1, bytes = 20): Entry {
  const data = new Uint8Array(bytes);
  data.set(Buffer.from(`${index}/${term};`.repeat(bytes).slice(0, bytes), "latin1"));
  return { index, term, type: bytes === 0 ? "no-op" : "command", data };
}

export function entriesFrom(low: number, high: number, term = 1, bytes = 20): Entry[] {
  return Array.from({ length: high - low + 1 }, (_, at) => entry(low + at, term, bytes));
}

export function newFileSystem(): FaultyFileSystem {
  return new FaultyFileSystem(["/data"]);
}

export type Sizes = Partial<Pick<WriteAheadLogOptions, "segmentBytes" | "fillBytes">>;

/** A new log, closed at the test's end. */
export async function createLog(
  fs: FaultyFileSystem,
  sizes: Sizes = {},
  boundary: LogPosition = LOG_START,
  hardState: HardState = INITIAL_HARD_STATE,
): Promise<WriteAheadLog> {
  const log = await WriteAheadLog.create({ fs, directory: DIRECTORY, ...sizes }, boundary, hardState);
  closeAtEnd(fs, log);
  return log;
}

/** Opens the log; it is closed at the test's end. */
export async function openLog(fs: FaultyFileSystem, sizes: Sizes = {}) {
  const opened = await WriteAheadLog.open({ fs, directory: DIRECTORY, ...sizes });
  closeAtEnd(fs, opened.log);
  return opened;
}

/** All entries of the log. */
export async function readAll(log: WriteAheadLog): Promise<Entry[]> {
  const { boundary, last } = log;
  if (last.index === boundary.index) return [];
  return log.entries(boundary.index + 1, last.index, Number.MAX_SAFE_INTEGER);
}

/** Paths of the log's files, oldest first. */
export async function files(fs: FaultyFileSystem): Promise<string[]> {
  return (await fs.list(DIRECTORY)).sort().map((name) => `${DIRECTORY}/${name}`);
}

/** A digest of each file, to see whether anything has changed. */
export function digests(fs: FaultyFileSystem): Record<string, string> {
  const digest = (bytes: Uint8Array): string => `${bytes.byteLength} bytes, crc ${crc32(bytes)}`;
  return Object.fromEntries([...fs.image()].map(([path, bytes]) => [path, digest(bytes)]));
}

export async function expectError(promise: Promise<unknown>, code: CairnErrorCode, text: string | RegExp = "") {
  const error = await promise.then(
    () => expect.fail(`expected ${code}`),
    (error: unknown) => error,
  );
  expect(error).toMatchObject({ name: "CairnError", code });
  expect((error as Error).message).toMatch(text);
  return error as Error;
}

function closeAtEnd(fs: FaultyFileSystem, log: WriteAheadLog): void {
  onTestFinished(async () => {
    await log.crash().catch((error) => {
      if (!fs.powerIsOff) throw error;
    });
  });
}
