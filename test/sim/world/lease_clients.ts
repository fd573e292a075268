import { CommandOutcome, type CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { encodeCommand } from "../../../src/machine/kv/command.js";
import { KeepAlives } from "../../../src/server/leases/keep_alives.js";
import { LeaseKeeper, type LeaseNode } from "../../../src/server/leases/lease_keeper.js";
import { Caller, type CallWeather } from "./caller.js";
import type { SimCluster } from "./cluster.js";
import type { RunningNode, SimNode } from "./node.js";
import type { SimRandom } from "./random.js";

/** How many clients use leases, and how. */
export interface LeaseWeather extends CallWeather {
  readonly clients: number;
  readonly thinkMs: number;
}

/** Longest time to live of a lease in the simulator, in milliseconds. */
export const LEASE_TTL_MOST_MS = 3_000;

/** Attempts after which a client leaves a command. */
const ATTEMPTS = 5;

/** Number of the keys that may be attached to leases. */
const LEASED_KEYS = 4;

/** A node's part in leases, as its server has it. */
export class SimLeases {
  readonly keeper: LeaseKeeper;
  readonly keepAlives: KeepAlives;

  constructor(cluster: SimCluster, place: SimNode, node: RunningNode) {
    const watched: LeaseNode = {
      get machine() {
        return node.machine;
      },
      get raft() {
        return node.raft;
      },
      propose: (data, signal) => {
        cluster.checks.decided(place, node, data);
        return node.propose(data, signal);
      },
    };
    this.keeper = new LeaseKeeper(watched, place.clock.view());
    this.keepAlives = new KeepAlives(node, this.keeper);
    this.keeper.start();
  }

  stop(): void {
    this.keeper.stop();
  }
}

type Operation = NonNullable<Parameters<typeof encodeCommand>[0]["operation"]>;

/** A client that holds a few leases, attaches keys to them, and keeps most of them alive. */
export class SimLeaseClient {
  readonly #caller: Caller;
  #cluster: string | undefined;
  #leases: { readonly id: bigint; readonly isKept: boolean }[] = [];
  #values = 0;
  #isStopped = false;

  constructor(
    private readonly cluster: SimCluster,
    readonly id: string,
    private readonly weather: LeaseWeather,
    private readonly random: SimRandom,
  ) {
    this.#caller = new Caller(cluster, id, weather, random, random.pick([0.02, 0.3]));
  }

  async run(): Promise<void> {
    while (!this.#isStopped) {
      await this.cluster.scheduler.sleep(this.random.waiting(this.weather.thinkMs), `${this.id} thinks`);
      if (this.#isStopped) return;
      if (this.cluster.main !== this.#cluster) this.#moveOn();
      if (this.#cluster !== undefined) await this.#act();
    }
  }

  /** Begins nothing new: its leases end when their time is over. */
  stop(): void {
    this.#isStopped = true;
  }

  #moveOn(): void {
    this.#cluster = this.cluster.main;
    this.#caller.forgetLeader();
    this.#leases = [];
  }

  async #act(): Promise<void> {
    const { random } = this;
    if (this.#leases.length === 0 || (this.#leases.length < 3 && random.chance(0.2))) return this.#grant();
    const kind = random.fraction();
    if (kind < 0.4) return this.#keepAlive();
    if (kind < 0.75) return this.#write();
    if (kind < 0.8) return this.#revoke();
    // Until its leases are nearly over.
    if (kind < 0.9) await this.cluster.scheduler.sleep(random.between(500, LEASE_TTL_MOST_MS), `${this.id} is slow`);
  }

  async #grant(): Promise<void> {
    const ttlMs = this.random.pick([1_000, 1_500, LEASE_TTL_MOST_MS]);
    const result = await this.#propose({ case: "leaseGrant", value: { ttlMs } }, (place, { index }) => {
      place.leases?.keeper.granted(Number(index));
    });
    if (result?.outcome !== CommandOutcome.OK) return;
    this.#leases.push({ id: result.index, isKept: this.random.chance(0.8) });
    this.cluster.count("lease granted");
  }

  async #keepAlive(): Promise<void> {
    const ids = this.#leases.flatMap(({ id, isKept }) => (isKept ? [id] : []));
    if (ids.length === 0) return this.#forget(this.random.pick(this.#leases).id);
    const answer = await this.#ask((_node, _signal, place) => {
      if (place.leases === undefined) throw new CairnError("UNREACHABLE", `${place.id} serves no leases yet`);
      return place.leases.keepAlives.keep(ids);
    });
    if (!("value" in answer)) return;
    this.cluster.count("leases kept alive");
    for (const id of ids) {
      if (answer.value.has(id)) continue;
      this.cluster.count("a lease was gone");
      this.#forget(id);
    }
  }

  /** A write to one of few keys: with a lease, with none, on the condition that the key is missing, or a removal. */
  async #write(): Promise<void> {
    const { random } = this;
    const key = Buffer.from(`lease${random.whole(1, LEASED_KEYS)}`);
    const value = Buffer.from(`${this.id}-${++this.#values}`);
    const leaseId = random.pick(this.#leases).id;
    const kind = random.fraction();
    const expected = { case: "version", value: 0n } as const;
    const operation: Operation =
      kind < 0.5
        ? { case: "put", value: { key, value, leaseId } }
        : kind < 0.6
          ? { case: "put", value: { key, value } }
          : kind < 0.9
            ? { case: "compareAndSet", value: { key, expected, newValue: value, leaseId } }
            : { case: "delete", value: { key } };
    const result = await this.#propose(operation);
    if (result === undefined) return;
    this.cluster.count("write to a key of leases");
    if (result.outcome === CommandOutcome.LEASE_NOT_FOUND) this.#forget(leaseId);
  }

  async #revoke(): Promise<void> {
    const leaseId = this.random.pick(this.#leases).id;
    this.#forget(leaseId);
    const result = await this.#propose({ case: "leaseRevoke", value: { leaseId } });
    if (result?.outcome === CommandOutcome.OK) this.cluster.count("lease revoked");
  }

  /** A few attempts; a command may be carried out more than once. */
  async #ask<Value>(
    work: Parameters<typeof Caller.prototype.ask<Value>>[1],
  ): Promise<{ readonly value: Value } | { readonly error: CairnError }> {
    for (let attempt = 1; ; attempt++) {
      const answer = await this.#caller.ask(this.#cluster, work);
      if ("value" in answer || attempt === ATTEMPTS || this.#isStopped) return answer;
      await this.cluster.scheduler.sleep(this.random.between(20, 200), `${this.id} waits before it asks again`);
    }
  }

  #forget(lease: bigint): void {
    this.#leases = this.#leases.filter(({ id }) => id !== lease);
  }

  /** Has a command carried out; undefined when there is no answer. `then` runs at the node that has applied it. */
  async #propose(
    operation: Operation,
    then: (place: SimNode, result: CommandResult) => void = () => {},
  ): Promise<CommandResult | undefined> {
    const data = encodeCommand({ operation });
    const answer = await this.#ask(async (node, signal, place) => {
      const { life } = place;
      const { result } = await node.propose(data, signal);
      if (place.life === life) then(place, result);
      return result;
    });
    return "value" in answer ? answer.value : undefined;
  }
}
