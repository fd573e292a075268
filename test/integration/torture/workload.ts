import { setTimeout as pause } from "node:timers/promises";
import { CairnError } from "../../../src/base/errors.js";
import { CairnClient } from "../../../src/client/client.js";
import type { ConnectionOptions } from "../../../src/client/security/connection.js";
import { compare } from "../../../src/client/txn/conditions.js";
import { op } from "../../../src/client/txn/steps.js";
import type { Operation } from "../../support/history/history.js";
import type { Random } from "../../support/random.js";

/** Keys at a time, and how long they are used, in ms: a history of one key must not grow for ever, or it cannot be checked. */
const KEYS = 6;
const EPOCH_MS = 15_000;
/** Between two operations of a client, in ms, at most: beyond, the histories only grow without showing more. */
const PAUSE_MS = 12;
const TIMEOUT_MS = 5_000;

export interface OperationCounts {
  ok: number;
  unknown: number;
  failed: number;
}

/** A client that reads, writes, compares and sets and deletes without end, and writes down what came of it. */
export class TortureClient {
  readonly #client: CairnClient;
  #written = 0;
  #stopped = false;
  #lastSeen = new Map<string, string | null>();
  /** Rejects with an answer that no client may get. */
  readonly done: Promise<void>;

  constructor(
    private readonly name: string,
    endpoints: readonly string[],
    private readonly random: Random,
    private readonly record: (operation: Operation) => void,
    /** Told of each write that was answered, with its place in the log. */
    private readonly answered: (index: number, key: string, value: string) => void,
    readonly counts: OperationCounts,
    connection: ConnectionOptions = {},
  ) {
    this.#client = new CairnClient({
      ...connection,
      endpoints,
      timeoutMs: TIMEOUT_MS,
      random: () => random.fraction(),
    });
    this.done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.done;
    await this.#client.close();
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      await this.#operate();
      await pause(this.random.whole(0, PAUSE_MS));
    }
  }

  async #operate(): Promise<void> {
    const key = `${Math.floor(performance.now() / EPOCH_MS)}-${this.random.whole(1, KEYS)}`;
    const draw = this.random.fraction();
    if (this.random.fraction() < 0.2) await this.#transact(`pair-${key}/`);
    else if (draw < 0.4) await this.#get(key);
    else if (draw < 0.7) await this.#put(key);
    else if (draw < 0.95) await this.#compareAndSet(key);
    else await this.#delete(key);
  }

  async #get(key: string): Promise<void> {
    await this.#observe({ op: "get", key }, async () => {
      const found = await this.#client.get(key);
      this.#lastSeen.set(key, found?.text() ?? null);
      return { found: found !== undefined, out: found?.text() ?? null };
    });
  }

  async #put(key: string): Promise<void> {
    const value = this.#newValue();
    await this.#observe({ op: "put", key, value }, async () => {
      this.answered(await this.#client.put(key, value), key, value);
      return {};
    });
  }

  async #delete(key: string): Promise<void> {
    await this.#observe({ op: "delete", key }, async () => ({ found: await this.#client.delete(key) }));
  }

  async #compareAndSet(key: string): Promise<void> {
    const from = this.#lastSeen.get(key) ?? null;
    const value = this.#newValue();
    await this.#observe({ op: "cas", key, from, value }, async () => {
      const expected = from === null ? ({ absent: true } as const) : { value: from };
      const result = await this.#client.compareAndSet(key, expected, value);
      if (result.swapped) this.answered(result.version, key, value);
      this.#lastSeen.set(key, result.swapped ? value : (result.current?.text() ?? null));
      return result.swapped ? { found: true } : { found: false, out: result.current?.text() ?? null };
    });
  }

  /** Writes a key and its twin, both or none, or reads both: a history of the two is one of a single key. */
  async #transact(key: string): Promise<void> {
    const from = this.#lastSeen.get(key) ?? null;
    const value = this.#newValue();
    const twin = `${key}twin`;
    await this.#observe({ op: "cas", key, from, value }, async () => {
      const condition = from === null ? compare({ prefix: key }).missing() : compare(twin).value("=", from);
      const result = await this.#client
        .txn()
        .when(condition)
        .then(op.put(key, value), op.put(twin, value))
        .else(op.get(key), op.get(twin))
        .commit();
      if (result.succeeded) {
        for (const each of [key, twin]) this.answered(result.version, each, value);
        this.#lastSeen.set(key, value);
        return { found: true };
      }
      const [first, second] = result.results.map((read) => (read.type === "get" ? (read.found?.text() ?? null) : read));
      if (first !== second) throw new Error(`of a transaction ${key} has ${first}, and its twin has ${second}`);
      const out = first as string | null;
      this.#lastSeen.set(key, out);
      return { found: false, out };
    });
  }

  async #observe(
    what: Pick<Operation, "op" | "key" | "value" | "from">,
    act: () => Promise<Pick<Operation, "found" | "out">>,
  ): Promise<void> {
    const { name: client } = this;
    const call = microseconds();
    try {
      const answer = await act();
      this.counts.ok++;
      this.record({ client, ...what, ...answer, status: "ok", call, ret: microseconds() });
    } catch (error) {
      if (!(error instanceof CairnError)) throw error;
      if (error.code === "OUTCOME_UNKNOWN") {
        this.counts.unknown++;
        this.record({ client, ...what, status: "info", call, ret: null });
        return;
      }
      // What any client must be ready for while nodes die; anything else is a fault.
      if (!["TIMEOUT", "CANCELLED", "UNREACHABLE", "NOT_LEADER", "STOPPED", "BUSY"].includes(error.code)) throw error;
      this.counts.failed++;
      this.record({ client, ...what, status: "fail", call, ret: microseconds() });
    }
  }

  #newValue(): string {
    return `${this.name}.${++this.#written}`;
  }
}

function microseconds(): number {
  return Math.floor(performance.now() * 1000);
}
