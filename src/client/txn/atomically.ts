import { checkFunction, checkObject, checkWholeNumber } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import { keyName } from "../../base/key_name.js";
import type { Clock } from "../../system/clock.js";
import { gaveUp } from "../call.js";
import type { CallOptions } from "../options.js";
import { type Key, KeyValue, keyToBytes, type Value, valueToBytes } from "../values.js";
import { compare } from "./conditions.js";
import { op, type TxnStep } from "./steps.js";
import type { Txn } from "./txn.js";

// Runs a function until its reads and writes fit into the log as one transaction.

export interface AtomicallyOptions extends CallOptions {
  /** Largest number of runs of the function, 1 or more. Default 10. */
  readonly attempts?: number | undefined;
}

const DEFAULT_ATTEMPTS = 10;

/** Longest pause before the second attempt, and before any, in ms. */
const PAUSE_MS = 10;
const PAUSE_MS_MAX = 500;

/** The part of a client that attempts use. */
export interface AtomicSource {
  readonly clock: Clock;
  readonly random: () => number;
  get(key: Uint8Array, options: CallOptions): Promise<KeyValue | undefined>;
  txn(): Txn;
}

/** Reads and writes of one attempt of {@link CairnClient.atomically}. */
export class AtomicTx {
  /** Reads of the cluster, by key. */
  readonly #reads = new Map<string, { readonly key: Uint8Array; readonly found: Promise<KeyValue | undefined> }>();
  /** The last change of each key; undefined: it is removed. */
  readonly #changes = new Map<string, { readonly key: Uint8Array; readonly value: Uint8Array | undefined }>();
  #isOver = false;

  /** @internal */
  constructor(
    private readonly source: Pick<AtomicSource, "get" | "txn">,
    private readonly options: CallOptions,
  ) {}

  /**
   * Reads a key. A key that this attempt has written has the written value, with version 0; another
   * one is read from the cluster once. Keys are read at different moments: if they do not fit each
   * other, the attempt fails, and the function runs again.
   */
  async get(key: Key): Promise<KeyValue | undefined> {
    this.#assertOpen();
    const bytes = keyToBytes(key);
    const name = keyName(bytes);
    const change = this.#changes.get(name);
    if (change !== undefined) return change.value && new KeyValue(bytes, Buffer.from(change.value), 0, 0);
    let read = this.#reads.get(name);
    if (read === undefined) {
      read = { key: bytes, found: this.source.get(bytes, this.options) };
      this.#reads.set(name, read);
    }
    const found = await read.found;
    return found && new KeyValue(bytes, Buffer.from(found.bytes), found.version, found.createVersion);
  }

  /** Sets a key when the function has ended. */
  put(key: Key, value: Value): void {
    this.#change(key, valueToBytes(value));
  }

  /** Removes a key when the function has ended. */
  delete(key: Key): void {
    this.#change(key, undefined);
  }

  /**
   * Commits the changes if no key that was read has another version now; returns whether they were.
   * @internal
   */
  async commit(): Promise<boolean> {
    this.#isOver = true;
    const conditions = await Promise.all(
      [...this.#reads.values()].map(async ({ key, found }) => compare(key).version("=", (await found)?.version ?? 0)),
    );
    const steps = [...this.#changes.values()].map(
      ({ key, value }): TxnStep => (value === undefined ? op.delete(key) : op.put(key, value)),
    );
    // One read needs no proof that nothing came between.
    if (steps.length === 0 && conditions.length <= 1) return true;
    const { succeeded } = await this.source
      .txn()
      .when(...conditions)
      .then(...steps)
      .commit(this.options);
    return succeeded;
  }

  /** Ends the attempt without an effect. @internal */
  abandon(): void {
    this.#isOver = true;
    // Reads that the function did not wait for may still fail.
    for (const { found } of this.#reads.values()) found.catch(() => {});
  }

  #change(key: Key, value: Uint8Array | undefined): void {
    this.#assertOpen();
    const bytes = keyToBytes(key);
    this.#changes.set(keyName(bytes), { key: bytes, value });
  }

  #assertOpen(): void {
    if (!this.#isOver) return;
    throw new CairnError(
      "FAILED_PRECONDITION",
      "the function has ended, and its transaction with it: await every step",
    );
  }
}

/** Implements {@link CairnClient.atomically}. */
export async function atomically<Result>(
  source: AtomicSource,
  work: (tx: AtomicTx) => Result | Promise<Result>,
  options: AtomicallyOptions,
): Promise<Result> {
  checkFunction("the function", work);
  const { attempts = DEFAULT_ATTEMPTS, signal, timeoutMs } = checkObject("options", options);
  checkWholeNumber("attempts", attempts, 1);
  for (let attempt = 1; ; attempt++) {
    const tx = new AtomicTx(source, { signal, timeoutMs });
    let result: Result;
    try {
      result = await work(tx);
    } catch (error) {
      tx.abandon();
      throw error;
    }
    if (await tx.commit()) return result;
    if (attempt === attempts) throw conflict(attempts);
    await pause(source, Math.min(PAUSE_MS * 2 ** (attempt - 1), PAUSE_MS_MAX) * source.random(), signal);
  }
}

function conflict(attempts: number): CairnError {
  const text = `in each of ${attempts} attempts another writer changed a key between its read and the commit`;
  return new CairnError("CONFLICT", `${text}, and nothing happened: retry later, or raise attempts`);
}

function pause({ clock }: AtomicSource, ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(gaveUp(signal));
    const onAbort = () => {
      cancel();
      reject(gaveUp(signal!));
    };
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
