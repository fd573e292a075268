import { setTimeout as pause } from "node:timers/promises";
import { CairnClient } from "../../../src/client/client.js";
import type { ConnectionOptions } from "../../../src/client/security/connection.js";
import type { KeyWatch } from "../../../src/client/watch/key_watch.js";
import type { WatchDelete, WatchEvent, WatchPut } from "../../../src/client/watch/watch_events.js";
import { type ChangeLedger, putLine } from "./change_ledger.js";
import { FENCED_KEY } from "./holder.js";

const TIMEOUT_MS = 5_000;
const PROGRESS_MS = 500;

/** How a watcher reads: as fast as it can, or with a pause after each event, so that the history may leave it behind. */
export interface WatcherPace {
  readonly pauseMs: number;
}

/**
 * Watches all keys without end, keeps a copy of them by what it is told, and judges that: indexes only grow, a key is created only if it was
 * not there, and removed only if it was.
 */
export class TortureWatcher {
  readonly #client: CairnClient;
  readonly #watch: KeyWatch;
  readonly #copy = new Map<string, string>();
  /** Lines of the index that is being reported. */
  #lines: string[] = [];
  /** Everything after this index, up to {@link #through}, was reported; undefined while the keys are listed. */
  #listed: number | undefined;
  #through = 0;
  /** Highest token that a fenced write has carried. */
  #token = 0;
  #restarts = 0;
  #checked = 0;
  #isStopped = false;
  #isHurried = false;
  /** Rejects with what a watch must not do. */
  readonly done: Promise<void>;

  constructor(
    readonly name: string,
    endpoints: readonly string[],
    private readonly ledger: ChangeLedger,
    private readonly pace: WatcherPace,
    connection: ConnectionOptions = {},
  ) {
    this.#client = new CairnClient({ ...connection, endpoints, timeoutMs: TIMEOUT_MS });
    this.#watch = this.#client.watch(undefined, { initial: true, progressMs: PROGRESS_MS, timeoutMs: 600_000 });
    this.done = this.#run();
  }

  get counts() {
    return { restarts: this.#restarts, checked: this.#checked };
  }

  /** The keys with their values, as the watch has told. */
  get copy(): ReadonlyMap<string, string> {
    return this.#copy;
  }

  /** Resolves when everything up to `index` was reported. From now on the watcher reads without pauses. */
  async reaches(index: number): Promise<void> {
    this.#isHurried = true;
    while (this.#listed === undefined || this.#through < index) await Promise.race([this.done, pause(50)]);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#watch.close();
    await this.done;
    this.#checkCovered();
    await this.#client.close();
  }

  async #run(): Promise<void> {
    for await (const event of this.#watch) {
      if (this.#isStopped) return;
      this.#take(event);
      if (this.pace.pauseMs > 0 && !this.#isHurried) await pause(this.pace.pauseMs);
    }
  }

  #take(event: WatchEvent): void {
    switch (event.type) {
      case "restarted":
        this.#checkCovered();
        this.#restarts++;
        this.#listed = undefined;
        this.#lines = [];
        this.#copy.clear();
        return;
      case "existing":
        this.#copy.set(event.key, event.value.text());
        return;
      case "listed":
        this.#listed = this.#through = event.index;
        return;
      case "progress":
        this.#moveTo(event.index, "at least");
        return;
      default:
        this.#change(event);
    }
  }

  #change(event: WatchPut | WatchDelete): void {
    const { key, index, more } = event;
    if (this.#lines.length === 0) this.#moveTo(index, "above");
    else if (index !== this.#through) throw new Error(`${this.name}: index ${this.#through} was split by ${index}`);
    const wasThere = this.#copy.has(key);
    if (event.type === "put") {
      const value = event.value.text();
      if (event.created === wasThere) throw this.#wrong(event, wasThere);
      this.#copy.set(key, value);
      if (key === FENCED_KEY) this.#checkToken(Number(value));
      this.#lines.push(putLine(key, value));
    } else {
      if (!wasThere) throw this.#wrong(event, wasThere);
      this.#copy.delete(key);
      this.#lines.push(`delete ${key} ${event.expired ? "expired" : ""}`);
    }
    if (more) return;
    this.ledger.reported(this.name, index, this.#lines);
    this.#lines = [];
  }

  #moveTo(index: number, how: "above" | "at least"): void {
    if (this.#listed === undefined) throw new Error(`${this.name}: index ${index} came before the list of keys`);
    if (index < this.#through || (how === "above" && index === this.#through)) {
      throw new Error(`${this.name}: index ${index} came after ${this.#through}`);
    }
    this.#through = index;
  }

  /** A holder of a lock writes nothing after the next one has written. */
  #checkToken(token: number): void {
    if (token < this.#token) throw new Error(`${this.name}: token ${token} wrote after token ${this.#token}`);
    this.#token = token;
  }

  #checkCovered(): void {
    if (this.#listed === undefined) return;
    const last = this.#lines.length === 0 ? this.#through : this.#through - 1;
    this.#checked += this.ledger.check(this.name, this.#listed + 1, last);
  }

  #wrong(event: WatchPut | WatchDelete, wasThere: boolean): Error {
    const was = wasThere ? "was there" : "was not there";
    const created = event.type === "put" && event.created ? " (created)" : "";
    return new Error(`${this.name}: ${event.type}${created} of ${event.key} at ${event.index}, and the key ${was}`);
  }
}
