import type { MessageInitShape } from "@bufbuild/protobuf";
import { AdminService, type TakeSnapshotResponse } from "../../gen/cairn/v1/admin_pb.js";
import {
  type CompareAndSetRequestSchema,
  type DeleteRequestSchema,
  KeyValueService,
  type PutRequestSchema,
  type ResponseHeader,
} from "../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../src/base/errors.js";
import { type Client, openChannel } from "../../src/rpc/client.js";
import type { Random } from "../support/random.js";
import {
  bytesOf,
  CrashFailure,
  type CrashModel,
  check,
  type Expected,
  type Operation,
  type PendingWrite,
  readKey,
  type Value,
  type WriteAnswer,
} from "./crash_model.js";

/** No call of the workload takes this long unless the node hangs, in ms. */
export const CALL_TIMEOUT_MS = 30_000;

/** Clients with a session each. */
const CLIENTS = 4;
/** Writes of one client in flight at a time: 32 in all. */
const IN_FLIGHT = 8;
const KEYS_PER_CLIENT = 24;
const USUAL_VALUE_BYTES = 16 * 1024;
const LARGE_VALUE_BYTES = 1024 * 1024;
/** A compare-and-set by value carries two values, and has to fit one entry. */
const EXPECTED_AND_NEW_BYTES = 1.5 * 1024 * 1024;

/** What the workload has done, for the report. */
export interface WorkloadCounts {
  acknowledged: number;
  unknown: number;
  retries: number;
  /** Retries whose first attempt was seen to have taken effect. */
  retriesOfApplied: number;
  reads: number;
  snapshots: number;
  entriesTrimmed: number;
}

/** The highest numbers that answers have reported. None of them may ever fall. */
export class Watermarks {
  clusterId = "";
  term = 0;
  applied = 0;
  commit = 0;
  snapshot = 0;

  raise(reported: Partial<Record<"term" | "applied" | "commit" | "snapshot", bigint>>): void {
    for (const name of ["term", "applied", "commit", "snapshot"] as const) {
      this[name] = Math.max(this[name], Number(reported[name] ?? 0n));
    }
  }

  raiseTo(header: ResponseHeader | undefined): void {
    check(header !== undefined && header.clusterId !== "", "an answer has a header", {});
    if (this.clusterId === "") this.clusterId = header.clusterId;
    check(header.clusterId === this.clusterId, "the cluster stays the same", {
      was: this.clusterId,
      is: header.clusterId,
    });
    // What is applied is committed.
    this.raise({ term: header.term, applied: header.appliedIndex, commit: header.appliedIndex });
  }
}

interface WriterClient {
  readonly id: string;
  readonly keys: readonly string[];
  sequence: number;
  /** Sequences without an answer. */
  readonly open: Map<PendingWrite, number>;
}

/** Loads a node until it is killed, and keeps the books of what it answered. Goes on with the same books after each restart. */
export class CrashWorkload {
  readonly counts: WorkloadCounts = {
    acknowledged: 0,
    unknown: 0,
    retries: 0,
    retriesOfApplied: 0,
    reads: 0,
    snapshots: 0,
    entriesTrimmed: 0,
  };
  readonly watermarks = new Watermarks();
  readonly #clients: readonly WriterClient[];
  #writes = 0;

  constructor(
    private readonly model: CrashModel,
    private readonly random: Random,
  ) {
    this.#clients = Array.from({ length: CLIENTS }, (_, at) => ({
      id: `crash-client-${at}-${random.seed}`,
      keys: model.names.filter((_, number) => number % CLIENTS === at),
      sequence: 0,
      open: new Map(),
    }));
  }

  /** Names of keys for a model. */
  static keyNames(): string[] {
    return Array.from({ length: CLIENTS * KEYS_PER_CLIENT }, (_, at) => `crash/${String(at).padStart(3, "0")}`);
  }

  /**
   * Runs until the first call that fails for want of a connection, and then until all calls have ended. `isKilled` tells whether that
   * is as it should be.
   */
  async run(address: string, isKilled: () => boolean): Promise<void> {
    if (isKilled()) return;
    const channel = openChannel(address);
    const load = new Load(this, this.model, this.random, isKilled, {
      keyValue: channel.client(KeyValueService),
      admin: channel.client(AdminService),
    });
    try {
      await this.#retryUnknown(load);
      const writers = this.#clients.flatMap((client) => Array.from({ length: IN_FLIGHT }, () => load.write(client)));
      await Promise.all([...writers, load.takeSnapshots()]);
    } finally {
      channel.close();
    }
  }

  /** Sends the writes of unknown outcome again, until all have an answer, or the node is gone again. */
  async retryUnknown(address: string): Promise<void> {
    const channel = openChannel(address);
    const clients = { keyValue: channel.client(KeyValueService), admin: channel.client(AdminService) };
    try {
      await this.#retryUnknown(new Load(this, this.model, this.random, () => false, clients));
    } finally {
      channel.close();
    }
  }

  async #retryUnknown(load: Load): Promise<void> {
    const retries = this.#clients.flatMap((client) =>
      [...client.open.keys()].map((write) => load.retry(client, write)),
    );
    await Promise.all(retries);
  }

  nextWrite(): number {
    this.#writes++;
    return this.#writes;
  }
}

/** The load on one run of the node, from its start to its end. */
class Load {
  #over = false;
  /** Keys that are being read; nobody writes them meanwhile, so the answer is known. */
  readonly #reading = new Set<string>();

  constructor(
    private readonly workload: CrashWorkload,
    private readonly model: CrashModel,
    private readonly random: Random,
    private readonly isKilled: () => boolean,
    private readonly node: {
      readonly keyValue: Client<typeof KeyValueService>;
      readonly admin: Client<typeof AdminService>;
    },
  ) {}

  /** One writer: a write, or now and then a read, after the other. */
  async write(client: WriterClient): Promise<void> {
    while (!this.#over) {
      const key = this.random.pick(
        client.keys.filter((name) => !this.model.isPending(name) && !this.#reading.has(name)),
      );
      if (this.random.oneIn(12)) await this.#read(key);
      else await this.#begin(client, key);
    }
  }

  async retry(client: WriterClient, write: PendingWrite): Promise<void> {
    this.workload.counts.retries++;
    const { seen } = write;
    if ((await this.#attempt(client, write)) && seen) this.workload.counts.retriesOfApplied++;
  }

  async takeSnapshots(): Promise<void> {
    while (!this.#over) {
      const request = snapshotRequest(this.random, this.workload.watermarks);
      try {
        const answer = await this.node.admin.takeSnapshot(request, { timeoutMs: CALL_TIMEOUT_MS });
        this.#snapshotTaken(request, answer);
      } catch (error) {
        this.#lost(error, "TakeSnapshot");
      }
    }
  }

  #snapshotTaken({ trigger }: SnapshotRequest, { taken, snapshot, logEntriesTrimmed }: TakeSnapshotResponse): void {
    const { counts, watermarks } = this.workload;
    const newest = Number(snapshot?.index ?? 0n);
    const facts = { trigger: trigger?.case, index: Number(trigger?.value ?? 0n), newest, before: watermarks.snapshot };
    check(newest >= watermarks.snapshot, "the newest snapshot never gets older", facts);
    check(trigger?.case !== "index" || newest === facts.index, "a snapshot is taken at exactly the index", facts);
    if (taken) counts.snapshots++;
    counts.entriesTrimmed += Number(logEntriesTrimmed);
    watermarks.raise({ snapshot: snapshot?.index ?? 0n });
  }

  async #read(name: string): Promise<void> {
    this.#reading.add(name);
    try {
      const { header, kv } = await this.node.keyValue.get({ key: Buffer.from(name) }, { timeoutMs: CALL_TIMEOUT_MS });
      this.workload.watermarks.raiseTo(header);
      this.workload.counts.reads++;
      this.model.observe(name, kv && readKey(kv), Number(header!.appliedIndex));
    } catch (error) {
      this.#lost(error, "Get");
    } finally {
      this.#reading.delete(name);
    }
  }

  async #begin(client: WriterClient, key: string): Promise<void> {
    const write = this.model.begin(key, this.#chooseOperation(key));
    client.sequence++;
    client.open.set(write, client.sequence);
    await this.#attempt(client, write);
  }

  /** Sends a write; returns whether it was answered. */
  async #attempt(client: WriterClient, write: PendingWrite): Promise<boolean> {
    try {
      const answer = await this.#send(client, write, client.open.get(write)!);
      this.model.acknowledge(write, answer);
      client.open.delete(write);
      this.workload.counts.acknowledged++;
      return true;
    } catch (error) {
      this.#lost(error, "a write");
      this.#leaveOpen(client, write, error as CairnError);
      return false;
    }
  }

  #leaveOpen(client: WriterClient, write: PendingWrite, error: CairnError): void {
    if (error.retryable) {
      this.model.nothingHappened(write);
      if (!write.unknown) client.open.delete(write);
      return;
    }
    if (!write.unknown) this.workload.counts.unknown++;
    write.unknown = true;
  }

  /** The only way for a call to fail is that the node was killed. */
  #lost(error: unknown, what: string): asserts error is CairnError {
    this.#over = true;
    if (!(error instanceof CairnError)) throw error;
    const isLost = error.code === "OUTCOME_UNKNOWN" || error.code === "UNREACHABLE";
    if (!isLost || !this.isKilled())
      throw new CrashFailure(`${what} failed`, { error: error.message, killed: this.isKilled() });
  }

  #send(client: WriterClient, { key: name, operation }: PendingWrite, sequence: number): Promise<WriteAnswer> {
    const requestId = {
      clientId: client.id,
      sequence: BigInt(sequence),
      acknowledgedThrough: BigInt(Math.min(...client.open.values()) - 1),
    };
    const key = Buffer.from(name);
    switch (operation.kind) {
      case "put":
        return this.#put({ key, value: bytesOf(operation.value), requestId });
      case "delete":
        return this.#delete({ key, requestId });
      case "compare-and-set": {
        const { createIfMissing } = operation;
        const expected =
          "version" in operation.expected
            ? ({ case: "version", value: BigInt(operation.expected.version) } as const)
            : ({ case: "value", value: bytesOf(operation.expected.value) } as const);
        return this.#compareAndSet({ key, expected, newValue: bytesOf(operation.value), createIfMissing, requestId });
      }
    }
  }

  async #put(request: MessageInitShape<typeof PutRequestSchema>): Promise<WriteAnswer> {
    const { header, version } = await this.node.keyValue.put(request, { timeoutMs: CALL_TIMEOUT_MS });
    this.#answered(header, version);
    return { kind: "put", version: Number(version) };
  }

  async #delete(request: MessageInitShape<typeof DeleteRequestSchema>): Promise<WriteAnswer> {
    const { header, deleted } = await this.node.keyValue.delete(request, { timeoutMs: CALL_TIMEOUT_MS });
    this.#answered(header, 0n);
    return { kind: "delete", deleted, appliedIndex: Number(header!.appliedIndex) };
  }

  async #compareAndSet(request: MessageInitShape<typeof CompareAndSetRequestSchema>): Promise<WriteAnswer> {
    const answer = await this.node.keyValue.compareAndSet(request, { timeoutMs: CALL_TIMEOUT_MS });
    this.#answered(answer.header, answer.version);
    if (answer.swapped) return { kind: "compare-and-set", swapped: true, version: Number(answer.version) };
    const { current } = answer;
    // This answer does not name the index at which the key was created.
    const read = current && { value: current.value, version: Number(current.version), createVersion: undefined };
    return { kind: "compare-and-set", swapped: false, current: read, isValueForgotten: answer.currentForgotten };
  }

  #answered(header: ResponseHeader | undefined, version: bigint): void {
    this.workload.watermarks.raiseTo(header);
    this.workload.watermarks.raise({ applied: version, commit: version });
  }

  #chooseOperation(name: string): Operation {
    const { random } = this;
    const value = this.#newValue();
    const choice = random.fraction();
    if (choice < 0.5) return { kind: "put", value };
    if (choice < 0.65) return { kind: "delete" };
    const held = this.model.held(name);
    const createIfMissing = random.oneIn(3);
    const byValue = held !== undefined && held.bytes + value.bytes <= EXPECTED_AND_NEW_BYTES && random.oneIn(2);
    const right: Expected = byValue ? { value: held } : { version: held?.version ?? 0 };
    const wrong: Expected = byValue ? { value } : { version: (held?.version ?? 0) + random.whole(1, 100) };
    return { kind: "compare-and-set", expected: random.oneIn(4) ? wrong : right, value, createIfMissing };
  }

  #newValue(): Value {
    const { random } = this;
    const write = this.workload.nextWrite();
    if (random.oneIn(100)) return { write, bytes: random.whole(0, LARGE_VALUE_BYTES) };
    if (random.oneIn(20)) return { write, bytes: random.whole(0, 16) };
    return { write, bytes: random.whole(0, USUAL_VALUE_BYTES) };
  }
}

interface SnapshotRequest {
  readonly trigger?: { readonly case: "thresholdEntries" | "index"; readonly value: bigint };
  readonly keepLogBytes?: bigint;
}

/** Any of the triggers, and any amount of log to keep. */
function snapshotRequest(random: Random, { snapshot, applied }: Watermarks): SnapshotRequest {
  const triggers: readonly SnapshotRequest[] = [
    {},
    { trigger: { case: "thresholdEntries", value: BigInt(random.whole(0, 300)) } },
    { trigger: { case: "index", value: BigInt(random.whole(snapshot, Math.max(snapshot, applied))) } },
  ];
  const kept = random.pick([undefined, 0, 0, 64 * 1024, 4 * 1024 * 1024]);
  return { ...random.pick(triggers), ...(kept !== undefined && { keepLogBytes: BigInt(kept) }) };
}
