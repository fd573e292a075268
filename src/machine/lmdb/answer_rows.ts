import type { Transaction } from "lmdb";
import { limits } from "../../base/limits.js";
import { CHECKSUM_BYTES, type StateDigest } from "./checksums.js";
import { NUMBER_BYTES, numberAt, putNumber, type SealedTable } from "./table.js";

// Stores remembered answers: one row holds the answers that one transaction gave to one client.
//
//   length of the client id (2), client id,   -> for each answer: sequence (double), its length
//   number of the row (8, big-endian)            (4), the answer; little-endian
//
// The length in front keeps the rows of one client apart from those of another whose id starts the
// same. A row stays until its highest sequence is forgotten, so it may hold answers that are
// forgotten: a reader drops those up to the session's floor. When a sequence occurs twice, the
// later row counts.

const LENGTH_BYTES = 2;
const ANSWER_HEADER_BYTES = 12;

/** A remembered answer. */
export interface Answer {
  readonly sequence: number;
  readonly answer: Uint8Array;
}

/** A row of the table, without its answers. */
interface RowOfAnswers {
  readonly number: number;
  readonly lowest: number;
  readonly highest: number;
  /** Number of answers in it, forgotten ones included. */
  readonly answers: number;
}

/** The rows of one client. */
interface ClientRows {
  readonly clientId: string;
  /** In order of their numbers. */
  rows: RowOfAnswers[];
  /** Answers that are not written yet. */
  pending: Answer[];
}

/** The table of answers. Writes must be within a transaction of its environment. */
export class AnswerRows {
  readonly #clients = new Map<string, ClientRows>();

  constructor(private readonly table: SealedTable) {}

  /** Returns an answer, for the caller to keep. Throws CairnError CORRUPT. */
  get(clientId: string, sequence: number): Uint8Array | undefined {
    const { pending, rows } = this.#clientOf(clientId);
    const waiting = pending.findLast((each) => each.sequence === sequence);
    if (waiting !== undefined) return waiting.answer;
    for (let at = rows.length - 1; at >= 0; at--) {
      const { number, lowest, highest } = rows[at]!;
      if (sequence < lowest || sequence > highest) continue;
      const found = this.#read(clientId, number).findLast((each) => each.sequence === sequence);
      if (found !== undefined) return found.answer;
    }
    return undefined;
  }

  /** Puts an answer, which {@link write} stores. */
  put(clientId: string, sequence: number, answer: Uint8Array): void {
    this.#clientOf(clientId).pending.push({ sequence, answer });
  }

  /** Stores the answers that were put since the last call and are above the session's floor. */
  write(clientId: string, floor: number): void {
    const client = this.#clientOf(clientId);
    if (client.pending.length > 0) this.#add(client, floor, client.pending);
    client.pending = [];
    if (totalOf(client.rows) > 2 * limits.sessionAnswers) this.#rewrite(client, floor);
  }

  /** Removes the rows whose answers are all forgotten. */
  forgetThrough(clientId: string, sequence: number): void {
    const client = this.#clients.get(clientId);
    if (client === undefined) return;
    const isForgotten = ({ highest }: RowOfAnswers) => highest <= sequence;
    if (!client.rows.some(isForgotten)) return;
    for (const { number } of client.rows.filter(isForgotten)) this.table.remove(rowKey(clientId, number));
    client.rows = client.rows.filter((row) => !isForgotten(row));
  }

  /** Removes all answers of a client. */
  delete(clientId: string): void {
    this.forgetThrough(clientId, Number.POSITIVE_INFINITY);
    this.#clients.delete(clientId);
  }

  /**
   * Forgets which rows there are, until {@link answersOf} reads them with `remembers`: after a
   * transaction that failed.
   */
  reset(): void {
    this.#clients.clear();
  }

  /**
   * Returns the answers of a client above its floor, ascending, as the transaction sees them; the
   * caller may keep them. `walked` counts each row; `remembers` notes them for later calls.
   */
  answersOf(
    clientId: string,
    floor: number,
    transaction: Transaction,
    { walked, remembers = false }: { readonly walked?: StateDigest | undefined; readonly remembers?: boolean } = {},
  ): Answer[] {
    const start = rowKey(clientId, 0);
    const end = rowKey(clientId, Number.MAX_SAFE_INTEGER);
    const found = new Map<number, Uint8Array>();
    const rows = this.table.rows({ start, end, inclusiveEnd: true, transaction }, (key, row) => {
      walked?.answers.add(this.table.keyMark(key));
      return { number: numberOf(key), answers: this.#decode(row, row.byteLength) };
    });
    for (const { number, answers } of rows) {
      for (const { sequence, answer } of answers) if (sequence > floor) found.set(sequence, answer);
      if (remembers) this.#clientOf(clientId).rows.push(describe(number, answers));
    }
    return [...found].map(([sequence, answer]) => ({ sequence, answer })).sort((a, b) => a.sequence - b.sequence);
  }

  /** Replaces all rows of a client by one, without what is forgotten. */
  #rewrite(client: ClientRows, floor: number): void {
    const kept = new Map<number, Answer>();
    const before = [...client.rows];
    for (const { number } of before) {
      for (const each of this.#read(client.clientId, number)) kept.set(each.sequence, each);
    }
    this.#add(client, floor, [...kept.values()]);
    for (const { number } of before) this.table.remove(rowKey(client.clientId, number));
    client.rows = client.rows.slice(before.length);
  }

  #add(client: ClientRows, floor: number, answers: readonly Answer[]): void {
    const kept = answers.filter(({ sequence }) => sequence > floor);
    if (kept.length === 0) return;
    const number = (client.rows.at(-1)?.number ?? 0) + 1;
    this.table.add(rowKey(client.clientId, number), encode(kept));
    client.rows.push(describe(number, kept));
  }

  #read(clientId: string, number: number): Answer[] {
    const row = this.table.get(rowKey(clientId, number));
    if (row === undefined) throw this.table.damaged("a row is missing");
    return this.#decode(row, row.length);
  }

  /** Decodes a row, whose bytes are lent, into answers that the caller may keep. */
  #decode(row: Buffer, bytes: number): Answer[] {
    const answers: Answer[] = [];
    let at = CHECKSUM_BYTES;
    while (at < bytes) {
      const from = at + ANSWER_HEADER_BYTES;
      if (from > bytes) throw this.table.damaged("a row is cut off");
      const sequence = row.readDoubleLE(at);
      const end = from + row.readUInt32LE(at + 8);
      if (end > bytes) throw this.table.damaged("a row is cut off");
      answers.push({ sequence, answer: Uint8Array.prototype.slice.call(row, from, end) });
      at = end;
    }
    return answers;
  }

  #clientOf(clientId: string): ClientRows {
    let client = this.#clients.get(clientId);
    if (client === undefined) {
      client = { clientId, rows: [], pending: [] };
      this.#clients.set(clientId, client);
    }
    return client;
  }
}

function describe(number: number, answers: readonly Answer[]): RowOfAnswers {
  let lowest = Number.POSITIVE_INFINITY;
  let highest = 0;
  for (const { sequence } of answers) {
    lowest = Math.min(lowest, sequence);
    highest = Math.max(highest, sequence);
  }
  return { number, lowest, highest, answers: answers.length };
}

function totalOf(rows: readonly RowOfAnswers[]): number {
  let total = 0;
  for (const { answers } of rows) total += answers;
  return total;
}

function encode(answers: readonly Answer[]): Buffer {
  let bytes = CHECKSUM_BYTES;
  for (const { answer } of answers) bytes += ANSWER_HEADER_BYTES + answer.byteLength;
  const row = Buffer.allocUnsafe(bytes);
  let at = CHECKSUM_BYTES;
  for (const { sequence, answer } of answers) {
    at = row.writeDoubleLE(sequence, at);
    at = row.writeUInt32LE(answer.byteLength, at);
    row.set(answer, at);
    at += answer.byteLength;
  }
  return row;
}

function rowKey(clientId: string, number: number): Buffer {
  const length = Buffer.byteLength(clientId);
  const key = Buffer.allocUnsafe(LENGTH_BYTES + length + NUMBER_BYTES);
  key.writeUInt16BE(length, 0);
  key.write(clientId, LENGTH_BYTES, "utf8");
  putNumber(key, number, LENGTH_BYTES + length);
  return key;
}

function numberOf(key: Buffer): number {
  return numberAt(key, key.byteLength - NUMBER_BYTES);
}
