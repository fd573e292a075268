import type { KeySpan, PutOperation } from "../../../../gen/cairn/v1/storage_pb.js";
import { assert } from "../../../base/assert.js";
import { limits } from "../../../base/limits.js";
import type { EffectNotes } from "../effects/effect_notes.js";
import type { ListedChange } from "../effects/effects.js";
import { moveKey } from "../leases/lease_keys.js";
import type { LeaseStore } from "../leases/lease_store.js";
import { copyOf, type KeyEntry, type KeyRecord, type RecordStore } from "../record_store.js";
import { boundsOf } from "./key_span.js";

type TxnLimit = "txnKeys" | "txnReadBytes" | "txnResultBytes" | "leaseKeys";

interface TxnChange {
  readonly key: Uint8Array;
  /** The record before the change. */
  readonly before: KeyRecord | undefined;
  /** Number of the step that puts the key; undefined when it is removed. */
  readonly step: number | undefined;
}

/** Thrown when a transaction would exceed a limit. */
export class TxnLimitExceeded extends Error {
  constructor(readonly limit: TxnLimit) {
    super(limit);
  }
}

/** Thrown when a transaction names a lease that does not exist. */
export class TxnLeaseNotFound extends Error {}

/**
 * The keys as one transaction sees and changes them. Bounds its work, and can undo its changes: the
 * LMDB transaction around it also holds the changes of other entries.
 */
export class TxnRecords {
  readonly #changes: TxnChange[] = [];
  #keys = 0;
  #readBytes = 0;
  #resultBytes = 0;

  /** Place in the store before the transaction; undefined when the store cannot go back. */
  readonly #mark: number | undefined;

  constructor(
    private readonly records: RecordStore,
    private readonly leases: LeaseStore,
  ) {
    this.#mark = records.mark?.();
  }

  /** Returns a record, valid until the next call. @throws TxnLimitExceeded */
  get(key: Uint8Array): KeyRecord | undefined {
    const record = this.records.get(key);
    this.#read(key, record);
    return record;
  }

  /**
   * Writes a key, and attaches it to the lease; 0 detaches it.
   * @throws TxnLimitExceeded, TxnLeaseNotFound
   */
  put(
    { key, value, leaseId }: Pick<PutOperation, "key" | "value" | "leaseId">,
    { step, index }: { readonly step: number; readonly index: number },
  ): void {
    const present = this.get(key);
    const before = present && copyOf(present);
    const lease = Number(leaseId);
    const refusal = moveKey(key, before?.lease ?? 0, lease, this.leases);
    if (refusal === "lease not found") throw new TxnLeaseNotFound();
    if (refusal !== undefined) throw new TxnLimitExceeded("leaseKeys");
    this.#changes.push({ key, before, step });
    const record = { createVersion: before?.createVersion ?? index, version: index, value };
    this.records.put(key, lease === 0 ? record : { ...record, lease });
  }

  /** Removes a key; returns whether it existed. @throws TxnLimitExceeded */
  delete(key: Uint8Array): boolean {
    const before = this.get(key);
    if (before === undefined) return false;
    this.#remove(key, copyOf(before));
    return true;
  }

  /** Removes the keys of a span; returns how many there were. @throws TxnLimitExceeded */
  deleteAll(keys: KeySpan): number {
    const found: { readonly key: Uint8Array; readonly before: KeyRecord }[] = [];
    for (const entry of this.within(keys)) {
      this.walked(entry);
      const { key, ...record } = entry;
      found.push({ key, before: copyOf(record) });
    }
    for (const { key, before } of found) this.#remove(key, before);
    return found.length;
  }

  /**
   * Yields the keys of a span in ascending order. Each is valid until the next call of the store.
   * Pass those that are used to {@link walked}.
   */
  within(keys: KeySpan): Iterable<KeyEntry> {
    const { start, end } = boundsOf(keys);
    return this.records.range(start, end);
  }

  /** Counts a key of a span. @throws TxnLimitExceeded */
  walked(entry: KeyEntry): void {
    if (++this.#keys > limits.txnKeys) throw new TxnLimitExceeded("txnKeys");
    this.#read(entry.key, entry);
  }

  /** Counts bytes that the transaction returns. @throws TxnLimitExceeded */
  returned(bytes: number): void {
    this.#resultBytes += bytes;
    if (this.#resultBytes > limits.txnResultBytes) throw new TxnLimitExceeded("txnResultBytes");
  }

  /** Notes the changes of the list that was carried out. */
  noteInto(notes: EffectNotes, type: "then" | "otherwise"): void {
    if (this.#changes.length === 0) return;
    notes.note({ type, changes: this.#changes.map(listedChange) });
    if (notes.keepsRecords) for (const { before } of this.#changes) notes.before(before);
  }

  /** Puts everything back to what it was before the transaction. */
  undo(): void {
    for (const { key, before } of this.#changes.reverse()) {
      const lease = this.leases.count > 0 ? (this.records.get(key)?.lease ?? 0) : 0;
      assert(moveKey(key, lease, before?.lease ?? 0, this.leases) === undefined, "a key can go back to its lease");
      if (this.#mark !== undefined) continue;
      if (before === undefined) this.records.delete(key);
      else this.records.put(key, before);
    }
    if (this.#mark !== undefined) this.records.rollback!(this.#mark);
  }

  #remove(key: Uint8Array, before: KeyRecord): void {
    this.#changes.push({ key, before, step: undefined });
    if (before.lease !== undefined) moveKey(key, before.lease, 0, this.leases);
    this.records.delete(key);
  }

  #read(key: Uint8Array, record: KeyRecord | undefined): void {
    this.#readBytes += key.byteLength + (record?.value.byteLength ?? 0);
    if (this.#readBytes > limits.txnReadBytes) throw new TxnLimitExceeded("txnReadBytes");
  }
}

function listedChange({ key, before, step }: TxnChange): ListedChange {
  if (step === undefined) return { type: "deleted", key, lease: 0, isExpired: false };
  return { type: before === undefined ? "created" : "put", step };
}
