import { limits } from "../core/limits.js";
import { CairnError, hasCode } from "../errors.js";
import type { Logger } from "./logger.js";

/** When a node takes a snapshot without being asked. Whatever comes first counts. */
export interface SnapshotPolicy {
  /** Entries applied since the last one, 1 or more. Default 100,000. */
  readonly entries?: number | undefined;
  /** Bytes of log since the last one, as they count in limits. Default 64 MiB. */
  readonly logBytes?: number | undefined;
}

/** Takes snapshots by the policy. A trigger that comes while one is being taken is not lost: what was applied meanwhile counts for the next. */
export class AutoSnapshot {
  readonly #entries: number;
  readonly #logBytes: number;
  #appliedEntries = 0;
  #appliedBytes = 0;
  #taking = false;
  #stopped = false;

  /** `unsnapshotted`: entries that were applied since the newest snapshot when the node started. */
  constructor(
    policy: SnapshotPolicy,
    unsnapshotted: number,
    private readonly take: () => Promise<unknown>,
    private readonly logger: Logger,
  ) {
    this.#entries = policy.entries ?? limits.snapshotEntries;
    this.#logBytes = policy.logBytes ?? limits.snapshotLogBytes;
    this.#appliedEntries = unsnapshotted;
  }

  /** Entries were applied. */
  applied(entries: number, bytes: number): void {
    this.#appliedEntries += entries;
    this.#appliedBytes += bytes;
    this.#takeIfDue();
  }

  /** A snapshot was taken or installed otherwise: count from there. */
  restart(): void {
    this.#appliedEntries = 0;
    this.#appliedBytes = 0;
  }

  stop(): void {
    this.#stopped = true;
  }

  #takeIfDue(): void {
    if (this.#taking || this.#stopped) return;
    if (this.#appliedEntries < this.#entries && this.#appliedBytes < this.#logBytes) return;
    this.#taking = true;
    this.restart();
    void this.take()
      .catch((error) => {
        // Tried again when as much was applied once more: a full disk will not be less full a moment later.
        const { text } = CairnError.from(error);
        if (!hasCode(error, "STOPPED")) this.logger.warn({ reason: text }, "a snapshot could not be taken");
      })
      .finally(() => {
        this.#taking = false;
      });
  }
}
