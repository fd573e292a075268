import type { LogPosition } from "../../raft/types.js";
import type { StoreBuilder } from "../../store/reads.js";
import type { StoredLease } from "../kv/leases/lease_store.js";
import { MemoryLeases } from "../kv/leases/memory_leases.js";
import { PayloadDecoder } from "../kv/payload_decoder.js";
import type { KeyRecord } from "../kv/record_store.js";
import { FIRST_HEAD, type SessionLimits, type SessionsHead } from "../kv/session_limits.js";
import type { SessionHead } from "../kv/sessions.js";
import { encodeNote, RowEncoder, tagOf } from "./keyspaces.js";

/** A row on its way into a store. */
interface NewRow {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  readonly version: number;
  readonly created: number;
  readonly tag: number;
}

/**
 * Fills a store with the state of a payload. Memory: the rows of one piece, and the keys of leases.
 * @throws CairnError CORRUPT for a damaged payload, whatever was built by then
 */
export async function fillStore(
  builder: StoreBuilder,
  payload: AsyncIterable<Uint8Array>,
  at: LogPosition,
  bounds: SessionLimits,
): Promise<void> {
  const rows = new PayloadRows();
  const decoder = new PayloadDecoder(at, bounds, rows);
  for await (const piece of payload) {
    decoder.push(piece);
    await addAll(builder, rows.take());
  }
  decoder.finish();
  await addAll(builder, rows.leaseKeys(at.index));
  await builder.finish(at, encodeNote(rows.head));
}

async function addAll(builder: StoreBuilder, rows: Iterable<NewRow>): Promise<void> {
  for (const { key, value, version, created, tag } of rows) {
    const written = builder.add(key, value, version, created, tag);
    if (written !== undefined) await written;
  }
}

/** Makes rows of the parts of a payload. */
class PayloadRows {
  #rows: NewRow[] = [];
  readonly #encoder = new RowEncoder();
  readonly #leases = new MemoryLeases();
  /** Number of sessions so far: the birth of the last one. */
  #births = 0;
  #lastUsed = 0;
  head: SessionsHead = FIRST_HEAD;

  /** Returns the rows since the last call. */
  take(): readonly NewRow[] {
    const rows = this.#rows;
    this.#rows = [];
    return rows;
  }

  lease({ id, ttlMs, keepAlives, keys }: StoredLease): void {
    this.#add(this.#encoder.lease(id), this.#encoder.numbers(ttlMs, keepAlives, keys), id, id, 0);
    this.#leases.put({ id, ttlMs, keepAlives, keys });
  }

  key(key: Uint8Array, record: KeyRecord): void {
    const { version, createVersion, lease } = record;
    this.#add(this.#encoder.key(key), this.#encoder.valueOf(record), version, createVersion, tagOf(lease));
    if (lease !== undefined) this.#leases.addKey(lease, key);
  }

  sessionsHead(head: SessionsHead): void {
    this.head = head;
  }

  session({ clientId, floor, lastUsed }: SessionHead): void {
    this.#births++;
    this.#lastUsed = lastUsed;
    const value = this.#encoder.numbers(this.#births, floor, lastUsed);
    this.#add(this.#encoder.session(clientId), value, lastUsed, lastUsed, 0);
  }

  answer(sequence: number, answer: Uint8Array): void {
    this.#add(this.#encoder.answer(this.#births, sequence), answer, this.#lastUsed, this.#lastUsed, 0);
  }

  /** Yields the rows of the leases' keys, which the payload has in another order. */
  *leaseKeys(version: number): Generator<NewRow, void, undefined> {
    for (const { id } of this.#leases.list(0, Number.POSITIVE_INFINITY)) {
      for (const key of this.#leases.keysOf(id)) {
        yield { key: this.#encoder.leaseKey(id, key), value: NO_BYTES, version, created: version, tag: 0 };
      }
    }
  }

  /** Adds a row with copies of its bytes: those of a part are lent. */
  #add(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): void {
    this.#rows.push({ key: copied(key), value: copied(value), version, created, tag });
  }
}

const NO_BYTES = new Uint8Array(0);

function copied(bytes: Uint8Array): Uint8Array {
  return Uint8Array.prototype.slice.call(bytes);
}
