import type { MemberEvent } from "../../../src/daemon/events.js";
import type { Member } from "../../../src/raft/types.js";
import { Violation } from "../checks/checkers/checker.js";
import { Checks } from "../checks/checks.js";
import { drawWeather, type Weather, type Wishes } from "../faults/weather.js";
import type { Trace } from "../run/trace.js";
import { SimClient } from "./clients.js";
import { Directories } from "./directories.js";
import { SimLeaseClient } from "./lease_clients.js";
import { SimNetwork } from "./network/network.js";
import { CLUSTER, type ComesBy, SimNode } from "./node.js";
import { SimRandom } from "./random.js";
import { drawNamesFrom } from "./surroundings.js";
import { type Place, Scheduler } from "./time/scheduler.js";

/** A cluster with all that is around it. */
export class SimCluster {
  readonly random: SimRandom;
  readonly weather: Weather;
  readonly scheduler: Scheduler;
  readonly network: SimNetwork;
  readonly checks: Checks;
  readonly directories = new Directories();
  /** Whether followers answer linearizable reads, by the leader's read index. */
  readonly readsAtFollowers: boolean;
  readonly clients: readonly SimClient[];
  /** Clients that use leases; none in most runs. */
  readonly leaseClients: readonly SimLeaseClient[];
  /** How often each situation was met with. */
  readonly counts = new Map<string, number>();
  readonly #nodes = new Map<string, SimNode>();
  /** Those that the cluster was created with, or that found it. */
  readonly founders: readonly Member[];
  /** The cluster that clients use: the last one that had a leader who could answer. Undefined before there was one. */
  main: string | undefined;
  /** Members that an operator has asked to be removed, and that have not got a vote since. */
  readonly removals = new Set<string>();
  /** Is told what comes to pass around a member's node. */
  onMemberEvent: (node: SimNode, event: MemberEvent) => void = () => {};
  #drawn = 0;

  constructor(
    seed: number,
    readonly trace: Trace,
    wishes: Wishes,
  ) {
    this.random = new SimRandom(seed);
    drawNamesFrom(this.random.fork("names"));
    this.readsAtFollowers = this.random.fork("reads at followers").chance(0.5);
    this.weather = drawWeather(this.random.fork("weather"), wishes);
    this.scheduler = new Scheduler(trace, { settled: (place) => this.#settled(place) });
    this.network = new SimNetwork(this, this.weather.network, this.random.fork("network"));
    const ids = Array.from({ length: this.weather.nodes }, (_, at) => `n${at + 1}`);
    this.founders = ids.map((id) => ({ id, address: `${id}.test:1`, role: "voter" }));
    this.main = this.isDrawn ? undefined : CLUSTER;
    this.checks = new Checks(this);
    for (let at = 0; at < ids.length; at++) this.addNode(this.isDrawn ? "list" : "given");
    this.clients = Array.from({ length: this.weather.clients.clients }, (_, at) => {
      const id = `c${at + 1}`;
      return new SimClient(this, id, this.weather.clients, this.random.fork(id));
    });
    const { leases } = this.weather;
    this.leaseClients = Array.from({ length: leases?.clients ?? 0 }, (_, at) => {
      const id = `l${at + 1}`;
      return new SimLeaseClient(this, id, leases!, this.random.fork(id));
    });
  }

  /** All machines that there ever were. */
  get nodes(): readonly SimNode[] {
    return [...this.#nodes.values()];
  }

  node(id: string): SimNode | undefined {
    return this.#nodes.get(id);
  }

  /** Whether directories draw their own identity, and daemons run. */
  get isDrawn(): boolean {
    return this.weather.trust !== undefined;
  }

  /** The node that leads the main cluster in the highest term, as far as one can see from outside. */
  get leader(): SimNode | undefined {
    const leaders = this.nodes.filter(
      (node) => node.isUp && node.cairn!.raft.role === "leader" && node.cairn!.clusterId === this.main,
    );
    return leaders.reduce<SimNode | undefined>(
      (best, node) => (best === undefined || node.cairn!.raft.term > best.cairn!.raft.term ? node : best),
      undefined,
    );
  }

  /** A new machine, with an id that was never used. */
  addNode(comesBy: ComesBy): SimNode {
    const id = `n${++this.#drawn}`;
    const node = new SimNode(this, id, this.founders, this.random.fork(id), comesBy);
    this.#nodes.set(id, node);
    return node;
  }

  count(situation: string, times = 1): void {
    this.counts.set(situation, (this.counts.get(situation) ?? 0) + times);
  }

  /** A line of the trace that is no event. */
  note(text: string): void {
    this.trace.add(`${this.scheduler.nowMs.toFixed(3)}   ${text}`);
  }

  /** Something happens that must not. */
  fail(invariant: string, text: string): void {
    this.checks.fail(new Violation(invariant, { text }));
  }

  /** A node has something to say. */
  logged(node: SimNode, facts: object, message: string): void {
    this.count(`node: ${message}`);
    const said = describe(facts);
    this.note(`${node.id} says: ${message} ${said}`);
    // One that a hostile message has sent far ahead is led back by its followers, jump by jump.
    const isFar = this.weather.troubles.hostile !== undefined && said.includes("termJump");
    if (this.checks.isExcused(node.clusterId)) return;
    if (message === "a member refused entries for safety" && !isFar) {
      this.fail("no correct leader is refused for safety", `${node.id}: ${said}`);
    }
    // A damaged file, or one that the network has damaged, is nobody's lie.
    const isLie = message === "refused a message that no correct member sends" && !said.includes("is damaged");
    if (isLie && this.weather.troubles.hostile === undefined) {
      this.fail("correct members obey the protocol", `${node.id}: ${said}`);
    }
  }

  memberTold(node: SimNode, event: MemberEvent): void {
    if (event.kind === "founded") this.checks.founded(event.clusterId, event.members);
    this.onMemberEvent(node, event);
  }

  /** Lets something that goes on by itself fail the run when it fails. */
  watch(work: Promise<unknown>): void {
    work.catch((error) => this.checks.fail(error));
  }

  #settled(place: Place | undefined): Promise<void> | undefined {
    const node = place === undefined ? undefined : this.#nodes.get(place.id);
    if (node?.cairn !== undefined) {
      const { term, log } = node.cairn.raft;
      this.trace.mix(term * 1e6 + log.last.index);
      this.trace.mix(log.commit * 1e6 + log.applied);
      this.#observe(node);
    }
    return this.checks.settled(node);
  }

  /** A cluster takes the place of one that is gone, and of no other. */
  #becomesMain({ clusterId, id }: SimNode): void {
    const { main, directories } = this;
    const survivors = this.founders.filter((founder) => {
      const { key } = this.node(founder.id)!;
      const directory = directories.of(key);
      return directory.clusterId === main && directory.hasEntries && !directory.isGone;
    });
    if (main !== undefined && survivors.length > 0 && !this.checks.isExcused(main)) {
      const facts = { leader: id, cluster: clusterId, before: main, survivors: survivors.map((each) => each.id) };
      this.checks.fail(new Violation("T1: no second cluster while a founder has data of the first", facts));
    }
    this.count(main === undefined ? "a cluster is founded" : "a second cluster is founded");
    this.note(`cluster ${clusterId} takes the place of ${main}`);
    this.main = clusterId;
  }

  readonly #roles = new Map<string, string>();

  #observe(node: SimNode): void {
    const { role, term, progress, isInstalling, membership, isEstablishedLeader } = node.cairn!.raft;
    node.membershipIndex = membership.index;
    this.directories.observed(this.directories.of(node.key), node.cairn!);
    if (isEstablishedLeader && node.cairn!.clusterId !== this.main) this.#becomesMain(node);
    const before = this.#roles.get(node.id);
    if (before !== role) {
      this.#roles.set(node.id, role);
      this.note(`${node.id} is ${role} in term ${term}`);
      this.count(`became ${role}`);
    }
    if (isInstalling) this.count("snapshot being installed");
    if (role !== "leader") return;
    for (const { state, key } of progress) {
      if (state === "snapshot") this.count("follower in state snapshot");
      if (state === "lost") this.checks.lostSeen(node, key);
    }
  }
}

function describe(facts: object): string {
  return JSON.stringify(facts, (_key, value) => (value instanceof Error ? value.message : value));
}
