import type { Command, KeySpan, TxnOperation } from "../../../gen/cairn/v1/storage_pb.js";
import type { StoreEngine } from "../../store/reads.js";
import { boundsOf } from "../kv/txn/key_span.js";
import { keyspace, RowEncoder, spaceStart } from "./keyspaces.js";
import type { StoreState } from "./store_state.js";

/** One for all batches: its buffers take longer to make than a batch to look at. */
const rows = new RowEncoder();

/** The rows that a batch of commands will read. */
export class BatchReads {
  readonly #keys: Uint8Array[] = [];
  readonly #spans: { readonly start: Uint8Array; readonly end: Uint8Array }[] = [];
  /** Whether a put looks at its key: a lease may exist by then. */
  #putsLook: boolean;

  /** `keepsRecords`: whether the record before each change is wanted. */
  constructor(
    private readonly state: StoreState,
    keepsRecords: boolean,
  ) {
    this.#putsLook = keepsRecords || state.leases.count > 0;
  }

  /** Adds what a command will read. */
  add({ requestId, operation }: Command): void {
    if (requestId !== undefined) this.#retry(requestId.clientId, Number(requestId.sequence));
    switch (operation.case) {
      case "put":
        if (this.#putsLook || operation.value.leaseId !== 0n) this.#key(operation.value.key);
        break;
      case "delete":
      case "get":
      case "compareAndSet":
        this.#key(operation.value.key);
        break;
      case "txn":
        this.#txn(operation.value);
        break;
      case "leaseGrant":
        this.#putsLook = true;
        break;
      case "leaseRevoke":
        this.#lease(Number(operation.value.leaseId));
        break;
      case "leaseExpire":
        for (const { leaseId } of operation.value.leases) this.#lease(Number(leaseId));
        break;
      default:
    }
  }

  /** Loads the pages; undefined when memory has them all. */
  load(engine: StoreEngine): Promise<void> | undefined {
    const loads = this.#keys.length > 0 ? [engine.prepare(this.#keys)] : [];
    for (const { start, end } of this.#spans) loads.push(engine.prepareRange(start, end));
    const waits = loads.filter((load) => load !== undefined);
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
  }

  #retry(clientId: string, sequence: number): void {
    if (this.state.sessions.remembers(clientId, sequence)) this.#keys.push(this.state.answerKey(clientId, sequence));
  }

  #txn({ compare, then, otherwise }: TxnOperation): void {
    for (const { key, keys } of compare) {
      if (keys === undefined) this.#key(key);
      else this.#span(keys);
    }
    for (const { operation } of [...then, ...otherwise]) {
      if (operation.case === "deleteRange" || operation.case === "range") this.#span(operation.value.keys!);
      else if (operation.case !== undefined) this.#key(operation.value.key);
    }
  }

  /** Adds the keys of a lease that may end. */
  #lease(id: number): void {
    if (this.state.leases.get(id) === undefined) return;
    for (const key of this.state.leases.keysOf(id)) this.#key(key);
  }

  #key(key: Uint8Array): void {
    this.#keys.push(Uint8Array.prototype.slice.call(rows.key(key)));
  }

  #span(keys: KeySpan): void {
    const { start, end } = boundsOf(keys);
    const row = (bytes: Uint8Array) => Uint8Array.prototype.slice.call(rows.key(bytes));
    this.#spans.push({ start: row(start), end: end === undefined ? spaceStart(keyspace.key + 1) : row(end) });
  }
}
