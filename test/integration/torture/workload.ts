import { setTimeout as pause } from "node:timers/promises";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { CairnClient } from "../../../src/client/client.js";
import { type ConnectionOptions, protectedSettings } from "../../../src/client/security/connection.js";
import { compare } from "../../../src/client/txn/conditions.js";
import { op } from "../../../src/client/txn/steps.js";
import { ChannelPool } from "../../../src/rpc/channel_pool.js";
import type { Operation } from "../../support/history/history.js";
import type { Random } from "../../support/random.js";
import type { Need, Verdict } from "./roles.js";

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

/** Pause after a refusal for want of a role, in ms: a caller that gives up until it is told otherwise would show less. */
const REFUSED_PAUSE_MS = 40;

/** Errors of a put at one node after which it has certainly no effect. */
const NOTHING_HAPPENED: ReadonlySet<string> = new Set(["NOT_LEADER", "BUSY", "PERMISSION_DENIED", "UNAUTHENTICATED"]);

/** What an access file says of a caller that may lose its role. */
export interface CallerRole {
  /** Whether it had the role from one moment to another. */
  verdict(need: Need, from: number, to: number): Verdict;
  /** A call was refused for want of a role. */
  refused(): void;
}

/** A client that reads, writes, compares and sets and deletes without end, and writes down what came of it. */
export class TortureClient {
  readonly #client: CairnClient;
  /** For calls to one node alone. */
  readonly #nodes: ChannelPool;
  #written = 0;
  #stopped = false;
  #lastSeen = new Map<string, string | null>();
  /** Rejects with an answer that no client may get. */
  readonly done: Promise<void>;

  constructor(
    private readonly name: string,
    private readonly endpoints: readonly string[],
    private readonly random: Random,
    private readonly record: (operation: Operation) => void,
    /** Told of each write that was answered, with its place in the log. */
    private readonly answered: (index: number, key: string, value: string) => void,
    readonly counts: OperationCounts,
    connection: ConnectionOptions = {},
    /** Default: it has its role all the time. */
    private readonly role?: CallerRole,
  ) {
    this.#client = new CairnClient({
      ...connection,
      endpoints,
      timeoutMs: TIMEOUT_MS,
      random: () => random.fraction(),
    });
    this.#nodes = new ChannelPool(protectedSettings(connection, endpoints));
    this.done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.done;
    await this.#client.close();
    this.#nodes.close();
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
      const version =
        this.role !== undefined && this.random.oneIn(2) ? this.#putAnywhere(key, value) : this.#client.put(key, value);
      this.answered(await version, key, value);
      return {};
    });
  }

  /** A put at any node, which passes it on: it is judged there, and again by the leader. */
  async #putAnywhere(key: string, value: string): Promise<number> {
    const kv = this.#nodes.get(this.random.pick(this.endpoints)).client(KeyValueService);
    try {
      const answer = await kv.put({ key: Buffer.from(key), value: Buffer.from(value) }, { timeoutMs: TIMEOUT_MS });
      return Number(answer.version);
    } catch (error) {
      const { code, text } = CairnError.from(error);
      if (NOTHING_HAPPENED.has(code)) throw error;
      throw new CairnError("OUTCOME_UNKNOWN", text, { cause: error });
    }
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
    const began = performance.now();
    const call = microseconds();
    const verdict = () => this.role?.verdict(what.op === "get" ? "read" : "write", began, performance.now()) ?? "held";
    try {
      const answer = await act();
      if (verdict() === "lacked")
        throw new Error(`${client} has not the role for ${what.op} ${what.key}, which was done`);
      this.counts.ok++;
      this.record({ client, ...what, ...answer, status: "ok", call, ret: microseconds() });
    } catch (error) {
      if (!(error instanceof CairnError)) throw error;
      const isRefused = error.code === "PERMISSION_DENIED" || error.code === "UNAUTHENTICATED";
      if (isRefused && verdict() === "held")
        throw new Error(`${client} has the role for ${what.op} ${what.key}: ${error}`);
      if (isRefused || verdict() === "lacked") {
        // Whatever the answer was: without the role, nothing may come of it.
        this.counts.failed++;
        this.role?.refused();
        this.record({ client, ...what, status: "fail", call, ret: microseconds() });
        await pause(REFUSED_PAUSE_MS);
        return;
      }
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
