import { create } from "@bufbuild/protobuf";
import { TxnResponseSchema } from "../../../gen/cairn/v1/kv_pb.js";
import { CommandOutcome } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { LeaseHandle } from "../../../src/client/leases/lease.js";
import type { OnceSource } from "../../../src/client/locks/once.js";
import type { CallOptions } from "../../../src/client/options.js";
import { Txn, type TxnMessage } from "../../../src/client/txn/txn.js";
import { KeyValue } from "../../../src/client/values.js";
import type { Clock } from "../../../src/system/clock.js";

interface Stored {
  readonly value: Uint8Array;
  readonly version: number;
  readonly createVersion: number;
  readonly leaseId: number;
}

/** The keys and leases of a cluster in memory, for the parts of clients that queues use. */
export class MemoryCluster {
  readonly keys = new Map<string, Stored>();
  readonly leases = new Set<number>();
  /** Ends of watches, in their order: the keys that were watched. */
  readonly wakes: string[] = [];
  /** Number of ranges that were read. */
  ranges = 0;
  /** When set, each transaction fails with this. */
  txnFailure: CairnError | undefined;
  /** Grants are answered when this is. */
  grantsWaitFor: Promise<void> = Promise.resolve();
  #index = 0;
  readonly #watches = new Map<string, Set<() => void>>();

  /** Number of watches that wait. */
  get watches(): number {
    return [...this.#watches.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** The parts of a client on this clock. Its leases are kept alive once, and again whenever `confirm` is called. */
  client(clock: Clock, unixMs = () => clock.now()): OnceSource & { confirm(): void } {
    const changes = new Set<() => void>();
    let sentAt = Number.NEGATIVE_INFINITY;
    const confirm = () => {
      sentAt = clock.now();
      for (const changed of changes) changed();
    };
    const owner = {
      clock,
      keeping: () => ({
        keep: ({ leaseId }: { leaseId: number }, changed: () => void) => {
          changes.add(changed);
          // The first keep-alive is confirmed at once.
          const keptAt = clock.now();
          return {
            sentAt: () => Math.max(keptAt, sentAt),
            isGone: () => !this.leases.has(leaseId),
            stop: () => changes.delete(changed),
          };
        },
        close: () => {},
      }),
      revoke: async (leaseId: number) => this.end(leaseId),
      ended: () => {},
    };
    return {
      clock,
      unixMs,
      confirm,
      grant: async ({ ttlMs }) => {
        const sentAt = clock.now();
        const leaseId = ++this.#index;
        this.leases.add(leaseId);
        await this.grantsWaitFor;
        return new LeaseHandle(owner, { leaseId, ttlMs, maxBlockedMs: 60_000, sentAt });
      },
      txn: () => new Txn(async (message, { signal }) => this.#txn(message, signal)),
      get: async (key) => this.#get(key),
      range: ({ prefix = "", signal }) => this.#range(prefix as string, signal),
      untilMissing: (key, signal) => this.#untilMissing(Buffer.from(key).toString(), signal),
    };
  }

  /** Ends a lease and removes its keys, as the leader does when its time is over. */
  end(leaseId: number): number {
    if (!this.leases.delete(leaseId)) throw new CairnError("LEASE_NOT_FOUND", `lease ${leaseId} has ended`);
    const keys = [...this.keys].filter(([, stored]) => stored.leaseId === leaseId).map(([key]) => key);
    this.#index++;
    for (const key of keys) this.#delete(key);
    return keys.length;
  }

  #delete(key: string): void {
    this.keys.delete(key);
    const watches = this.#watches.get(key);
    this.#watches.delete(key);
    for (const wake of watches ?? []) wake();
  }

  #get(key: string): KeyValue | undefined {
    const stored = this.keys.get(key);
    return stored && new KeyValue(Buffer.from(key), stored.value, stored.version, stored.createVersion);
  }

  async *#range(prefix: string, signal: AbortSignal | undefined) {
    this.ranges++;
    signal?.throwIfAborted();
    for (const key of [...this.keys.keys()].sort()) if (key.startsWith(prefix)) yield this.#get(key)!;
  }

  #untilMissing(key: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!this.keys.has(key)) return resolve();
      const watches = this.#watches.get(key) ?? new Set();
      this.#watches.set(key, watches);
      const wake = () => {
        this.wakes.push(key);
        resolve();
      };
      watches.add(wake);
      signal.addEventListener("abort", () => {
        watches.delete(wake);
        reject(new CairnError("CANCELLED", "as a watch does"));
      });
    });
  }

  async #txn({ compare, then }: TxnMessage, signal: CallOptions["signal"]) {
    signal?.throwIfAborted();
    if (this.txnFailure !== undefined) throw this.txnFailure;
    const version = ++this.#index;
    const succeeded = compare.every(({ key, expected }) => {
      const stored = this.keys.get(Buffer.from(key!).toString());
      if (expected?.case === "exists") return (stored !== undefined) === expected.value;
      const is = expected?.case === "createVersion" ? stored?.createVersion : stored?.version;
      return (is ?? 0) === Number(expected?.value);
    });
    const results = [];
    for (const { operation } of succeeded ? then : []) {
      if (operation?.case !== "put") throw new Error(`${operation?.case} is not played here`);
      const leaseId = Number(operation.value.leaseId);
      if (leaseId !== 0 && !this.leases.has(leaseId)) throw new CairnError("LEASE_NOT_FOUND", "as the cluster does");
      const key = Buffer.from(operation.value.key!).toString();
      const createVersion = this.keys.get(key)?.createVersion ?? version;
      this.keys.set(key, { value: operation.value.value!, version, createVersion, leaseId });
      results.push({ outcome: CommandOutcome.OK });
    }
    return create(TxnResponseSchema, { succeeded, results, version: BigInt(version) });
  }
}
