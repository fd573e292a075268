import type { MessageInitShape } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { onTestFinished } from "vitest";
import {
  KeyValueService,
  type RangeRequest,
  type WatchEventSchema,
  type WatchRequest,
  type WatchResponseSchema,
} from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { serverOptions } from "../../../src/rpc/grpc_options.js";
import { addService } from "../../../src/rpc/server.js";
import { widenWindows } from "../../../src/rpc/server_windows.js";
import { deferred } from "../../support/conditions.js";
import { listen } from "../../support/nodes/loopback.js";
import { CLUSTER } from "../../support/nodes/nodes.js";

type EventInit = MessageInitShape<typeof WatchEventSchema>;
type WatchAnswerInit = MessageInitShape<typeof WatchResponseSchema>;

interface Change {
  readonly key: string;
  /** Undefined: the key is removed. */
  readonly value: string | undefined;
}

interface Stored {
  readonly value: string;
  readonly version: number;
  readonly createVersion: number;
}

/** The log of a cluster that does nothing but change keys. All its nodes have applied all of it. */
export class FakeHistory {
  readonly events = new Map<number, readonly EventInit[]>();
  readonly state = new Map<string, Stored>();
  applied = 0;
  #grows = deferred();

  /** Appends an entry with these changes; one without changes is of no interest to any watch. */
  append(...changes: readonly Change[]): number {
    const index = ++this.applied;
    const version = BigInt(index);
    const events = changes.map(({ key, value }): EventInit => {
      const before = this.state.get(key);
      const previous = before && { value: Buffer.from(before.value), version: BigInt(before.version) };
      const common = { index: version, previousKnown: true, ...(previous && { previous }) };
      if (value === undefined) {
        this.state.delete(key);
        return { ...common, kv: { key: Buffer.from(key) }, deleted: true };
      }
      this.state.set(key, { value, version: index, createVersion: before?.createVersion ?? index });
      const createVersion = before === undefined ? version : 0n;
      return { ...common, kv: { key: Buffer.from(key), value: Buffer.from(value), version, createVersion } };
    });
    this.events.set(index, events);
    this.#grows.resolve();
    this.#grows = deferred();
    return index;
  }

  put(key: string, value: string): number {
    return this.append({ key, value });
  }

  delete(key: string): number {
    return this.append({ key, value: undefined });
  }

  get grows(): Promise<void> {
    return this.#grows.promise;
  }
}

/** A server that plays a member: it serves watches and ranges from a history, and fails as told. */
export class FakeWatchNode {
  readonly requests: WatchRequest[] = [];
  readonly rangeRequests: RangeRequest[] = [];
  /** Watches that are being served. */
  open = 0;
  /** Answers that were handed to the network. */
  sent = 0;
  clusterId = CLUSTER;
  /** First index that the node can report. */
  oldestIndex = 1;
  /** Most indexes in one answer. */
  indexesPerAnswer = 1;
  /** Fails each watch in place of the first answer. */
  refusal: CairnError | undefined;
  /** Fails each watch right behind the first answer. */
  lateRefusal: CairnError | undefined;
  /** False: says nothing to a watch. */
  greets = true;
  /** Breaks each range behind so many keys. */
  rangeBreaksAfter = Number.POSITIVE_INFINITY;
  /** Sent once, in place of what the history has. */
  nextAnswer: WatchAnswerInit | undefined;
  #server!: grpc.Server;
  /** The last order to all watches, and how many there were. */
  #order: CairnError | "end" | "progress" = "end";
  #orders = 0;
  #ordered = deferred();

  private constructor(
    readonly id: string,
    readonly history: FakeHistory,
    public address: string,
  ) {}

  static async start(history: FakeHistory, id = "n1", address = "127.0.0.1:0"): Promise<FakeWatchNode> {
    const node = new FakeWatchNode(id, history, address);
    await node.restart();
    onTestFinished(() => node.kill());
    return node;
  }

  /** Listens again where it did. */
  async restart(): Promise<void> {
    this.#server = new grpc.Server(serverOptions);
    widenWindows(this.#server);
    addService(this.#server, KeyValueService, {
      watch: (request, { signal }) => this.#watch(request, signal),
      range: (request) => this.#range(request),
    });
    this.address = await listen(this.#server, this.address);
  }

  /** Cuts all connections, and takes none. */
  kill(): void {
    this.#server.forceShutdown();
  }

  /** Ends all watches with this error. */
  fail(error: CairnError): void {
    this.#tell(error);
  }

  /** Ends all watches without an error. */
  end(): void {
    this.#tell("end");
  }

  /** Sends a progress mark in all watches. */
  mark(): void {
    this.#tell("progress");
  }

  #tell(order: CairnError | "end" | "progress"): void {
    this.#order = order;
    this.#orders++;
    this.#ordered.resolve();
    this.#ordered = deferred();
  }

  async *#watch(request: WatchRequest, signal: AbortSignal): AsyncGenerator<WatchAnswerInit> {
    this.requests.push(request);
    if (this.refusal !== undefined) throw this.refusal;
    if (request.clusterId !== "" && request.clusterId !== this.clusterId) {
      throw new CairnError("WRONG_CLUSTER", `this is cluster ${this.clusterId}`);
    }
    this.open++;
    try {
      const ended = new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
      let obeyed = this.#orders;
      if (!this.greets) await ended;
      const { history } = this;
      let through = request.startIndex === 0n ? history.applied : Number(request.startIndex) - 1;
      yield this.#count({ header: this.#header(), through: BigInt(Math.min(through, history.applied)) });
      if (this.lateRefusal !== undefined) throw this.lateRefusal;
      while (!signal.aborted) {
        if (obeyed < this.#orders) {
          obeyed = this.#orders;
          const order = this.#order;
          if (order === "end") return;
          if (order instanceof CairnError) throw order;
          yield this.#count({ through: BigInt(through) });
        }
        if (through + 1 < this.oldestIndex) throw outOfRange(this.oldestIndex);
        if (this.nextAnswer !== undefined) {
          const answer = this.nextAnswer;
          this.nextAnswer = undefined;
          yield this.#count(answer);
        }
        if (through < history.applied) {
          const last = Math.min(through + this.indexesPerAnswer, history.applied);
          const events: EventInit[] = [];
          for (let index = through + 1; index <= last; index++)
            events.push(...wanted(history.events.get(index)!, request));
          through = last;
          if (events.length > 0) yield this.#count({ events, through: BigInt(through) });
          continue;
        }
        await Promise.race([history.grows, this.#ordered.promise, ended]);
      }
    } finally {
      this.open--;
    }
  }

  #count(answer: WatchAnswerInit): WatchAnswerInit {
    this.sent++;
    return answer;
  }

  /** One key a part. */
  async *#range(request: RangeRequest) {
    this.rangeRequests.push(request);
    const { state, applied } = this.history;
    const after = Buffer.from(request.after);
    const prefix = Buffer.from(request.prefix);
    const keys = [...state.keys()].sort().filter((key) => {
      const bytes = Buffer.from(key);
      return Buffer.compare(bytes, after) > 0 && bytes.subarray(0, prefix.length).equals(prefix);
    });
    const most = request.limit === 0n ? keys.length : Number(request.limit);
    const parts = keys.slice(0, most).map((key) => {
      const { value, version, createVersion } = state.get(key)!;
      const kv = { key: Buffer.from(key), value: Buffer.from(value) };
      return { kvs: [{ ...kv, version: BigInt(version), createVersion: BigInt(createVersion) }] };
    });
    const header = { ...this.#header(), appliedIndex: BigInt(applied) };
    const [first = { kvs: [] }, ...others] = parts;
    for (const [at, part] of [{ ...first, header }, ...others].entries()) {
      if (at >= this.rangeBreaksAfter) throw new CairnError("STOPPED", "as the test wants it");
      yield part;
    }
  }

  #header() {
    return { clusterId: this.clusterId, nodeId: this.id };
  }
}

export function outOfRange(oldestIndex: number): CairnError {
  return new CairnError("OUT_OF_RANGE", `the oldest index is ${oldestIndex}`, { oldestIndex });
}

function wanted(events: readonly EventInit[], request: WatchRequest): EventInit[] {
  return events
    .filter(({ kv, deleted = false }) => {
      if (deleted ? request.noDeletes : request.noPuts) return false;
      const key = Buffer.from(kv!.key!);
      if (request.key.length > 0) return key.equals(request.key);
      const { start, end } = request.keys ?? {};
      if (start !== undefined && Buffer.compare(key, start) < 0) return false;
      if (end !== undefined && end.length > 0 && Buffer.compare(key, end) >= 0) return false;
      return key.subarray(0, request.prefix.length).equals(request.prefix);
    })
    .map((event) => (request.previous ? event : { ...event, previous: undefined, previousKnown: false }) as EventInit);
}
