import type { GetLogInfoResponse, TakeSnapshotResponse } from "../../gen/cairn/v1/admin_pb.js";
import { CairnError, hasCode } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { SnapshotParser } from "../encoding/snapshot_parser.js";
import { encodeCommand } from "../machine/kv/command.js";
import { PayloadDecoder } from "../machine/kv/payload_decoder.js";
import { DEFAULT_SESSION_LIMITS } from "../machine/kv/session_limits.js";
import type { LogPosition } from "../raft/types.js";
import { GatewayError, gatewayCodes } from "./errors.js";
import type { Fields } from "./fields.js";
import { encodeValue, OrderedObject, StoredJson } from "./json.js";
import type { GatewayNode } from "./nodes.js";
import { type OutgoingEntry, type Pair, RemoteLeader } from "./remote_leader.js";

/** A reply's type and its fields in order. */
export type Reply = readonly [type: string, fields: Readonly<Record<string, unknown>>];

/** An entry of an apply_entries request. */
interface RequestedEntry extends OutgoingEntry {
  readonly op: "put" | "get" | "delete";
  readonly key: Buffer;
}

/** The result of a get entry. */
interface GetResult {
  readonly result: StoredJson | null;
}

/** By index. */
type GetResults = ReadonlyMap<number, GetResult>;

/** Number of results of get entries that are remembered for repeated requests. */
const REMEMBERED_RESULTS = 10_000;

/**
 * Number of concurrent reads for one request. The time limit of each read counts from its own
 * start, not from the start of the first.
 */
const READS_UNDER_WAY = 256;

/** Serves the messages of the log-compaction tasks for one node. */
export class LogCompaction {
  readonly #leader: RemoteLeader;
  /** Results of get entries, as of the moment when they were applied. */
  readonly #results = new Map<number, GetResult>();

  constructor(
    private readonly node: GatewayNode,
    private readonly timeoutMs: number,
  ) {
    this.#leader = new RemoteLeader(node, timeoutMs);
  }

  /** Closes the node's streams. */
  close(): void {
    this.#leader.close();
  }

  async applyEntries(body: Fields): Promise<Reply> {
    const entries = body.objects("entries").map(requestedEntry);
    const info = await this.#logInfo();
    const applied = Number(info.appliedIndex);
    if (entries.length === 0) return ["apply_entries_ok", { results: [], last_applied: applied }];
    checkPlaces(entries, info);
    const fresh = entries.filter((entry) => entry.index > applied);
    const read = await this.#applyInOrder(fresh, info);
    const after = await this.#untilApplied(entries.at(-1)!.index);
    const results = entries.map(({ index, op }) => {
      const value = op === "get" ? (read.get(index) ?? this.#results.get(index)) : undefined;
      return { index, result: value === undefined ? "ok" : value.result };
    });
    this.#remember(read);
    return ["apply_entries_ok", { results, last_applied: Number(after.appliedIndex) }];
  }

  async seedState(body: Fields): Promise<Reply> {
    const pairs = pairsOf(body);
    const commitIndex = body.count("commit_index", 0, "indexMax");
    const term = body.count("term", 1, "termMax");
    const info = await this.#logInfo();
    const first = Number(info.lastIndex) + 1;
    if (commitIndex < first) {
      if (commitIndex === 0 && first === 1 && pairs.length === 0) return ["seed_state_ok", {}];
      const text = `commit_index ${commitIndex} leaves no place for the state: the log ends at ${first - 1}, expected at least ${first}`;
      throw new GatewayError(gatewayCodes.preconditionFailed, text);
    }
    if (commitIndex - first >= limits.gatewaySeedEntries) {
      const text = `field commit_index asks for ${commitIndex - first + 1} entries; the limit gatewaySeedEntries is ${limits.gatewaySeedEntries}`;
      throw new GatewayError(gatewayCodes.malformedRequest, text);
    }
    const data = encodeCommand({ operation: { case: "load", value: { pairs: [...pairs] } } });
    let prev: LogPosition = { index: first - 1, term: Number(info.lastTerm) };
    let batch: OutgoingEntry[] = [{ index: first, term, data }];
    checkTerm(batch[0]!, info);
    for (let index = first + 1; index <= commitIndex; index++) {
      if (batch.length >= limits.appendEntries) {
        await this.#leader.append(term, prev, batch, 0);
        prev = batch.at(-1)!;
        batch = [];
      }
      batch.push({ index, term, data: undefined });
    }
    await this.#leader.append(term, prev, batch, commitIndex);
    await this.#untilApplied(commitIndex);
    return ["seed_state_ok", {}];
  }

  async takeSnapshot(body: Fields): Promise<Reply> {
    const threshold = body.has("threshold") ? body.count("threshold") : 0;
    if (body.has("up_to_index")) return this.#snapshotUpTo(body.count("up_to_index"));
    const trigger = { case: "thresholdEntries", value: BigInt(Math.min(threshold, limits.countMax)) } as const;
    const taken = await this.#takeSnapshot(trigger);
    return [
      "take_snapshot_ok",
      {
        snapshot_index: Number(taken.snapshot?.index ?? 0),
        snapshot_term: Number(taken.snapshot?.term ?? 0),
        state_size_bytes: Number(taken.snapshot?.payloadBytes ?? 0),
        log_entries_trimmed: Number(taken.logEntriesTrimmed),
      },
    ];
  }

  async installSnapshot(body: Fields): Promise<Reply> {
    const position = {
      index: body.count("snapshot_index", 1, "indexMax"),
      term: body.count("snapshot_term", 1, "termMax"),
    };
    const pairs = pairsOf(body);
    checkSnapshotTerm(position, await this.#logInfo());
    const installed = await this.#leader.install(position, pairs);
    const info = await this.#logInfo();
    return [
      "install_snapshot_ok",
      { applied: installed?.applied ?? false, new_last_applied: Number(info.appliedIndex) },
    ];
  }

  async getLogInfo(): Promise<Reply> {
    const info = await this.#logInfo();
    return [
      "get_log_info_ok",
      {
        first_index: Number(info.firstIndex),
        last_index: Number(info.lastIndex),
        snapshot_index: Number(info.snapshotIndex),
        total_entries: Number(info.totalEntries),
      },
    ];
  }

  async getState(): Promise<Reply> {
    const members: [string, StoredJson][] = [];
    let lastApplied = 0;
    for await (const part of this.node.kv.range({ stale: true }, { timeoutMs: this.timeoutMs })) {
      lastApplied = Number(part.header?.appliedIndex ?? lastApplied);
      for (const { key, value } of part.kvs) members.push(member(key, value));
    }
    return ["get_state_ok", { state: new OrderedObject(members), last_applied: lastApplied }];
  }

  async getSnapshot(): Promise<Reply> {
    const found = await this.#downloadSnapshot();
    return [
      "get_snapshot_ok",
      {
        snapshot_index: found?.position.index ?? 0,
        snapshot_term: found?.position.term ?? 0,
        state: found === undefined ? null : new OrderedObject(found.members),
      },
    ];
  }

  async shouldSnapshot(body: Fields): Promise<Reply> {
    const threshold = body.has("threshold") ? body.count("threshold") : 10_000;
    const logEntries = Number((await this.#logInfo()).totalEntries);
    return ["should_snapshot_ok", { should_snapshot: logEntries >= threshold, log_entries: logEntries }];
  }

  async #snapshotUpTo(index: number): Promise<Reply> {
    const info = await this.#logInfo();
    if (index > limits.indexMax) {
      const text = `index ${index} is above the limit indexMax (${limits.indexMax}), and only ${info.appliedIndex} is applied`;
      throw new GatewayError(gatewayCodes.preconditionFailed, text);
    }
    const current = { index: Number(info.snapshotIndex), term: Number(info.snapshotTerm) };
    const { index: last, term } =
      index <= current.index ? current : positionOf(await this.#takeSnapshot({ case: "index", value: BigInt(index) }));
    return ["snapshot_ok", { last_included_index: last, last_included_term: term }];
  }

  #takeSnapshot(
    trigger: { case: "thresholdEntries"; value: bigint } | { case: "index"; value: bigint },
  ): Promise<TakeSnapshotResponse> {
    return this.node.admin.takeSnapshot({ trigger, keepLogBytes: 0n }, { timeoutMs: this.timeoutMs });
  }

  /**
   * Waits until entries that are in the log are applied. A failure at this point must not claim
   * that nothing happened.
   */
  async #untilApplied(index: number): Promise<GetLogInfoResponse> {
    try {
      return await this.#logInfo(index);
    } catch (error) {
      const { code, text } = CairnError.from(error);
      if (code !== "DISK_FULL") throw error;
      throw new GatewayError(
        gatewayCodes.crash,
        `the entries up to ${index} are in the log, but not applied yet: ${text}`,
      );
    }
  }

  #logInfo(minAppliedIndex = 0): Promise<GetLogInfoResponse> {
    const request = { minAppliedIndex: BigInt(minAppliedIndex) };
    return this.node.admin.getLogInfo(request, { timeoutMs: this.timeoutMs });
  }

  /**
   * Makes new entries durable, then commits them. A get in the log returns the value at its place,
   * and only the leader decides how far the log is committed: so before an entry changes a key, the
   * gets of that key that wait are answered.
   */
  async #applyInOrder(fresh: readonly RequestedEntry[], info: GetLogInfoResponse): Promise<GetResults> {
    const read = new Map<number, GetResult>();
    const [first, last] = [fresh[0], fresh.at(-1)];
    if (first === undefined || last === undefined) return read;
    const { term } = last;
    const hasGets = fresh.some((entry) => entry.op === "get");
    const prev = { index: first.index - 1, term: prevTerm(first, info) };
    await this.#leader.append(term, prev, fresh, hasGets ? 0 : last.index);
    if (!hasGets) return read;
    let waiting: RequestedEntry[] = [];
    for (const [at, entry] of fresh.entries()) {
      if (entry.op === "get") waiting.push(entry);
      else if (waiting.some((get) => get.key.equals(entry.key))) {
        await this.#readAt(term, fresh[at - 1]!, waiting, read);
        waiting = [];
      }
    }
    await this.#readAt(term, last, waiting, read);
    return read;
  }

  /** Commits up to `position`, and reads the results of the gets at that point. */
  async #readAt(
    term: number,
    position: LogPosition,
    gets: readonly RequestedEntry[],
    read: Map<number, GetResult>,
  ): Promise<void> {
    await this.#leader.append(term, position, [], position.index);
    const minAppliedIndex = BigInt(position.index);
    const waiting = gets.values();
    const readOn = async () => {
      for (const { index, key } of waiting) {
        const request = { key, stale: true, minAppliedIndex };
        const { kv } = await this.node.kv.get(request, { timeoutMs: this.timeoutMs });
        read.set(index, { result: kv === undefined ? null : StoredJson.from(kv.value) });
      }
    };
    await Promise.all(Array.from({ length: Math.min(READS_UNDER_WAY, gets.length) }, readOn));
  }

  #remember(read: GetResults): void {
    for (const [index, result] of read) this.#results.set(index, result);
    for (const index of this.#results.keys()) {
      if (this.#results.size <= REMEMBERED_RESULTS) return;
      this.#results.delete(index);
    }
  }

  async #downloadSnapshot(): Promise<{ position: LogPosition; members: [string, StoredJson][] } | undefined> {
    const parser = new SnapshotParser(`the newest snapshot of node ${this.node.id}`);
    const members: [string, StoredJson][] = [];
    let payload: PayloadDecoder | undefined;
    const sink = {
      key: (key: Uint8Array, { value }: { value: Uint8Array }) => void members.push(member(key, value)),
      sessionsHead: () => {},
      session: () => {},
      answer: () => {},
    };
    try {
      for await (const { data } of this.node.admin.downloadSnapshot({}, { timeoutMs: this.timeoutMs })) {
        for (const chunk of parser.push(data)) {
          payload ??= new PayloadDecoder(parser.header!.meta, DEFAULT_SESSION_LIMITS, sink);
          payload.push(chunk);
        }
      }
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return undefined;
      throw error;
    }
    parser.finish();
    payload?.finish();
    return { position: parser.header!.meta, members };
  }
}

function requestedEntry(fields: Fields): RequestedEntry {
  const index = fields.integer("index");
  const term = fields.count("term", 1, "termMax");
  const command = fields.object("command");
  const op = command.oneOf("op", ["put", "get", "delete"]);
  const key = command.key("key");
  const operation =
    op === "put"
      ? ({ case: op, value: { key, value: encodeValue(command.value("value")) } } as const)
      : ({ case: op, value: { key } } as const);
  return { index, term, op, key, data: encodeCommand({ operation }) };
}

/** Returns the state in a request, in the order of the store's keys. */
function pairsOf(body: Fields): Pair[] {
  const pairs = body.entries("state").map(([name, value]) => {
    if (name === "" || !name.isWellFormed()) {
      const text = "field state has a key that is empty or not a string of whole characters";
      throw new GatewayError(gatewayCodes.malformedRequest, text);
    }
    return { key: Buffer.from(name, "utf8"), value: encodeValue(value) };
  });
  return pairs.sort((a, b) => Buffer.compare(a.key, b.key));
}

/** Checks a whole batch before any of it is sent: a batch with a bad entry changes nothing. */
function checkPlaces(entries: readonly RequestedEntry[], info: GetLogInfoResponse): void {
  const next = Number(info.lastIndex) + 1;
  const first = entries[0]!;
  if (first.index < 1 || first.index > next) throw misplaced(`index ${first.index}`, next);
  let term = prevTerm(first, info);
  entries.forEach((entry, at) => {
    const expected = first.index + at;
    if (entry.index !== expected) throw misplaced(`index ${entry.index}`, expected);
    if (entry.term < term) {
      throw misplaced(`index ${entry.index} has term ${entry.term}, below the term ${term} before it`, expected);
    }
    term = entry.term;
    const present = termAt(entry.index, info);
    if (present === undefined) {
      if (entry.index >= next) checkTerm(entry, info);
    } else if (present !== entry.term && entry.index <= Number(info.commitIndex)) {
      const text = `index ${entry.index} is committed with term ${present}, not ${entry.term}`;
      throw misplaced(text, Number(info.commitIndex) + 1);
    }
  });
}

/** Checks that a new entry is not of a term that has ended. */
function checkTerm(entry: LogPosition, info: GetLogInfoResponse): void {
  if (entry.term >= Number(info.term)) return;
  const text = `entry ${entry.index} has term ${entry.term}, older than the node's term ${info.term}`;
  throw new GatewayError(gatewayCodes.preconditionFailed, text);
}

/**
 * Checks that terms never fall along the log: no leader has a snapshot of a lower term than an
 * entry below it that is committed here.
 */
function checkSnapshotTerm({ index, term }: LogPosition, info: GetLogInfoResponse): void {
  const commit = Number(info.commitIndex);
  const committed = termAt(commit, info);
  if (index <= commit || committed === undefined || term >= committed) return;
  const text = `snapshot_term ${term} at index ${index} is below the term ${committed} of the committed entry ${commit}`;
  throw new GatewayError(gatewayCodes.preconditionFailed, text);
}

function misplaced(what: string, expected: number): GatewayError {
  return new GatewayError(gatewayCodes.preconditionFailed, `${what}: expected index ${expected}`);
}

/**
 * Returns the term of the entry before a batch. If the log is trimmed there, the term is not known,
 * and the node does not check it.
 */
function prevTerm(first: LogPosition, info: GetLogInfoResponse): number {
  if (first.index === 1) return 0;
  return termAt(first.index - 1, info) ?? first.term;
}

/** Returns the term at an index of the node's log, or of its boundary. */
function termAt(index: number, { terms, lastIndex }: GetLogInfoResponse): number | undefined {
  if (index > Number(lastIndex)) return undefined;
  const range = terms.findLast(({ firstIndex }) => Number(firstIndex) <= index);
  return range === undefined ? undefined : Number(range.term);
}

function positionOf({ snapshot }: TakeSnapshotResponse): LogPosition {
  return { index: Number(snapshot?.index ?? 0), term: Number(snapshot?.term ?? 0) };
}

function member(key: Uint8Array, value: Uint8Array): [string, StoredJson] {
  const name = Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("utf8");
  return [name, StoredJson.from(value)];
}
