import { CairnError } from "../../../../src/base/errors.js";
import type { MembershipChange } from "../../../../src/raft/membership/membership_change.js";
import type { Membership } from "../../../../src/raft/types.js";
import type { SimCluster } from "../../world/cluster.js";
import type { RunningNode, SimNode } from "../../world/node.js";
import type { SimRandom } from "../../world/random.js";
import type { Caretaker } from "./caretaker.js";
import type { ProcessTroubles } from "./processes.js";

const MOST_VOTERS = 7;
/** Machines that a run uses, at most. */
const MOST_NODES = 14;
const PATIENCE_MS = 5_000;

/** Errors that a request of an operator may meet with. */
const refusals: ReadonlySet<string> = new Set([
  "NOT_LEADER",
  "FAILED_PRECONDITION",
  "OUTCOME_UNKNOWN",
  "CANCELLED",
  "DISK_FULL",
  "STOPPED",
  "BUSY",
  "OUT_OF_RANGE",
]);

/** Somebody who changes the members, hands leadership over, takes snapshots, and replaces what is broken. */
export class Operator {
  #isOver = false;
  /** Members that are to be replaced. */
  #owed = 0;

  constructor(
    private readonly cluster: SimCluster,
    private readonly random: SimRandom,
    private readonly processes: ProcessTroubles,
    private readonly caretaker: Caretaker,
  ) {}

  end(): void {
    this.#isOver = true;
  }

  /** Whether a node may lose data: only a minority of the voters ever has, and not while the membership is changing anywhere. */
  mayDamage(node: SimNode): boolean {
    const { nodes, leader } = this.cluster;
    if (this.#isOver || leader === undefined || node.damage !== undefined || node.isGone || node.state === "down")
      return false;
    const { membership, log } = leader.cairn!.raft;
    if (membership.index > log.commit || !membership.members.some(({ id }) => id === node.id)) return false;
    // A change that some node alone has in its log might come through later.
    if (nodes.some(({ isGone, membershipIndex }) => !isGone && membershipIndex > membership.index)) return false;
    const voters = votersOf(membership.members);
    const damaged = voters.filter((id) => this.cluster.node(id)?.damage !== undefined).length;
    return damaged + 1 <= Math.floor((voters.length - 1) / 2);
  }

  /** The disk of a node is lost: it is replaced by another, with an id of its own. */
  wipe(): void {
    const node = this.random.pick(this.cluster.nodes);
    if (!this.mayDamage(node)) return;
    this.cluster.count("wiped disk");
    node.damage = "its disk is lost";
    node.wipe();
  }

  changeMembership(): void {
    const { leader } = this.cluster;
    if (leader === undefined) return;
    const { members } = leader.cairn!.raft.membership;
    const change = this.#repair(members) ?? this.#wish(members);
    if (change === undefined) return;
    if (change.type === "remove" && this.cluster.isDrawn && !this.caretaker.mayRemove(change.id, members)) return;
    if (change.type === "remove") this.cluster.removals.add(change.id);
    const kind = change.id === leader.id ? `${change.type} the leader` : change.type;
    this.#ask(leader, kind, async (node, signal) => {
      // Again: a leader that stood still may hear of it when another one has promoted that member.
      if (change.type === "remove") this.cluster.removals.add(change.id);
      await node.changeMembership(change, signal);
      if (change.type === "remove") this.#removed(change.id);
    });
  }

  transfer(): void {
    const { leader } = this.cluster;
    if (leader === undefined) return;
    const to = this.random.chance(0.3) ? undefined : this.random.pick(this.cluster.nodes).id;
    this.#ask(leader, "transfer", (node, signal) => node.transferLeadership(to, signal));
  }

  /** To any but that one. */
  transferFrom(leader: SimNode, not: SimNode): void {
    const others = this.cluster.nodes.filter((node) => node !== leader && node !== not);
    const to = others.length === 0 ? undefined : this.random.pick(others).id;
    this.#ask(leader, "transfer", (node, signal) => node.transferLeadership(to, signal));
  }

  campaign(): void {
    this.campaignOf(this.random.pick(this.cluster.nodes));
  }

  campaignOf(node: SimNode): void {
    this.#ask(node, "campaign", (cairn, signal) => cairn.campaign(signal));
  }

  takeSnapshot(): void {
    this.takeSnapshotOf(this.random.pick(this.cluster.nodes));
  }

  takeSnapshotOf(target: SimNode): void {
    const { random } = this;
    this.#ask(target, "snapshot", async (node) => {
      const { applied } = node.raft.log;
      const index = random.chance(0.3) ? random.whole(Math.max(1, applied - 20), applied + 1) : undefined;
      const thresholdEntries = random.chance(0.3) ? random.whole(1, 30) : undefined;
      const keepLogBytes = random.chance(0.3) ? random.whole(0, 3_000) : undefined;
      const { taken } = await node.takeSnapshot({ index, thresholdEntries, keepLogBytes });
      this.cluster.count(taken ? "snapshot on request" : "snapshot not needed");
    });
  }

  /** What is broken goes, and something new comes for it. */
  #repair(members: Membership): MembershipChange | undefined {
    if (this.cluster.isDrawn) return undefined;
    const broken = members.find(({ id }) => this.cluster.node(id)?.damage !== undefined);
    if (broken !== undefined) return { type: "remove", id: broken.id };
    if (this.#owed === 0) return undefined;
    const learner = members.find(({ role }) => role === "learner");
    return learner === undefined ? this.#addition(members) : { type: "promote", id: learner.id };
  }

  #wish(members: Membership): MembershipChange | undefined {
    const { random } = this;
    const voters = votersOf(members);
    const learners = members.filter(({ role }) => role === "learner");
    const wish = random.fraction();
    if (wish < 0.35 && learners.length > 0) return { type: "promote", id: random.pick(learners).id };
    if (wish < 0.65 && members.length < MOST_VOTERS) return this.#addition(members);
    const few = Math.min(3, this.cluster.weather.nodes);
    if (voters.length > few || (voters.length > 1 && random.chance(0.1))) {
      const leads = this.cluster.leader?.id;
      return { type: "remove", id: leads !== undefined && random.chance(0.3) ? leads : random.pick(members).id };
    }
    return undefined;
  }

  /** One that is there and no member, be it that it was one once; else a new one. */
  #addition(members: Membership): MembershipChange | undefined {
    const { cluster, caretaker } = this;
    if (cluster.isDrawn) {
      const spare = cluster.nodes.find((node) => caretaker.isSpare(node)) ?? this.#buy();
      if (spare === undefined) return undefined;
      cluster.count("told to join");
      caretaker.add(spare);
      return undefined;
    }
    const isSpare = (node: SimNode) => {
      return !node.isGone && node.damage === undefined && !members.some(({ id }) => id === node.id);
    };
    const spare = cluster.nodes.find(isSpare) ?? this.#buy();
    return spare === undefined ? undefined : { type: "add_learner", id: spare.id, address: spare.address };
  }

  #buy(): SimNode | undefined {
    if (this.cluster.nodes.length >= MOST_NODES) return undefined;
    const { isDrawn } = this.cluster;
    const node = this.cluster.addNode(isDrawn ? "join" : "given");
    if (!isDrawn) node.start();
    return node;
  }

  /** Some are switched off, some go on and know nothing of it. */
  #removed(id: string): void {
    const node = this.cluster.node(id);
    if (node === undefined) return;
    if (this.cluster.isDrawn) {
      if (!this.caretaker.isSpare(node) || this.random.chance(0.4)) return;
      this.cluster.count("a removed member is wiped");
      this.caretaker.wipe(node);
      node.comesBy = this.random.pick(["list", "join"]);
      this.processes.startLater(node);
    } else if (node.damage !== undefined) {
      this.#owed += 1;
      this.cluster.count("damaged member removed");
      node.kill("all");
      node.isGone = true;
    } else if (this.random.chance(0.4)) {
      node.kill("all");
      this.processes.startLater(node);
    }
  }

  #ask(target: SimNode, what: string, work: (node: RunningNode, signal: AbortSignal) => Promise<unknown>): void {
    const { cluster } = this;
    const { scheduler } = cluster;
    const controller = new AbortController();
    scheduler.after(0, target, `operator: ${what}`, () => {
      const { cairn } = target;
      if (cairn === undefined) return;
      cluster.count(`asked to ${what}`);
      scheduler.after(PATIENCE_MS, target, "operator gives up", () => controller.abort());
      work(cairn, controller.signal).then(
        () => {
          cluster.note(`${target.id} did as the operator asked: ${what}`);
          cluster.count(`done: ${what}`);
          if (what === "promote" && this.#owed > 0) {
            this.#owed -= 1;
            cluster.count("damaged member replaced");
          }
        },
        (error) => this.#refused(target, what, error),
      );
    });
  }

  #refused(target: SimNode, what: string, error: unknown): void {
    const { code } = CairnError.from(error);
    this.cluster.note(`${target.id} did not ${what}: ${code}`);
    this.cluster.count(`refused to ${what}: ${code}`);
    if (target.cairn === undefined || refusals.has(code)) return;
    const isExpected = target.damage !== undefined || target.expectsStorageFailure;
    if (isExpected && ["CORRUPT", "STORAGE_FAILED"].includes(code)) return;
    this.cluster.fail(
      "an operator meets with none but the errors that are written down",
      `${what}: ${describe(error)}`,
    );
  }
}

function votersOf(members: Membership): string[] {
  return members.filter(({ role }) => role === "voter").map(({ id }) => id);
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
