import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { CairnError } from "../../base/errors.js";
import type { Clock } from "../../system/clock.js";
import { type ConnectionOptions, tokenReader } from "../security/connection.js";
import type { KeepingRecord, LeaseKeeping, LeaseToKeep } from "./keeping.js";
import {
  type FromKeeper,
  type KeeperStart,
  processMs,
  SharedBeat,
  SharedRecord,
  type ToKeeper,
} from "./thread_messages.js";

/** Shortest and longest interval between two signs of life of the event loop, in ms. */
const BEAT_MS_LEAST = 20;
const BEAT_MS_MOST = 500;

/** Pause before a thread that has ended unasked is started again, in ms. */
const RESTART_MS = 250;

export interface KeeperThreadOptions extends ConnectionOptions {
  readonly endpoints: readonly string[];
}

interface Keeping {
  readonly lease: LeaseToKeep;
  readonly record: SharedRecord;
  readonly changed: () => void;
}

/**
 * Keeps the leases of a client alive in a thread of its own, so that a blocked event loop does not
 * end them. The thread starts with the first lease, and does not keep the process alive.
 */
export class KeeperThread implements LeaseKeeping {
  readonly #kept = new Map<number, Keeping>();
  readonly #beat = new SharedBeat();
  #worker: Worker | undefined;
  #timer: NodeJS.Timeout | undefined;
  #lastNumber = 0;
  #isClosed = false;
  readonly #readToken: (() => string) | undefined;
  /** The token that the thread has. */
  #token: string | undefined;

  constructor(
    private readonly options: KeeperThreadOptions,
    private readonly clock: Clock,
  ) {
    this.#readToken = tokenReader(options.token);
  }

  /** @throws CairnError FAILED_PRECONDITION when the thread's file is not there */
  keep(lease: LeaseToKeep, changed: () => void): KeepingRecord {
    this.#beat.set();
    if (this.#worker === undefined) this.#start();
    const number = ++this.#lastNumber;
    const keeping = { lease, record: new SharedRecord(), changed };
    const { record } = keeping;
    this.#kept.set(number, keeping);
    this.#send(number, keeping);
    this.#setTimer();
    return {
      sentAt: () => this.#onClientClock(record.sentAt),
      isGone: () => record.isGone,
      stop: () => {
        if (!this.#kept.delete(number)) return;
        this.#post({ type: "drop", number });
        this.#setTimer();
      },
    };
  }

  close(): void {
    this.#isClosed = true;
    this.#kept.clear();
    this.#setTimer();
    this.#post("stop");
  }

  #onClientClock(ms: number | undefined): number | undefined {
    return ms === undefined ? undefined : this.clock.now() - (processMs() - ms);
  }

  #post(message: ToKeeper): void {
    this.#worker?.postMessage(message);
  }

  /** Shows that the event loop runs, as often as the most impatient lease needs it. */
  #setTimer(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#kept.size === 0) return;
    const least = [...this.#kept.values()].reduce(
      (ms, { lease }) => Math.min(ms, lease.maxBlockedMs),
      Number.POSITIVE_INFINITY,
    );
    const beatMs = Math.min(Math.max(least / 4, BEAT_MS_LEAST), BEAT_MS_MOST);
    this.#timer = setInterval(() => this.#alive(), beatMs);
    this.#timer.unref();
  }

  /** Shows that the event loop runs, and passes on a new token. */
  #alive(): void {
    this.#beat.set();
    const token = this.#currentToken();
    if (token === this.#token || token === undefined) return;
    this.#token = token;
    this.#post({ type: "token", token });
  }

  /** Returns the token of now; the one of before when the function that returns it fails. */
  #currentToken(): string | undefined {
    try {
      return this.#readToken?.();
    } catch {
      return this.#token;
    }
  }

  #send(number: number, { lease, record }: Keeping): void {
    this.#post({ type: "keep", number, lease, record: record.memory });
  }

  #start(): void {
    const file = keeperFile();
    const { endpoints, tls, insecure } = this.options;
    this.#token = this.#currentToken();
    const token = this.#readToken && { first: this.#token };
    const workerData: KeeperStart = {
      endpoints,
      connection: { tls, insecure },
      token,
      beat: this.#beat.memory,
    };
    // Without the process's own options, some of which are for its main program only.
    const worker = new Worker(file, { execArgv: [], workerData, name: "cairn-leases" });
    this.#worker = worker;
    // Those that an earlier thread kept.
    for (const [number, keeping] of this.#kept) if (!keeping.record.isGone) this.#send(number, keeping);
    worker.on("message", ({ number }: FromKeeper) => this.#kept.get(number)?.changed());
    // The exit, which follows, has the thread started again.
    worker.on("error", (error) => process.emitWarning(`the thread that keeps leases alive has failed: ${error}`));
    worker.once("exit", () => this.#ended(worker));
    // Behind the listeners: each of them lets the thread keep the process alive again.
    worker.unref();
  }

  /** The leases that the thread kept live on for a while. */
  #ended(worker: Worker): void {
    if (this.#worker !== worker || this.#isClosed) return;
    this.#worker = undefined;
    const again = setTimeout(() => {
      if (this.#isClosed || this.#worker !== undefined || this.#kept.size === 0) return;
      this.#start();
    }, RESTART_MS);
    again.unref();
  }
}

/**
 * Returns the thread's file. The build puts it beside this one; tests run the sources, which have
 * no such file beside them; a bundle in CommonJS does not know its own address.
 * @throws CairnError FAILED_PRECONDITION when there is no such file
 */
function keeperFile(): URL {
  const own: string | undefined = import.meta.url;
  const name = own?.endsWith(".ts") ? "../../../dist/src/client/leases/keeper_main.js" : "./keeper_main.js";
  const file = own === undefined ? undefined : new URL(name, own);
  if (file !== undefined && existsSync(fileURLToPath(file))) return file;
  const text = `the thread that keeps leases alive has no file ${file === undefined ? name : fileURLToPath(file)}`;
  throw new CairnError("FAILED_PRECONDITION", `${text}: in a bundle, set the client's leaseThread to false`);
}
