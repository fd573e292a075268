import { statfsSync } from "node:fs";
import type { Command, TxnOperation } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { Entry } from "../../raft/types.js";

// Checks that the disk has room for a transaction.

/**
 * Share of the free space that transactions may take before it is measured again, and the time for
 * which a measurement holds, in milliseconds.
 */
const SHARE = 1 / 8;
const HOLDS_MS = 200;

/**
 * Pages that one entry may cause to be copied, apart from its own bytes: its leaf, and the branches
 * above it.
 */
const PAGE_BYTES = 4096;
const ENTRY_BYTES = 3 * PAGE_BYTES;
/** Bytes that every transaction writes. */
const TRANSACTION_BYTES = 64 * 1024;

/**
 * Refuses a transaction that may not fit the disk, before LMDB tries it. When LMDB fails to write,
 * its C code prints to standard error, into the midst of the process's own log, and the process
 * cannot prevent that.
 */
export class DiskSpace {
  #budget = 0;
  #holdsUntil = 0;

  /**
   * `freeBytes` returns the bytes that LMDB has free within its data file. Called only when the
   * disk has too little.
   */
  constructor(
    private readonly path: string,
    private readonly freeBytes: () => number,
  ) {}

  /** @throws CairnError DISK_FULL */
  check(bytes: number): void {
    const now = performance.now();
    if (bytes > this.#budget || now >= this.#holdsUntil) {
      const available = this.#availableBytes();
      if (available < bytes && available + this.freeBytes() < bytes) throw this.#full(bytes, available);
      this.#budget = available * SHARE;
      this.#holdsUntil = now + HOLDS_MS;
    }
    this.#budget = Math.max(0, this.#budget - bytes);
  }

  #availableBytes(): number {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize;
  }

  #full(bytes: number, available: number): CairnError {
    const text = `no space left for the state in ${this.path}: ${available} bytes, and ${bytes} may be needed. Make room`;
    return new CairnError("DISK_FULL", text);
  }
}

/**
 * Returns the bytes by which applying entries with these commands may make the state grow,
 * generously. A leader's no-ops count for none, since the free pages of LMDB are enough for them:
 * so a leader can be established on a full disk, and answer reads. `keysOf` returns the number of a
 * lease's keys.
 */
export function spaceFor(
  entries: readonly Entry[],
  commands: readonly (Command | undefined)[],
  keysOf: (lease: bigint) => number,
): number {
  let bytes = 0;
  for (const [at, { type, data }] of entries.entries()) {
    if (type !== "no-op") bytes += 2 * data.byteLength + ENTRY_BYTES + stepBytes(commands[at], keysOf);
  }
  return bytes === 0 ? 0 : bytes + TRANSACTION_BYTES;
}

/**
 * Returns the bytes of the pages that a command may cause to be copied, besides those of a plain
 * write: by the steps of a transaction, and by leases.
 */
function stepBytes(command: Command | undefined, keysOf: (lease: bigint) => number): number {
  const operation = command?.operation;
  switch (operation?.case) {
    case "put":
    case "compareAndSet":
      return operation.value.leaseId === 0n ? 0 : LEASE_BYTES;
    case "txn":
      return txnBytes(operation.value);
    case "leaseKeepAlive":
      return operation.value.leaseIds.length * PAGE_BYTES;
    case "leaseRevoke":
      return endBytes(keysOf(operation.value.leaseId));
    case "leaseExpire":
      return operation.value.leases.reduce((sum, { leaseId }) => sum + endBytes(keysOf(leaseId)), 0);
    default:
      return 0;
  }
}

/** Pages of the rows of two leases, and of their indexes. */
const LEASE_BYTES = 4 * PAGE_BYTES;

function endBytes(keys: number): number {
  return (keys + 1) * 2 * PAGE_BYTES;
}

function txnBytes({ then, otherwise }: TxnOperation): number {
  const ofList = (steps: typeof then) => {
    const removesSpans = steps.some(({ operation }) => operation.case === "deleteRange");
    return steps.length * (ENTRY_BYTES + LEASE_BYTES) + (removesSpans ? limits.txnKeys * PAGE_BYTES : 0);
  };
  return Math.max(ofList(then), ofList(otherwise));
}

/** Returns the same for a block of a snapshot's payload, whose keys are written in order. */
export function spaceForBlock(bytes: number): number {
  return 2 * bytes + TRANSACTION_BYTES;
}
