import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../base/errors.js";
import { keyName } from "../../base/key_name.js";
import { type Entry, LOG_START, type LogPosition, type SnapshotMeta } from "../../raft/types.js";
import type { ApplyResult } from "../state_machine.js";
import { applyEntries, assertFollow, commandsOf } from "./apply.js";
import { EffectNotes } from "./effects/effect_notes.js";
import { MemoryHistory } from "./effects/memory_history.js";
import { KeyRange, type KeyRangeOptions, type KeyValueMachine } from "./key_value_machine.js";
import type { StoredLease } from "./leases/lease_store.js";
import { MemoryLeases } from "./leases/memory_leases.js";
import type { PayloadKey, PayloadSession, PayloadSource } from "./payload.js";
import { PayloadDecoder } from "./payload_decoder.js";
import { PayloadView } from "./payload_view.js";
import type { KeyEntry, KeyRecord, RecordStore } from "./record_store.js";
import {
  DEFAULT_SESSION_LIMITS,
  FIRST_HEAD,
  NEWEST_RULES,
  type SessionLimits,
  type SessionsHead,
} from "./session_limits.js";
import { type SessionHead, type SessionStore, SessionTable } from "./sessions.js";

/**
 * The key-value machine in memory: the reference that other machines are compared with, and the
 * machine of the simulator. None of its state is durable.
 */
export class MemoryMachine implements KeyValueMachine {
  #state: MemoryState;
  #applied: LogPosition = LOG_START;
  #stopped = false;
  readonly #notes = new EffectNotes();
  readonly history = new MemoryHistory();
  readonly #open = new Set<{ fail(failure: Error): void }>();

  constructor(private readonly sessionLimits: SessionLimits = DEFAULT_SESSION_LIMITS) {
    this.#state = new MemoryState(sessionLimits);
  }

  get appliedIndex(): number {
    return this.#applied.index;
  }

  readonly newestRules = NEWEST_RULES;

  get rulesInForce(): number {
    return this.#state.table.rules;
  }

  get keyCount(): number {
    return this.#state.records.size;
  }

  get sessionCount(): number {
    return this.#state.table.size;
  }

  get leaseCount(): number {
    return this.#state.leases.count;
  }

  apply(entries: readonly Entry[]): readonly ApplyResult<CommandResult>[] {
    this.#assertRunning();
    assertFollow(entries, this.#applied);
    const notes = this.#notes;
    notes.clear(this.history.isKeeping);
    const { leases, table } = this.#state;
    const results = applyEntries(entries, commandsOf(entries), this.#state, leases, table, notes);
    if (entries.length > 0) this.history.add(entries.at(-1)!.index, notes);
    this.#applied = entries.at(-1) ?? this.#applied;
    return results;
  }

  get(key: Uint8Array): KeyRecord | undefined {
    this.#assertRunning();
    const record = this.#state.get(key);
    return record === undefined ? undefined : { ...record, value: record.value.slice() };
  }

  range({ prefix = NO_BYTES, after = NO_BYTES, limit = Number.POSITIVE_INFINITY }: KeyRangeOptions = {}): KeyRange {
    this.#assertRunning();
    const start = keyName(prefix);
    const last = keyName(after);
    const names = [...this.#state.records.keys()].filter((name) => name.startsWith(start) && name > last).sort();
    const taken = names.slice(0, Math.max(0, limit)).map((name) => ({ name, record: this.#state.records.get(name)! }));
    const range = new KeyRange(entriesOf(taken), (ended) => this.#open.delete(ended));
    this.#open.add(range);
    return range;
  }

  lease(id: number): StoredLease | undefined {
    this.#assertRunning();
    return this.#state.leases.get(id);
  }

  leases(after: number, limit: number): StoredLease[] {
    this.#assertRunning();
    return this.#state.leases.list(after, limit);
  }

  leaseKeys(id: number): Uint8Array[] {
    this.#assertRunning();
    return this.#state.leases.keysOf(id);
  }

  async capture(): Promise<PayloadView> {
    this.#assertRunning();
    const view = new PayloadView(this.#applied, this.#state.copy(), (ended) => this.#open.delete(ended));
    this.#open.add(view);
    return view;
  }

  async restore(payload: AsyncIterable<Uint8Array>, at: SnapshotMeta): Promise<void> {
    this.#assertRunning();
    const state = new MemoryState(this.sessionLimits);
    const decoder = new PayloadDecoder(at, this.sessionLimits, state.sink());
    for await (const piece of payload) {
      this.#assertRunning();
      decoder.push(piece);
    }
    decoder.finish();
    this.#assertRunning();
    state.loadTable();
    this.#state = state;
    this.#applied = { index: at.index, term: at.term };
    this.history.restart(at.index);
  }

  logTrimmed(index: number): void {
    this.history.forget(index);
  }

  async close(): Promise<void> {
    this.#stopped = true;
    for (const reader of [...this.#open]) reader.fail(stopped());
  }

  crash(): Promise<void> {
    return this.close();
  }

  #assertRunning(): void {
    if (this.#stopped) throw stopped();
  }
}

/** Keeps keys and sessions; each key is stored as Latin-1 text, which sorts as its bytes do. */
class MemoryState implements RecordStore, SessionStore {
  readonly records = new Map<string, KeyRecord>();
  readonly leases = new MemoryLeases();
  readonly sessions = new Map<string, { head: SessionHead; answers: Map<number, Uint8Array> }>();
  sessionsHead: SessionsHead = FIRST_HEAD;
  table: SessionTable;

  constructor(private readonly sessionLimits: SessionLimits) {
    this.table = new SessionTable(this, sessionLimits);
  }

  get(key: Uint8Array): KeyRecord | undefined {
    return this.records.get(keyName(key));
  }

  put(key: Uint8Array, record: KeyRecord): void {
    this.records.set(keyName(key), { ...record, value: Uint8Array.prototype.slice.call(record.value) });
  }

  delete(key: Uint8Array): boolean {
    return this.records.delete(keyName(key));
  }

  *range(start: Uint8Array, end: Uint8Array | undefined): Generator<KeyEntry, void, undefined> {
    const first = keyName(start);
    const behind = end === undefined ? undefined : keyName(end);
    const isWithin = (name: string) => name >= first && (behind === undefined || name < behind);
    const names = [...this.records.keys()].filter(isWithin).sort();
    for (const name of names) yield { ...this.records.get(name)!, key: bytesOf(name) };
  }

  clear(): void {
    this.records.clear();
  }

  putSessionsHead(head: SessionsHead): void {
    this.sessionsHead = head;
  }

  putSession(head: SessionHead): void {
    this.#session(head.clientId).head = head;
  }

  deleteSession(clientId: string): void {
    this.sessions.delete(clientId);
  }

  getAnswer(clientId: string, sequence: number): Uint8Array | undefined {
    return this.sessions.get(clientId)?.answers.get(sequence);
  }

  putAnswer(clientId: string, sequence: number, answer: Uint8Array): void {
    this.#session(clientId).answers.set(sequence, answer);
  }

  replaceAnswer(clientId: string, sequence: number, answer: Uint8Array): void {
    this.putAnswer(clientId, sequence, answer);
  }

  deleteAnswersThrough(clientId: string, sequence: number): void {
    const answers = this.sessions.get(clientId)?.answers;
    for (const each of answers?.keys() ?? []) if (each <= sequence) answers?.delete(each);
  }

  sink() {
    let clientId = "";
    return {
      lease: (lease: StoredLease) => this.leases.put(lease),
      key: (key: Uint8Array, record: KeyRecord) => {
        this.put(key, record);
        if (record.lease !== undefined) this.leases.addKey(record.lease, key);
      },
      sessionsHead: (head: SessionsHead) => this.putSessionsHead(head),
      session: (head: SessionHead) => {
        clientId = head.clientId;
        this.putSession(head);
      },
      answer: (sequence: number, answer: Uint8Array) => {
        this.putAnswer(clientId, sequence, Uint8Array.prototype.slice.call(answer));
      },
    };
  }

  /** Rebuilds the table from the stored sessions. */
  loadTable(): void {
    const sessions = [...this.sessions.values()].map(({ head, answers }) => {
      const sequences = [...answers.keys()].sort((a, b) => a - b);
      return { ...head, sequences, sizes: sequences.map((sequence) => answers.get(sequence)!.byteLength) };
    });
    this.table = new SessionTable(this, this.sessionLimits, { head: this.sessionsHead, sessions });
  }

  /**
   * Returns the present state, in order. Records and answers never change, so the copy shares them.
   */
  copy(): PayloadSource {
    const keys: PayloadKey[] = [...this.records.keys()].sort().map((name) => {
      return { key: bytesOf(name), ...this.records.get(name)! };
    });
    const sessions: PayloadSession[] = [...this.sessions.values()]
      .sort((a, b) => Buffer.compare(Buffer.from(a.head.clientId), Buffer.from(b.head.clientId)))
      .map(({ head, answers }) => {
        const inOrder = [...answers].sort(([a], [b]) => a - b);
        return { ...head, answers: inOrder.map(([sequence, answer]) => ({ sequence, answer })) };
      });
    const leases = this.leases.list(0, Number.POSITIVE_INFINITY);
    return { leases: () => leases, keys: () => keys, sessionsHead: this.sessionsHead, sessions: () => sessions };
  }

  #session(clientId: string) {
    let session = this.sessions.get(clientId);
    if (session === undefined) {
      session = { head: { clientId, floor: 0, lastUsed: 0 }, answers: new Map() };
      this.sessions.set(clientId, session);
    }
    return session;
  }
}

const NO_BYTES = new Uint8Array(0);

function bytesOf(name: string): Uint8Array {
  return Buffer.from(name, "latin1");
}

function* entriesOf(taken: readonly { name: string; record: KeyRecord }[]): Generator<KeyEntry, undefined, undefined> {
  for (const { name, record } of taken) yield { ...record, key: bytesOf(name), value: record.value.slice() };
}

function stopped(): CairnError {
  return new CairnError("STOPPED", "the state machine is closed");
}
