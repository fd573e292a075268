import type { LiveRecord, StoreView } from "../../store/reads.js";
import type { StoredLease } from "../kv/leases/lease_store.js";
import type { PayloadAnswer, PayloadKey, PayloadSession, PayloadSource } from "../kv/payload.js";
import type { SessionsHead } from "../kv/session_limits.js";
import {
  answerKeyOf,
  keyspace,
  leaseOf,
  RowEncoder,
  recordOf,
  type SessionRow,
  sessionOf,
  spaceStart,
} from "./keyspaces.js";

/** The part of a state that is not in its rows yet. */
export interface WaitingRows {
  readonly head: SessionsHead;
  /** Leases and sessions that have changed since the flush point. */
  readonly leases: readonly StoredLease[];
  readonly sessions: readonly SessionRow[];
}

/** A captured state as a payload's source: the rows of a view, and those that were waiting. */
export class ViewSource implements PayloadSource {
  constructor(
    private readonly view: StoreView,
    private readonly waiting: WaitingRows,
  ) {}

  get sessionsHead(): SessionsHead {
    return this.waiting.head;
  }

  leases(): Iterable<StoredLease> {
    const newer = [...this.waiting.leases].sort((one, other) => one.id - other.id);
    return merged(this.#rows(keyspace.lease, leaseOf), newer, (one, other) => one.id - other.id);
  }

  *keys(): Generator<PayloadKey, void, undefined> {
    for (const row of this.view.range(spaceStart(keyspace.key), spaceStart(keyspace.key + 1))) {
      yield { ...recordOf(row), key: row.key.subarray(1) };
    }
  }

  *sessions(): Generator<PayloadSession, void, undefined> {
    // Reads of answers lie between those of heads, so heads are read first: there are few.
    const newer = this.waiting.sessions.map(withBytes).sort(inOrder);
    const stored = this.#rows(keyspace.session, (row) => withBytes(sessionOf(row)));
    for (const { session } of [...merged(stored, newer, inOrder)]) {
      yield { ...session, answers: this.#answers(session.birth) };
    }
  }

  *#answers(birth: number): Generator<PayloadAnswer, void, undefined> {
    const rows = new RowEncoder();
    const start = Buffer.from(rows.answer(birth, 0));
    const end = Buffer.from(rows.answer(birth + 1, 0));
    for (const row of this.view.range(start, end)) yield { sequence: answerKeyOf(row).sequence, answer: row.value };
  }

  *#rows<Row>(space: number, read: (row: LiveRecord) => Row): Generator<Row, void, undefined> {
    for (const row of this.view.range(spaceStart(space), spaceStart(space + 1))) yield read(row);
  }
}

interface SessionWithBytes {
  readonly session: SessionRow;
  readonly bytes: Uint8Array;
}

function withBytes(session: SessionRow): SessionWithBytes {
  return { session, bytes: Buffer.from(session.clientId) };
}

function inOrder(one: SessionWithBytes, other: SessionWithBytes): number {
  return Buffer.compare(one.bytes, other.bytes);
}

/** Merges ascending items; of two that are equal, the newer one counts. */
function* merged<Item>(
  older: Iterable<Item>,
  newer: readonly Item[],
  compare: (one: Item, other: Item) => number,
): Generator<Item, void, undefined> {
  let at = 0;
  for (const item of older) {
    while (at < newer.length && compare(newer[at]!, item) < 0) yield newer[at++]!;
    if (at < newer.length && compare(newer[at]!, item) === 0) yield newer[at++]!;
    else yield item;
  }
  yield* newer.slice(at);
}
