import { CommandOutcome, type CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { encodeCommand } from "../../../src/machine/kv/command.js";
import type { Operation } from "../../support/history/history.js";
import { demand } from "../checks/checkers/checker.js";
import { Caller } from "./caller.js";
import type { SimCluster } from "./cluster.js";
import { getOrAdd } from "./maps.js";
import type { RunningNode, SimNode } from "./node.js";
import type { SimRandom } from "./random.js";

/** How clients behave. Times in milliseconds. */
export interface ClientWeather {
  readonly clients: number;
  readonly keys: number;
  readonly thinkMs: number;
  readonly timeoutMs: number;
  /** Bytes of a value, at most. */
  readonly valueBytes: number;
  /** Share of the requests, and of the answers, that get lost. */
  readonly loss: number;
  /** Share of the writes that are transactions. */
  readonly transactions: number;
}

/** How many of its writes a client may see come in again, from somewhere on the network where they were held up. */
const HELD_UP = 8;

/** Attempts after which a client leaves a request whose fate it does not know. */
const ATTEMPTS = 12;

type Write = {
  readonly op: "put" | "delete" | "cas";
  readonly key: string;
  readonly value?: string;
  readonly from?: string | null;
  /** A transaction that writes the key and its twin, both or none: a history of the two is one of a single key. */
  readonly isPair?: true;
};
type Command = Parameters<typeof encodeCommand>[0];

/** A client: one request at a time, to whom it takes for the leader, again with the same number when it has no answer. */
export class SimClient {
  /** What it has done, by cluster. */
  readonly #histories = new Map<string, Operation[]>();
  /** The cluster that it uses. */
  #cluster: string | undefined;
  /** The write that is under way. */
  #pending: Operation | undefined;
  #sequence = 0;
  /** The name under which the cluster knows it, and the index that the cluster had reached when it chose that. */
  #identity: { readonly name: string; readonly since: number };
  #names = 0;
  /** Writes that it has the answer to, as they were sent. */
  readonly #settled: Uint8Array[] = [];
  #values = 0;
  readonly #caller: Caller;
  /** What it last knew of each key: what a compare-and-set is tried with. */
  readonly #seen = new Map<string, string | null>();
  #isStopped = false;
  /** Share of its requests that are reads. */
  readonly #reads: number;
  /** How likely it is that a write that was answered long ago comes in once more. */
  readonly #late: number;
  readonly #ofTransactions: SimRandom;

  constructor(
    private readonly cluster: SimCluster,
    readonly id: string,
    private readonly weather: ClientWeather,
    private readonly random: SimRandom,
  ) {
    this.#reads = random.pick([0.1, 0.5, 0.95]);
    this.#caller = new Caller(cluster, id, weather, random, random.pick([0.02, 0.5]));
    this.#late = random.fork("late").pick([0, 0.05, 0.3]);
    this.#ofTransactions = random.fork("transactions");
    this.#identity = { name: id, since: 0 };
  }

  /** What it has done in a cluster. A write that is still under way may take effect. */
  history(clusterId: string): readonly Operation[] {
    const history = this.#histories.get(clusterId) ?? [];
    return this.#pending === undefined || this.#cluster !== clusterId ? history : [...history, this.#pending];
  }

  async run(): Promise<void> {
    while (!this.#isStopped) {
      await this.cluster.scheduler.sleep(this.random.waiting(this.weather.thinkMs), `${this.id} thinks`);
      if (this.#isStopped) return;
      if (this.cluster.main !== this.#cluster) this.#moveOn();
      if (this.#cluster === undefined) continue;
      if (this.random.chance(this.#reads)) await this.#read();
      else await this.#write();
      if (this.#settled.length > 0 && this.random.chance(this.#late)) await this.#sendLate();
    }
  }

  /** Begins nothing new. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Another cluster has taken the place of the one that it used, and knows nothing of it. */
  #moveOn(): void {
    if (this.#cluster !== undefined) this.#identity = { name: `${this.id}.${++this.#names}`, since: 0 };
    this.#settled.length = 0;
    this.#cluster = this.cluster.main;
    this.#caller.forgetLeader();
    this.#seen.clear();
    // Not sent to another cluster, even late: a session names its cluster.
    this.#settled.length = 0;
  }

  async #read(): Promise<void> {
    const key = this.#key();
    const call = this.cluster.scheduler.now;
    for (let attempt = 1; attempt <= ATTEMPTS && !this.#isStopped; attempt++) {
      const answer = await this.#ask((node, signal, place) => this.#readAt(place, node, key, signal));
      if ("value" in answer) {
        this.#seen.set(key, answer.value);
        this.cluster.count("read");
        const found = answer.value !== null;
        this.#record({ op: "get", key, out: answer.value, found, status: "ok", call, ret: this.cluster.scheduler.now });
        return;
      }
      await this.#backOff();
    }
  }

  async #readAt(place: SimNode, node: RunningNode, key: string, signal: AbortSignal): Promise<string | null> {
    const { leader, role } = node.raft;
    if (role === "leader" || leader === undefined || leader === node.id || !this.cluster.readsAtFollowers) {
      await node.linearizableRead(signal);
      demand(role === "leader", "only a leader answers linearizable reads without a read index", { node: node.id });
      return valueAt(node, key);
    }
    const reads = this.cluster.network.readQuestions.of(place, node);
    if ((await reads.readable({ id: leader, address: `${leader}.test:1` }, signal)) === true) {
      this.cluster.count("read at a follower");
      return valueAt(node, key);
    }
    this.cluster.count("read passed on by a follower");
    throw new CairnError("NOT_LEADER", "the read is passed on", { leaderHint: leader });
  }

  async #write(): Promise<void> {
    const write = this.#draw();
    let sequence = ++this.#sequence;
    const call = this.cluster.scheduler.now;
    let isUnknown = false;
    const asked = operationIn(write);
    this.#pending = { client: this.id, ...asked, status: "info", call, ret: null };
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const data = this.#encode(write, sequence);
      const answer = await this.#ask(async (node, signal) => (await node.propose(data, signal)).result);
      if ("value" in answer) {
        const { outcome, index, results } = answer.value;
        const valueForgotten = [answer.value, ...results].some((result) => result.valueForgotten);
        if (outcome === CommandOutcome.SESSION_EXPIRED) {
          this.#takeName(Number(index));
          // Sent before, it may have been carried out under the old name.
          if (isUnknown) break;
        } else if (valueForgotten) {
          // It did not match, and that is all that is known: another request may find out what is there.
          sequence = ++this.#sequence;
          isUnknown = false;
          const what = write.isPair === true ? "transaction" : "compare-and-set";
          this.cluster.count(`value of a retried ${what} forgotten`);
        } else {
          this.#answered(write, sequence, call, answer.value);
          this.#keep(data);
          return;
        }
        continue;
      }
      if (!isHarmless(answer.error)) isUnknown = true;
      if (attempt > 1) this.cluster.count("write tried again");
      if ((this.#isStopped && !isUnknown) || this.cluster.main !== this.#cluster) break;
      await this.#backOff();
    }
    this.cluster.count(isUnknown ? "write of unknown fate" : "write that failed");
    const { now } = this.cluster.scheduler;
    this.#record(
      isUnknown ? { ...asked, status: "info", call, ret: null } : { ...asked, status: "fail", call, ret: now },
    );
  }

  /** The cluster has forgotten it. */
  #takeName(since: number): void {
    this.#identity = { name: `${this.id}.${++this.#names}`, since };
    this.cluster.count("client forgotten");
  }

  #keep(data: Uint8Array): void {
    if (this.#settled.length === HELD_UP) this.#settled.shift();
    this.#settled.push(data);
  }

  /** A write that has its answer comes in again, late. It must have no effect, and its answer is of no interest. */
  async #sendLate(): Promise<void> {
    const data = this.random.pick(this.#settled);
    const answer = await this.#ask(async (node, signal) => (await node.propose(data, signal)).result);
    if ("value" in answer) this.cluster.count(`late retry answered ${CommandOutcome[answer.value.outcome]}`);
  }

  #answered(write: Write, sequence: number, call: number, result: CommandResult): void {
    const { index } = result;
    const outcome = write.isPair === true ? outcomeOfPair(result) : result.outcome;
    const present = write.isPair === true ? result.results[0]! : result;
    const met = outcome === CommandOutcome.MISMATCH ? Buffer.from(present.value).toString("latin1") : "";
    demand(outcome !== CommandOutcome.RETRY_TOO_OLD, "a request that was not acknowledged is remembered", {
      client: this.id,
      sequence,
    });
    this.cluster.checks
      .of(this.#cluster!)
      .requests.told(this.#identity.name, sequence, { outcome, index: Number(index), value: met });
    this.cluster.count(write.isPair === true ? "transaction" : "write");
    const { now } = this.cluster.scheduler;
    const found = outcome === CommandOutcome.OK;
    const done = { ...operationIn(write), status: "ok", call, ret: now } as const;
    if (write.op === "put") this.#record(done);
    else if (write.op === "delete") this.#record({ ...done, found });
    else this.#record({ ...done, found, ...(!found && { out: outcome === CommandOutcome.MISMATCH ? met : null }) });
    const holds = found ? (write.value ?? null) : outcome === CommandOutcome.MISMATCH ? met : null;
    this.#seen.set(write.key, write.op === "put" ? write.value! : holds);
  }

  #draw(): Write {
    const { weather } = this;
    if (this.#ofTransactions.chance(weather.transactions)) return this.#drawPair();
    const key = this.#key();
    const kind = this.random.fraction();
    if (kind < 0.15) return { op: "delete", key };
    const value = this.#value();
    if (kind < 0.6) return { op: "put", key, value };
    return { op: "cas", key, value, from: this.#seen.get(key) ?? null };
  }

  #drawPair(): Write {
    const random = this.#ofTransactions;
    const key = `pair${random.whole(1, this.weather.keys)}/`;
    const value = this.#value();
    if (random.chance(0.2)) return { op: "put", key, value, isPair: true };
    return { op: "cas", key, value, from: this.#seen.get(key) ?? null, isPair: true };
  }

  #key(): string {
    return `k${this.random.whole(1, this.weather.keys)}`;
  }

  #value(): string {
    const name = `${this.id}-${++this.#values}`;
    return name.padEnd(this.random.whole(1, this.weather.valueBytes), ".");
  }

  #encode(write: Write, sequence: number): Uint8Array {
    const { name, since } = this.#identity;
    return encodeCommand({
      requestId: {
        clientId: name,
        sequence: BigInt(sequence),
        acknowledgedThrough: BigInt(sequence - 1),
        since: BigInt(since),
      },
      operation: operationOf(write),
    });
  }

  /** One attempt at the node that is taken for the leader, or at any. */
  #ask<Value>(
    work: (node: RunningNode, signal: AbortSignal, place: SimNode) => Promise<Value>,
  ): Promise<{ readonly value: Value } | { readonly error: CairnError }> {
    return this.#caller.ask(this.#cluster, work);
  }

  #backOff(): Promise<void> {
    return this.cluster.scheduler.sleep(this.random.between(20, 300), `${this.id} waits before it asks again`);
  }

  #record(operation: Omit<Operation, "client">): void {
    this.#pending = undefined;
    getOrAdd(this.#histories, this.#cluster!, () => []).push({ client: this.id, ...operation });
  }
}

function valueAt(node: RunningNode, key: string): string | null {
  const record = node.machine.get(Buffer.from(key));
  return record === undefined ? null : Buffer.from(record.value).toString("latin1");
}

/** What a history has of a write. */
function operationIn({ isPair: _, ...write }: Write): Omit<Write, "isPair"> {
  return write;
}

/** The outcome of a transaction as that of a put or of a compare-and-set. Both keys must be the same, or both missing. */
function outcomeOfPair({ outcome, succeeded, results }: CommandResult): CommandOutcome {
  if (outcome !== CommandOutcome.OK || succeeded) return outcome;
  const [first, second] = results.map(
    ({ outcome, value, version }) => `${outcome} ${version} ${Buffer.from(value).toString("latin1")}`,
  );
  demand(first === second, "all changes of a transaction are seen, or none", { first, second });
  return results[0]!.outcome === CommandOutcome.OK ? CommandOutcome.MISMATCH : CommandOutcome.NOT_FOUND;
}

function pairOf({ op, key, value, from }: Write): NonNullable<Command["operation"]> {
  const keys = [Buffer.from(key), Buffer.from(`${key}twin`)];
  const put = (each: Buffer) => ({ case: "put", value: { key: each, value: Buffer.from(value!) } }) as const;
  const compare =
    from === null
      ? { keys: { prefix: keys[0]! }, expected: { case: "exists", value: false } as const }
      : { key: keys[1]!, expected: { case: "value", value: Buffer.from(from ?? "") } as const };
  return {
    case: "txn",
    value: {
      compare: op === "put" ? [] : [compare],
      then: keys.map((each) => ({ operation: put(each) })),
      otherwise: keys.map((each) => ({ operation: { case: "get", value: { key: each } } })),
    },
  };
}

function operationOf(write: Write): NonNullable<Command["operation"]> {
  if (write.isPair === true) return pairOf(write);
  const { op, key, value, from } = write;
  const bytes = Buffer.from(key);
  if (op === "put") return { case: "put", value: { key: bytes, value: Buffer.from(value!) } };
  if (op === "delete") return { case: "delete", value: { key: bytes } };
  const expected =
    from === null ? ({ case: "version", value: 0n } as const) : ({ case: "value", value: Buffer.from(from!) } as const);
  return { case: "compareAndSet", value: { key: bytes, newValue: Buffer.from(value!), expected } };
}

/** Errors that say that nothing has happened. */
function isHarmless({ code }: CairnError): boolean {
  return ["NOT_LEADER", "BUSY", "DISK_FULL", "STOPPED", "UNREACHABLE", "FAILED_PRECONDITION"].includes(code);
}
