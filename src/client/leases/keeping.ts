import type { Clock } from "../../system/clock.js";
import { ClientLeaseKeeper, type ClientLeaseKeeperOptions, type KeptLease } from "./keeper.js";

/** A lease to keep alive, as its handle names it. */
export type LeaseToKeep = Pick<KeptLease, "leaseId" | "ttlMs" | "maxBlockedMs">;

/** The progress of keeping one lease alive. It is current also right after a blocked event loop. */
export interface KeepingRecord {
  /**
   * When the newest keep-alive that was answered was sent, on the client's clock; undefined: none
   * was answered.
   */
  sentAt(): number | undefined;
  /** The cluster has said that the lease has ended. */
  isGone(): boolean;
  /** Ends the keeping. */
  stop(): void;
}

/** Keeps the leases of a client alive. */
export interface LeaseKeeping {
  /** Keeps a lease alive, from now on. `changed` is called when the record has changed. */
  keep(lease: LeaseToKeep, changed: () => void): KeepingRecord;
  close(): void;
}

/** Keeps leases alive on the client's own event loop. */
export class LoopKeeping implements LeaseKeeping {
  readonly #keeper: ClientLeaseKeeper;

  constructor(options: Omit<ClientLeaseKeeperOptions, "blockedMs"> & { readonly clock: Clock }) {
    // A blocked loop sends nothing at all.
    this.#keeper = new ClientLeaseKeeper({ ...options, blockedMs: () => 0 });
  }

  keep(lease: LeaseToKeep, changed: () => void): KeepingRecord {
    let newest: number | undefined;
    let isGone = false;
    const stop = this.#keeper.add({
      ...lease,
      kept(sentAt) {
        newest = sentAt;
        changed();
      },
      gone() {
        isGone = true;
        changed();
      },
    });
    return { sentAt: () => newest, isGone: () => isGone, stop };
  }

  close(): void {
    this.#keeper.close();
  }
}
