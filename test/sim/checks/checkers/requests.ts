import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type Command,
  CommandOutcome,
  type CommandResult,
  CommandResultSchema,
  CommandSchema,
  type GetOperation,
  type RequestId,
  type TxnOperation,
} from "../../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../../src/base/limits.js";
import type { SessionLimits } from "../../../../src/machine/kv/session_limits.js";
import { rememberedResult } from "../../../../src/machine/kv/txn/remembered.js";
import type { ApplyResult } from "../../../../src/machine/state_machine.js";
import type { Entry } from "../../../../src/raft/types.js";
import { getOrAdd } from "../../world/maps.js";
import type { SimNode } from "../../world/node.js";
import { type Checker, demand } from "./checker.js";
import { LeaseModel, type ModelRecord } from "./lease_model.js";

/** What became of a request, as it must be. */
export interface RequestResult {
  readonly outcome: CommandOutcome;
  /** Index of the entry that carried it out. */
  readonly index: number;
  /** What a compare-and-set that found another value has found. */
  readonly value: string;
  /** Version of that value. */
  readonly version: number;
  /** The value is forgotten. */
  readonly isForgotten: boolean;
  /** Of a transaction: all of its result. Then the outcome and the value are those of the compare-and-set that it stands for. */
  readonly whole?: CommandResult;
}

/** What a client hears of it. */
export type ToldResult = Pick<RequestResult, "outcome" | "index" | "value">;

/** What is remembered of a client. */
interface Client {
  readonly answers: Map<number, RequestResult>;
  /** Requests up to here are forgotten. */
  floor: number;
  lastUsed: number;
}

/**
 * What requests do, told a second time and in few words: each has its effect once, whatever is in the log how often, and all replicas answer the
 * same. What a client was told stays true. Who is forgotten, and when, is told anew each time, without any account that is kept.
 */
export class Requests implements Checker {
  readonly #clients = new Map<string, Client>();
  /** Highest index at which a client was last used that is forgotten. */
  #horizon = 0;
  /** What each request did, by client and sequence: never forgotten. */
  readonly #done = new Map<string, Map<number, RequestResult>>();
  readonly #records = new Map<string, ModelRecord>();
  readonly #leases = new LeaseModel(this.#records);
  /** Keys that were ever attached to a lease. */
  readonly #leased = new Set<string>();
  /** By index; undefined where there is no command. */
  readonly #results: (RequestResult | undefined)[] = [undefined];
  /** What clients were told. */
  readonly #told: { readonly client: string; readonly sequence: number; readonly result: ToldResult }[] = [];
  repeated = 0;
  /** Clients that were forgotten, and their requests that were refused. */
  forgotten = 0;
  refused = 0;

  constructor(private readonly bounds: SessionLimits) {}

  /** A client has the answer to its request. */
  told(client: string, sequence: number, result: ToldResult): void {
    this.#told.push({ client, sequence, result });
  }

  applied(place: SimNode, entries: readonly Entry[], results: readonly ApplyResult<CommandResult>[]): void {
    entries.forEach((entry, at) => {
      const { index } = entry;
      demand(index <= this.#results.length, "nothing is applied before what is below it", { node: place.id, index });
      if (index === this.#results.length) this.#results.push(this.#apply(entry));
      const wanted = this.#results[index];
      const given = results[at]?.result;
      const isSame = given === undefined ? wanted === undefined : wanted !== undefined && isEqual(given, wanted);
      demand(isSame, "a request is answered by what it did when it was carried out", {
        node: place.id,
        index,
        outcome: given?.outcome,
        carriedOutAt: given === undefined ? undefined : Number(given.index),
        wanted: wanted && factsOf(wanted),
      });
    });
    if (entries.at(-1)?.index === this.#results.length - 1) this.#compareLeased(place);
  }

  /** Leases that have expired. */
  get expired(): number {
    return this.#leases.expired;
  }

  /** The keys that leases have, or had, are there or gone, at this very index. */
  #compareLeased({ id, cairn }: SimNode): void {
    if (cairn?.machine.appliedIndex !== this.#results.length - 1) return;
    for (const key of this.#leased) {
      const wanted = this.#records.get(key);
      const given = cairn.machine.get(Buffer.from(key, "latin1"));
      const isSame = given?.version === wanted?.version && given?.lease === wanted?.lease;
      const index = cairn.machine.appliedIndex;
      demand(isSame, "keys go with their lease, and no others", { node: id, index, key, wanted, lease: given?.lease });
    }
  }

  finished(): void {
    for (const { client, sequence, result } of this.#told) {
      const known = this.#done.get(client)?.get(sequence);
      demand(known !== undefined, "what a client was told is in the committed log", { client, sequence, result });
      const isSame = known.outcome === result.outcome && known.index === result.index && known.value === result.value;
      demand(isSame, "what a client was told is what was done", { client, sequence, result, known: factsOf(known) });
    }
  }

  #apply({ index, type, data }: Entry): RequestResult | undefined {
    if (type !== "command") return undefined;
    const command = fromBinary(CommandSchema, data);
    const { requestId } = command;
    if (requestId === undefined) return this.#carryOut(command, index);
    const { clientId, since } = requestId;
    const isNew = Number(since) >= this.#horizon && Number(since) < index;
    if (!this.#clients.has(clientId) && !isNew) {
      this.refused += 1;
      return nothing(CommandOutcome.SESSION_EXPIRED, index);
    }
    const client = getOrAdd(this.#clients, clientId, () => ({ answers: new Map(), floor: 0, lastUsed: 0 }));
    client.lastUsed = index;
    const result = this.#answer(client, requestId, command, index);
    forgetThrough(client, Number(requestId.acknowledgedThrough));
    while (this.#isFull()) this.#forgetOldest();
    return result;
  }

  #answer(client: Client, { clientId, sequence: number }: RequestId, command: Command, index: number): RequestResult {
    const sequence = Number(number);
    const known = client.answers.get(sequence);
    if (known !== undefined) {
      this.repeated += 1;
      return known;
    }
    if (sequence <= client.floor) return nothing(CommandOutcome.RETRY_TOO_OLD, index);
    const done = getOrAdd(this.#done, clientId, () => new Map());
    demand(!done.has(sequence), "T6: no request is carried out twice", { clientId, sequence, index });
    const result = this.#carryOut(command, index);
    done.set(sequence, result);
    const isLong = Buffer.byteLength(result.value, "latin1") > this.bounds.valueBytes;
    if (result.whole !== undefined) {
      const whole = rememberedResult(result.whole, this.bounds.valueBytes);
      client.answers.set(sequence, { ...result, whole });
    } else client.answers.set(sequence, isLong ? { ...result, value: "", isForgotten: true } : result);
    while (client.answers.size > this.bounds.answers) forgetThrough(client, Math.min(...client.answers.keys()));
    return result;
  }

  #isFull(): boolean {
    let bytes = 0;
    for (const [id, { answers }] of this.#clients) {
      bytes += limits.sessionOverheadBytes + Buffer.byteLength(id);
      for (const answer of answers.values()) bytes += limits.answerOverheadBytes + encodedBytes(answer);
    }
    return this.#clients.size > this.bounds.sessions || bytes > this.bounds.bytes;
  }

  #forgetOldest(): void {
    const inOrder = [...this.#clients].sort(([, a], [, b]) => a.lastUsed - b.lastUsed);
    const [id, { lastUsed }] = inOrder[0]!;
    this.#clients.delete(id);
    this.#horizon = lastUsed;
    this.forgotten += 1;
  }

  #carryOut(command: Command, index: number): RequestResult {
    const { operation } = command;
    const records = this.#records;
    const done = (outcome: CommandOutcome): RequestResult => nothing(outcome, index);
    const whole = this.#leases.carryOut(command, index);
    if (whole !== undefined) return { ...done(whole.outcome), whole };
    if (operation.case === "put") {
      const { key, value, leaseId } = operation.value;
      return done(this.#put(textOf(key), textOf(value), index, leaseId));
    }
    if (operation.case === "txn") return this.#carryOutPair(operation.value, index);
    if (operation.case === "delete") {
      return done(records.delete(textOf(operation.value.key)) ? CommandOutcome.OK : CommandOutcome.NOT_FOUND);
    }
    if (operation.case !== "compareAndSet") throw new Error(`no client of the simulator sends a ${operation.case}`);
    const { key, expected, newValue, leaseId } = operation.value;
    const present = records.get(textOf(key));
    const wanted = expected.case === "value" ? textOf(expected.value) : undefined;
    if (present === undefined && wanted !== undefined) return done(CommandOutcome.NOT_FOUND);
    if (present !== undefined && present.value !== wanted) {
      return { ...done(CommandOutcome.MISMATCH), value: present.value, version: present.version };
    }
    return done(this.#put(textOf(key), textOf(newValue), index, leaseId));
  }

  #put(key: string, value: string, index: number, leaseId = 0n): CommandOutcome {
    const lease = leaseId === 0n ? undefined : Number(leaseId);
    if (lease !== undefined && !this.#leases.has(lease)) return CommandOutcome.LEASE_NOT_FOUND;
    if (lease !== undefined) this.#leased.add(key);
    this.#records.set(key, { value, version: index, created: this.#records.get(key)?.created ?? index, lease });
    return CommandOutcome.OK;
  }

  /** A transaction as the clients make it: one comparison or none, that of a value or that a key is missing; then puts, or else gets. */
  #carryOutPair({ compare: [comparison], then, otherwise }: TxnOperation, index: number): RequestResult {
    const expected = comparison?.expected;
    const judged = textOf(comparison?.keys?.prefix ?? comparison?.key ?? Buffer.alloc(0));
    const wanted = expected?.case === "value" ? textOf(expected.value) : undefined;
    const succeeded = comparison === undefined || this.#records.get(judged)?.value === wanted;
    const results = (succeeded ? then : otherwise).map(
      ({ operation }): MessageInitShape<typeof CommandResultSchema> => {
        if (operation.case === "put") {
          this.#put(textOf(operation.value.key), textOf(operation.value.value), index);
          return { outcome: CommandOutcome.OK };
        }
        const { value, version, created } = this.#records.get(textOf((operation.value as GetOperation).key)) ?? {};
        if (value === undefined) return { outcome: CommandOutcome.NOT_FOUND };
        const numbers = { version: BigInt(version!), createVersion: BigInt(created!) };
        return { outcome: CommandOutcome.OK, value: Buffer.from(value, "latin1"), ...numbers };
      },
    );
    const whole = create(CommandResultSchema, { outcome: CommandOutcome.OK, index: BigInt(index), succeeded, results });
    if (succeeded) return { ...nothing(CommandOutcome.OK, index), whole };
    const [met] = results;
    const outcome = met!.outcome === CommandOutcome.OK ? CommandOutcome.MISMATCH : CommandOutcome.NOT_FOUND;
    return { ...nothing(outcome, index), value: textOf(met!.value ?? Buffer.alloc(0)), whole };
  }
}

/** The facts of a result, without bigints. */
function factsOf({ whole, ...result }: RequestResult): object {
  return whole === undefined ? result : { ...result, whole: Buffer.from(encoded(whole)).toString("hex") };
}

function nothing(outcome: CommandOutcome, index: number): RequestResult {
  return { outcome, index, value: "", version: 0, isForgotten: false };
}

function forgetThrough(client: Client, sequence: number): void {
  client.floor = Math.max(client.floor, sequence);
  for (const each of [...client.answers.keys()]) if (each <= client.floor) client.answers.delete(each);
}

function isEqual(given: CommandResult, wanted: RequestResult): boolean {
  const { outcome, index, value, version, isForgotten, whole } = wanted;
  if (whole !== undefined) return Buffer.compare(encoded(given), encoded(whole)) === 0;
  const { valueForgotten } = given;
  if (given.outcome !== outcome || Number(given.index) !== index || valueForgotten !== isForgotten) return false;
  return textOf(given.value) === value && Number(given.version) === version;
}

function encodedBytes({ outcome, index, value, version, isForgotten, whole }: RequestResult): number {
  if (whole !== undefined) return encoded(whole).byteLength;
  const numbers = { index: BigInt(index), version: BigInt(version) };
  const message = { outcome, ...numbers, value: Buffer.from(value, "latin1"), valueForgotten: isForgotten };
  return encoded(create(CommandResultSchema, message)).byteLength;
}

function encoded(result: CommandResult): Uint8Array {
  return toBinary(CommandResultSchema, result);
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
