import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { AdminService, type GetLogInfoResponse, type GetStatusResponse } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService, type RangeResponse } from "../../gen/cairn/v1/kv_pb.js";
import { limits } from "../../src/base/limits.js";
import { SnapshotParser } from "../../src/encoding/snapshot_parser.js";
import { PayloadDecoder } from "../../src/machine/kv/payload_decoder.js";
import { DEFAULT_SESSION_LIMITS } from "../../src/machine/kv/session_limits.js";
import type { LogPosition } from "../../src/raft/types.js";
import { openChannel } from "../../src/rpc/client.js";
import { parseSnapshotFileName, snapshotFileName } from "../../src/storage/snapshots/file_names.js";
import { type CrashModel, check, type ReadKey, readKey } from "./crash_model.js";
import { CALL_TIMEOUT_MS, type Watermarks } from "./crash_workload.js";

/** What a node says of itself right after a start. */
export interface Started {
  readonly status: GetStatusResponse;
  readonly log: GetLogInfoResponse;
}

/**
 * Checks a node that has just started and that nobody writes to: every acknowledged write is there, nothing that was reported fell, log
 * and snapshots fit together, and the disk holds nothing that is half done.
 */
export async function checkStarted(
  address: string,
  data: string,
  model: CrashModel,
  watermarks: Watermarks,
): Promise<Started> {
  const channel = openChannel(address);
  const settings = { timeoutMs: CALL_TIMEOUT_MS };
  try {
    // First, since a linearizable read waits until the node knows again what is committed.
    await checkKeys(channel.client(KeyValueService).range({}, settings), model, watermarks);
    const admin = channel.client(AdminService);
    const status = await admin.getStatus({}, settings);
    const log = await admin.getLogInfo({}, settings);
    const { snapshots } = await admin.listSnapshots({}, settings);
    checkWatermarks(status, log, watermarks);
    checkLog(log);
    await checkFiles(
      data,
      snapshots.map(({ index, term }) => ({ index: Number(index), term: Number(term) })),
    );
    check((snapshots[0]?.index ?? 0n) === log.snapshotIndex, "the newest snapshot is the log's", {
      listed: snapshots.map(({ index }) => Number(index)),
      log: Number(log.snapshotIndex),
    });
    return { status, log };
  } finally {
    channel.close();
  }
}

/** Checks that a snapshot removes those that came before it, also those that kills have left over. */
export async function checkRetention(address: string, data: string): Promise<void> {
  const channel = openChannel(address);
  try {
    // Changes nothing, but there is a new index for a snapshot.
    await channel.client(KeyValueService).delete({ key: Buffer.from("no such key") }, { timeoutMs: CALL_TIMEOUT_MS });
    await channel.client(AdminService).takeSnapshot({}, { timeoutMs: CALL_TIMEOUT_MS });
  } finally {
    channel.close();
  }
  const snapshots = await filesIn(join(data, "snapshots"));
  check(snapshots.length <= limits.snapshotsKept, "a new snapshot removes the old ones", { snapshots });
}

/** Checks every snapshot file of a node that is not running, from its first byte to its last, and the state in it. */
export async function checkSnapshotFiles(data: string, model: CrashModel): Promise<number> {
  const directory = join(data, "snapshots");
  const names = (await filesIn(directory)).filter((name) => name.endsWith(".snap"));
  for (const name of names) {
    const position = parseSnapshotFileName(name);
    check(position !== undefined, "a snapshot file is named as one", { name });
    const keys = new Map<string, ReadKey>();
    const decoder = new PayloadDecoder(position, DEFAULT_SESSION_LIMITS, {
      lease: () => {},
      key: (key, record) => keys.set(Buffer.from(key).toString(), { ...record, value: Uint8Array.from(record.value) }),
      sessionsHead: () => {},
      session: () => {},
      answer: () => {},
    });
    const parser = new SnapshotParser(`snapshot file ${join(directory, name)}`);
    for await (const bytes of createReadStream(join(directory, name)) as AsyncIterable<Buffer>) {
      for (const chunk of parser.push(bytes)) decoder.push(chunk);
    }
    parser.finish();
    decoder.finish();
    model.checkStateAt(position.index, keys);
  }
  return names.length;
}

/** Names in a directory that may not be there yet. */
export async function filesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

async function checkKeys(
  parts: AsyncIterable<RangeResponse>,
  model: CrashModel,
  watermarks: Watermarks,
): Promise<void> {
  const found = new Map<string, ReadKey>();
  let appliedIndex = 0;
  for await (const { header, kvs } of parts) {
    if (header !== undefined) {
      watermarks.raiseTo(header);
      appliedIndex = Number(header.appliedIndex);
    }
    for (const kv of kvs) found.set(Buffer.from(kv.key).toString(), readKey(kv));
  }
  for (const name of model.names) model.observe(name, found.get(name), appliedIndex);
  const strange = [...found.keys()].filter((name) => !model.names.includes(name));
  check(strange.length === 0, "only keys that were written are there", { strange });
}

/** Nothing that an answer has reported ever falls. */
function checkWatermarks(status: GetStatusResponse, log: GetLogInfoResponse, watermarks: Watermarks): void {
  const now = {
    term: Number(status.term),
    applied: Number(status.appliedIndex),
    commit: Number(status.commitIndex),
    snapshot: Number(status.snapshotIndex),
  };
  for (const name of ["term", "applied", "commit", "snapshot"] as const) {
    check(now[name] >= watermarks[name], `${name} never falls`, { now, reported: watermarks });
  }
  check(log.term >= status.term && log.appliedIndex >= status.appliedIndex, "a later answer is no older", { now });
  watermarks.raise({
    term: log.term,
    applied: log.appliedIndex,
    commit: log.commitIndex,
    snapshot: log.snapshotIndex,
  });
}

/** The log follows its snapshot without a hole, and its terms never fall. */
function checkLog(log: GetLogInfoResponse): void {
  const { firstIndex, lastIndex, lastTerm, snapshotIndex, snapshotTerm, totalEntries, commitIndex, appliedIndex } = log;
  const terms = log.terms.map((range) => ({ firstIndex: Number(range.firstIndex), term: Number(range.term) }));
  const facts = {
    firstIndex: Number(firstIndex),
    lastIndex: Number(lastIndex),
    lastTerm: Number(lastTerm),
    snapshotIndex: Number(snapshotIndex),
    snapshotTerm: Number(snapshotTerm),
    commitIndex: Number(commitIndex),
    appliedIndex: Number(appliedIndex),
    terms: terms.slice(-10),
  };
  check(firstIndex > 0n, "the log starts at 1 or above", facts);
  check(firstIndex <= snapshotIndex + 1n, "there is no hole between snapshot and log", facts);
  check(lastIndex + 1n >= firstIndex && lastIndex >= snapshotIndex, "the log reaches as far as its snapshot", facts);
  check(totalEntries === lastIndex - snapshotIndex, "the entries behind the snapshot are counted", facts);
  check(appliedIndex <= commitIndex && commitIndex <= lastIndex, "applied <= commit <= last", facts);
  check(lastTerm >= snapshotTerm && lastTerm <= log.term, "terms never fall", facts);
  for (const [at, range] of terms.slice(1).entries()) {
    const ascends = range.firstIndex > terms[at]!.firstIndex && range.term > terms[at]!.term;
    check(ascends, "terms never fall along the log", facts);
  }
  check(terms.length === 0 || terms.at(-1)!.term === Number(lastTerm), "the last term is the last entry's", facts);
}

/** The node's snapshots are the files there are, and no work of its last life is left over. */
async function checkFiles(data: string, listed: readonly LogPosition[]): Promise<void> {
  const snapshots = await filesIn(join(data, "snapshots"));
  const expected = listed.map(snapshotFileName).sort();
  check(snapshots.join() === expected.join(), "the snapshot files are those that the node lists", {
    snapshots,
    expected,
  });
  const others = await filesIn(data);
  check(!others.includes("scratch"), "a state that was being built aside is removed at the start", { others });
}
