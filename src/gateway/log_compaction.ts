import type { GetLogInfoResponse, TakeSnapshotResponse } from "../../gen/cairn/v1/admin_pb.js";
import { CairnError, hasCode } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { SnapshotParser } from "../encoding/snapshot_parser.js";
import { encodeCommand } from "../machine/kv/command.js";
import { PayloadDecoder } from "../machine/kv/payload_decoder.js";
import { DEFAULT_SESSION_LIMITS } from "../machine/kv/session_limits.js";
import type { Entry, LogPosition } from "../raft/types.js";
import { GatewayError, gatewayCodes } from "./errors.js";
import type { Fields } from "./fields.js";
import { encodeValue, OrderedObject, StoredJson } from "./json.js";
import type { GatewayNode } from "./nodes.js";
import { RemoteLeader } from "./remote_leader.js";
import { installState, type Pair } from "./remote_snapshot.js";
import { StateReader } from "./state_reader.js";

/** A reply's type and its fields in order. */
export type Reply = readonly [type: string, fields: Readonly<Record<string, unknown>>];

/** An entry of an apply_entries request. */
interface RequestedEntry extends Entry {
  readonly op: "put" | "get" | "delete";
  readonly key: Buffer;
}

/** The result of a get entry. */
interface GetResult {
  readonly result: StoredJson | null;
}

/** By index. */
type GetResults = ReadonlyMap<number, GetResult>;

const NO_DATA = new Uint8Array(0);

/** Number of results of get entries that are remembered for repeated requests. */
const REMEMBERED_RESULTS = 10_000;

/** Serves the messages of the log-compaction tasks for one node. */
export class LogCompaction {
  readonly #leader: RemoteLeader;
  readonly #state: StateReader;
  /** Results of get entries, as of the moment when they were applied. */
  readonly #results = new Map<number, GetResult>();

  constructor(
    private readonly node: GatewayNode,
    private readonly timeoutMs: number,
  ) {
    this.#leader = new RemoteLeader(node, timeoutMs);
    this.#state = new StateReader(node, timeoutMs);
  }

  /** Closes the node's streams. */
  close(): void {
    this.#leader.close();
    this.#state.close();
  }

  async applyEntries(body: Fields): Promise<Reply> {
    const entries = body.objects("entries").map(requestedEntry);
    const last = entries.at(-1);
    if (last === undefined) {
      const { appliedIndex } = await this.#logInfo();
      return ["apply_entries_ok", { results: [], last_applied: Number(appliedIndex) }];
    }
    const { read, appliedIndex } = await this.#applyInOrder(entries);
    const lastApplied =
      appliedIndex >= last.index ? appliedIndex : Number((await this.#untilApplied(last.index)).appliedIndex);
    const results = entries.map(({ index, op }) => {
      const value = op === "get" ? (read.get(index) ?? this.#results.get(index)) : undefined;
      return { index, result: value === undefined ? "ok" : value.result };
    });
    this.#remember(read);
    return ["apply_entries_ok", { results, last_applied: lastApplied }];
  }

  async seedState(body: Fields): Promise<Reply> {
    const pairs = pairsOf(body);
    const commitIndex = body.count("commit_index", 0, "indexMax");
    const term = body.count("term", 1, "termMax");
    const first = (await this.#leader.lastPosition()).index + 1;
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
    let batch: Entry[] = [{ index: first, term, type: "command", data }];
    for (let index = first + 1; index <= commitIndex; index++) {
      if (batch.length >= limits.appendEntries) {
        await this.#leader.replicate(batch, () => 0);
        batch = [];
      }
      batch.push({ index, term, type: "no-op", data: NO_DATA });
    }
    await this.#leader.replicate(batch, () => commitIndex);
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
    const applied = await installState(this.node, position, pairsOf(body), this.timeoutMs);
    const info = await this.#logInfo();
    return ["install_snapshot_ok", { applied, new_last_applied: Number(info.appliedIndex) }];
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
   * Sends the entries, and commits them. A get in the log returns the value at its place, and only
   * the leader decides how far the log is committed: so before an entry changes a key, the gets of
   * that key that wait are answered.
   */
  async #applyInOrder(entries: readonly RequestedEntry[]): Promise<{ read: GetResults; appliedIndex: number }> {
    const read = new Map<number, GetResult>();
    let steps: readonly Step[] = [];
    const { fresh, ...sent } = await this.#leader.replicate(entries, (lacking) => {
      steps = stepsOf(lacking);
      return steps[0]?.position.index ?? 0;
    });
    // The node refused the entries, and a look at its log showed that it has them by now.
    if (fresh.length === 0) steps = [];
    let { appliedIndex } = sent;
    for (const [number, { position, gets }] of steps.entries()) {
      if (number > 0) appliedIndex = await this.#leader.commit(fresh.at(-1)!.term, position);
      if (gets.size > 0) await this.#readAll(gets, position.index, read);
    }
    return { read, appliedIndex };
  }

  /** Reads the results of gets in the state at an index, which nothing changes meanwhile. */
  async #readAll(gets: Step["gets"], index: number, read: Map<number, GetResult>): Promise<void> {
    const byKey = [...gets.values()];
    const records = await this.#state.read(
      byKey.map(([get]) => get.key),
      index,
    );
    for (const [at, those] of byKey.entries()) {
      const record = records[at];
      const result = record === undefined ? null : StoredJson.from(record.value);
      for (const get of those) read.set(get.index, { result });
    }
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
      lease: () => {},
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
  return { index, term, type: "command", op, key, data: encodeCommand({ operation }) };
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

/** A part of a batch: committed up to `position`, the state has the results of `gets`. */
interface Step {
  readonly position: LogPosition;
  /** By key: one read answers all gets of a key. */
  readonly gets: ReadonlyMap<string, readonly [RequestedEntry, ...RequestedEntry[]]>;
}

/** Divides a batch before each entry that changes a key of which a get waits. */
function stepsOf(entries: readonly RequestedEntry[]): Step[] {
  const steps: Step[] = [];
  let gets = new Map<string, [RequestedEntry, ...RequestedEntry[]]>();
  for (const [at, entry] of entries.entries()) {
    const key = entry.key.toString("latin1");
    const waiting = gets.get(key);
    if (entry.op === "get") {
      if (waiting === undefined) gets.set(key, [entry]);
      else waiting.push(entry);
    } else if (waiting !== undefined) {
      steps.push({ position: entries[at - 1]!, gets });
      gets = new Map();
    }
  }
  const last = entries.at(-1);
  if (last !== undefined) steps.push({ position: last, gets });
  return steps;
}

function positionOf({ snapshot }: TakeSnapshotResponse): LogPosition {
  return { index: Number(snapshot?.index ?? 0), term: Number(snapshot?.term ?? 0) };
}

function member(key: Uint8Array, value: Uint8Array): [string, StoredJson] {
  const name = Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("utf8");
  return [name, StoredJson.from(value)];
}
