import type { DescMethod } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { AdminService } from "../../../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../../../gen/cairn/v1/kv_pb.js";
import type { Random } from "../../../support/random.js";
import { FuzzedCluster, type FuzzedNode } from "../../nodes/cluster.js";
import { expectThat, Finding, type Target, type Trace } from "../../run/target.js";
import { type CallOutcome, type CallPlan, Connection } from "./calls.js";
import { type Corpus, loadCorpus } from "./corpus.js";
import { type Facts, FUZZ_NODES, factsOf, GUARDED, hintsFor, TERM_STEPS } from "./facts.js";
import { isHarmless } from "./harmless.js";
import { keyValueMethods, machineMethods } from "./methods.js";
import { type DrawnCall, drawCall } from "./plans.js";
import { drawTransfer } from "./snapshots.js";

/** Calls of one case at most, at a time. */
const CALLS_PER_CASE = 60;

const GUARDED_KEYS = 64;

/** Messages of which each may raise a term by right, and terms for elections of the cluster's own. */
const OWN_ELECTIONS = 2_000n;

/** All methods of all services of a cluster. */
export class ServicesTarget implements Target {
  readonly name = "services";
  readonly round = 60;
  readonly #own: boolean;
  #cluster: FuzzedCluster | undefined;
  #facts!: Facts;
  #first!: Facts;
  #corpus!: Corpus;
  #guarded!: ReadonlyMap<string, string>;
  #messages = 0;
  readonly #connections = new Map<string, Connection>();
  readonly #methods = keyValueMethods();
  readonly #machineMethods = machineMethods();

  /** @param cluster started by somebody else, who closes it */
  constructor(cluster?: FuzzedCluster) {
    this.#cluster = cluster;
    this.#own = cluster === undefined;
  }

  async prepare(): Promise<void> {
    this.#cluster ??= await FuzzedCluster.start();
    const cluster = this.#cluster;
    this.#facts = await factsOf(cluster);
    this.#first = this.#facts;
    this.#corpus = await loadCorpus(this.#facts);
    await this.#writeGuarded(cluster);
    this.#guarded = await cluster.readAll(GUARDED);
    expectThat(
      this.#guarded.size === GUARDED_KEYS,
      () => `${this.#guarded.size} guarded keys instead of ${GUARDED_KEYS}`,
    );
  }

  async run(random: Random, trace: Trace): Promise<number> {
    const node = random.oneIn(8) ? this.#running.machine : random.pick(this.#running.doors);
    const methods = node === this.#running.machine ? this.#machineMethods : this.#methods;
    const connection = this.#connectionTo(node);
    const count = random.oneIn(4) ? 1 : random.whole(2, CALLS_PER_CASE);
    const calls: { method: DescMethod; drawn: DrawnCall }[] = [];
    for (let left = count; left > 0; left--) {
      const method = random.pick(methods);
      calls.push({ method, drawn: this.#draw(random, node, method) });
    }
    const isCut = random.oneIn(25);
    for (const { drawn } of calls) note(trace, node, drawn.plan);
    const outcomes = calls.map(({ drawn }) => connection.call(drawn.plan));
    if (isCut) setImmediate(() => this.#cut(node));
    for (const [at, { method, drawn }] of calls.entries()) {
      judge(method, drawn.plan, await outcomes[at]!);
    }
    this.#running.expectWell();
    const messages = calls.reduce((sum, { drawn }) => sum + drawn.messages, 0);
    this.#messages += messages;
    return messages;
  }

  async check(): Promise<void> {
    const cluster = this.#running;
    for (const node of [...cluster.doors, cluster.machine]) this.#cut(node);
    await cluster.progress();
    await this.#removeLearners(cluster);
    this.#expectSame(await cluster.readAll(GUARDED));
    const facts = await factsOf(cluster);
    const { clusterId, term } = this.#first;
    expectThat(facts.clusterId === clusterId, () => `the cluster's id has changed to ${facts.clusterId}`);
    const most = term + TERM_STEPS * BigInt(this.#messages) + OWN_ELECTIONS;
    expectThat(
      facts.term <= most,
      () => `the term has risen from ${term} to ${facts.term} in ${this.#messages} messages`,
    );
    expectThat(facts.commitIndex >= this.#facts.commitIndex, () => "the commit index has fallen");
    await this.#expectEqualStates(cluster);
    await cluster.expectNoLeak();
    this.#facts = facts;
  }

  async close(): Promise<void> {
    for (const connection of this.#connections.values()) connection.close();
    if (this.#own) await this.#cluster?.close();
  }

  get #running(): FuzzedCluster {
    return this.#cluster!;
  }

  #draw(random: Random, node: FuzzedNode, method: DescMethod): DrawnCall {
    return drawCall(random, {
      method,
      hints: hintsFor(this.#facts, node.id),
      recorded: this.#corpus.get(`${method.parent.typeName}/${method.name}`) ?? [],
      conversation:
        method.name === "InstallSnapshot" ? (random) => drawTransfer(random, this.#facts, node.id) : undefined,
      isHarmless: (bytes) => isHarmless(method, bytes, this.#facts),
    });
  }

  #connectionTo(node: FuzzedNode): Connection {
    const found = this.#connections.get(node.address) ?? new Connection(node.address);
    this.#connections.set(node.address, found);
    return found;
  }

  #cut(node: FuzzedNode): void {
    this.#connections.get(node.address)?.close();
  }

  async #writeGuarded(cluster: FuzzedCluster): Promise<void> {
    const kv = cluster.nodes[0]!.channel.client(KeyValueService);
    for (let at = 0; at < GUARDED_KEYS; at++) {
      const pair = { key: Buffer.from(`${GUARDED}${at}`), value: Buffer.from(`value ${at}`) };
      await cluster.until("a guarded key is written", async () => {
        await kv.put(pair, { timeoutMs: 5_000 });
        return true;
      });
    }
  }

  #expectSame(found: ReadonlyMap<string, string>): void {
    for (const [key, value] of this.#guarded) {
      expectThat(found.get(key) === value, () => `${key} has become ${JSON.stringify(found.get(key))}`);
    }
    expectThat(found.size === this.#guarded.size, () => `${found.size} guarded keys instead of ${this.#guarded.size}`);
  }

  /** Removes what AddLearner and Join have added; the voters must be those of the beginning. */
  async #removeLearners(cluster: FuzzedCluster): Promise<void> {
    await cluster.until("the learners of the fuzz are removed", async () => {
      const [status] = await cluster.statuses();
      const members = status!.membership!.members.map(({ id }) => id);
      const added = members.filter((id) => !this.#first.incarnations.has(id));
      if (added.length === 0) {
        expectThat(members.length === 3, () => `the members are ${members.join(", ")}`);
        return true;
      }
      const unknown = added.filter((id) => !isOfFuzz(id));
      expectThat(unknown.length === 0, () => `nobody may add ${unknown.join(", ")}`);
      const leader = cluster.nodes.find(({ id }) => id === status!.leaderId);
      await leader?.channel.client(AdminService).removeMember({ nodeId: added[0]! }, { timeoutMs: 5_000 });
      return undefined;
    });
  }

  /** All members have the same state. */
  async #expectEqualStates(cluster: FuzzedCluster): Promise<void> {
    await cluster.until("the states are compared", async () => {
      const admin = cluster.nodes[0]!.channel.client(AdminService);
      const { digests } = await admin.verifyState({}, { timeoutMs: 30_000 });
      const different = digests.filter(({ differs }) => differs);
      if (different.length > 0) throw new Finding(`states differ: ${different.map(({ nodeId }) => nodeId).join(", ")}`);
      return digests.some(({ error }) => error !== "") ? undefined : true;
    });
  }
}

/** Names that random joins and additions may have. */
function isOfFuzz(id: string): boolean {
  return (FUZZ_NODES as readonly string[]).includes(id) || !/^n[123]$/.test(id);
}

function note(trace: Trace, node: FuzzedNode, plan: CallPlan): void {
  trace(
    `call of ${node.id} ${JSON.stringify(plan.headers)} in ${plan.pieces.length} pieces, then ${plan.finish}:`,
    Buffer.concat(plan.pieces),
  );
}

/** Statuses that a server gives for none but its own bugs. */
const BUGS = [status.INTERNAL, status.UNKNOWN] as const;

function judge(method: DescMethod, plan: CallPlan, outcome: CallOutcome): void {
  const name = `${method.parent.typeName}/${method.name}`;
  const { grpcStatus, message, hangs } = outcome;
  if (hangs) {
    const timeout = plan.headers["grpc-timeout"];
    // Without a deadline, some calls may wait for ever by right; the harness ends those.
    if (plan.finish === "end" && /^\d{3,4}m$/.test(String(timeout))) {
      throw new Finding(
        `${name} hangs: no end ${plan.patienceMs} ms after its last byte, with a deadline of ${String(timeout)}`,
      );
    }
    return;
  }
  if (grpcStatus === undefined) return;
  const isBug = BUGS.some((code) => code === grpcStatus);
  if (isBug) throw new Finding(`${name} answers ${status[grpcStatus]}: ${decodeURIComponent(message)}`);
  expectThat(grpcStatus >= 0 && grpcStatus <= 16, () => `${name} answers the unknown status ${grpcStatus}`);
}
