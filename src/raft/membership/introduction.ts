import type { LogPosition, Membership } from "../types.js";

// The rules by which nodes that share no cluster yet found or join one (T1, T2). They are pure, so
// that the simulator runs them, too.

/**
 * The state that a cluster starts from when it is founded from a backup: a snapshot, identified by
 * its digest.
 */
export interface Base extends LogPosition {
  /** SHA-256 of the snapshot file up to its trailer, in hexadecimal digits. */
  readonly sha256: string;
}

/** A founder or contact: the name of a node and the address where it is expected. */
export interface NamedAddress {
  readonly name: string;
  /** host:port */
  readonly address: string;
}

/** A node's description of itself to another node. */
export interface Introduced {
  readonly name: string;
  readonly incarnation: string;
  /** The founders named at its start; empty when it was told to join. */
  readonly founders: readonly NamedAddress[];
  readonly base: Base | undefined;
  readonly standing: Standing;
}

export type Standing =
  /**
   * The node's directory holds nothing but the base. `promised`: the node has promised, durably, to
   * take part in the asker's cluster and in no other.
   */
  | { readonly kind: "new"; readonly promised: boolean }
  | {
      readonly kind: "member";
      readonly clusterId: string;
      /** The newest membership that the node knows to be committed. */
      readonly membership: Membership;
      readonly membershipIndex: number;
      /**
       * The leader, as far as the node knows. The address is empty when the membership has none, as
       * for a node that was founded alone on port 0.
       */
      readonly leader: NamedAddress | undefined;
    }
  /**
   * The node has lost data that it acknowledged (T3), and is about to return as another
   * incarnation.
   */
  | { readonly kind: "retired" };

/** A node's introduction to another node, with the request that the other introduce itself. */
export interface Introduction {
  readonly name: string;
  readonly receiver: string;
  readonly founders: readonly NamedAddress[];
  readonly base: Base | undefined;
  /**
   * Incarnation of an asker that founds a cluster: the id of the cluster to come. Empty: the asker
   * only asks.
   */
  readonly founder: string;
  readonly askPromise: boolean;
}

/** Returns the introduction of a node that only wants to know; it founds nothing. */
export function plainQuestion(name: string, receiver: string): Introduction {
  return { name, receiver, founders: [], base: undefined, founder: "", askPromise: false };
}

/** The facts that a node knows about itself. */
export interface OwnFacts {
  readonly name: string;
  readonly incarnation: string;
  readonly clusterId: string;
  /** Empty when the node was told to join, or returns after a loss: it founds nothing. */
  readonly founders: readonly NamedAddress[];
  readonly base: Base | undefined;
  /**
   * Whether an empty directory under a known name must not return as a new member, because the
   * operator wants to look into the lost disk first.
   */
  readonly refusesReturn: boolean;
  /**
   * Whether the node has taken part in elections: then it needs another incarnation to change its
   * cluster.
   */
  readonly hasTerm: boolean;
}

/** A change of the cluster of a directory that is not a member yet (T2). */
export interface Turn {
  /**
   * Id of the new cluster. Empty: the node founds the cluster, which takes its incarnation as id.
   */
  readonly clusterId: string;
  readonly base: Base | undefined;
  /**
   * Whether to draw another incarnation, because the current one has belonged to a cluster or may
   * have voted.
   */
  readonly isRenewed: boolean;
}

/** Returns the change by which a directory turns to a cluster; its earlier votes are void. */
export function turnTo(own: OwnFacts, clusterId: string, base: Base | undefined): Turn {
  return { clusterId, base: own.base ?? base, isRenewed: own.clusterId !== "" || own.hasTerm };
}

/** A new node's answer to a founder. */
export type PromiseDecision =
  | { readonly kind: "answer"; readonly promised: boolean }
  /** Turn first, durably, then promise. */
  | { readonly kind: "turn"; readonly turn: Turn };

/**
 * Returns a new node's answer to an introduction. It promises only to the latest founder that
 * asked, with the same founders and the same base. Two founders at work at the same time must not
 * each collect a promise of every other node.
 */
export function promiseOf(own: OwnFacts, asked: Introduction, lastFounder: string | undefined): PromiseDecision {
  const { askPromise, founder, founders, base } = asked;
  const fits = sameFounders(own.founders, founders) && (own.base === undefined || sameBase(own.base, base));
  if (!askPromise || founder === "" || founder !== lastFounder || !fits) return { kind: "answer", promised: false };
  if (own.clusterId === founder) return { kind: "answer", promised: true };
  return { kind: "turn", turn: turnTo(own, founder, base) };
}

/** The next step of a new node. */
export type NextStep =
  /** The node cannot decide now. `reason` names the nodes that it waits for. */
  | { readonly kind: "wait"; readonly reason: string }
  /** The node founds, and first takes a new identity. */
  | { readonly kind: "turn"; readonly turn: Turn }
  | { readonly kind: "ask_promises" }
  | { readonly kind: "found"; readonly members: Membership }
  /** The node belongs to that cluster, and asks its leader for membership. */
  | { readonly kind: "join"; readonly leader: NamedAddress }
  /** The node's directory is new, but the cluster knows its name. */
  | { readonly kind: "refused"; readonly reason: string };

/**
 * The answers of the other nodes; undefined for a node that did not answer. Silence decides
 * nothing.
 */
export type Answers = ReadonlyMap<string, Introduced | undefined>;

/** Returns the founder of a list: the first node by name, in whatever order the list is given. */
export function founderOf(founders: readonly NamedAddress[]): string | undefined {
  return founders.map(({ name }) => name).sort()[0];
}

/**
 * Returns the next step of a new node, given the answers of the others.
 * @param answers by name, or by address when the name is not known
 * @param isSecondRound whether these are the answers to the request for promises
 */
export function nextStep(own: OwnFacts, answers: Answers, isSecondRound: boolean): NextStep {
  const given = [...answers.values()].filter((each) => each !== undefined);
  const members = given.flatMap(({ name, base, standing }) =>
    standing.kind === "member" ? [{ name, base, ...standing }] : [],
  );
  if (members.length > 0) return towards(own, members);
  const haveAllAnswered = given.length === answers.size;
  if (own.founders.length === 0) {
    if (haveAllAnswered && answers.size > 0 && own.clusterId !== "")
      return { kind: "wait", reason: whyAlone(own, answers) };
    return waitFor(own, answers, "to join its cluster it must hear from");
  }
  if (founderOf(own.founders) !== own.name)
    return waitFor(own, answers, `${founderOf(own.founders)} founds the cluster; waiting for`);
  // T1: a majority does not suffice, because a node that does not answer may know of a cluster.
  if (!haveAllAnswered) return waitFor(own, answers, "to found the cluster it must hear from");
  const unfit = given.map((each) => whyUnfit(own, each)).find((reason) => reason !== undefined);
  if (unfit !== undefined) return { kind: "wait", reason: `${own.name} is new; ${unfit}` };
  if (own.clusterId !== own.incarnation) {
    const turn = turnTo(own, "", own.base);
    return { kind: "turn", turn };
  }
  if (!isSecondRound) return { kind: "ask_promises" };
  const missing = given.find(({ standing }) => standing.kind !== "new" || !standing.promised);
  if (missing !== undefined)
    return { kind: "wait", reason: `${own.name} is new; ${missing.name} has not promised yet` };
  return { kind: "found", members: foundersAs(own, given) };
}

interface KnownCluster extends Omit<Extract<Standing, { kind: "member" }>, "kind"> {
  readonly name: string;
  readonly base: Base | undefined;
}

/** Returns the step towards a cluster that exists: the node turns to it, and joins. */
function towards(own: OwnFacts, members: readonly KnownCluster[]): NextStep {
  const ids = [...new Set(members.map(({ clusterId }) => clusterId))];
  const clusterId = ids.includes(own.clusterId) ? own.clusterId : ids[0]!;
  if (ids.length > 1 && clusterId !== own.clusterId) {
    const said = members.map((each) => `${each.name} belongs to cluster ${each.clusterId}`).join(", ");
    return { kind: "wait", reason: `${own.name} is new; ${said}: it cannot tell which one is its own` };
  }
  const known = members.filter((each) => each.clusterId === clusterId);
  const newest = known.reduce((a, b) => (b.membershipIndex > a.membershipIndex ? b : a));
  const present = newest.membership.find(({ id }) => id === own.name);
  if (own.refusesReturn && present !== undefined && present.incarnation !== own.incarnation) {
    const reason = `its directory is empty, but cluster ${clusterId} knows ${own.name} from before, and lostDisk (--lost-disk on the command line) is set to refuse. With rejoin, the node comes back as a new member`;
    return { kind: "refused", reason };
  }
  if (clusterId !== own.clusterId) return { kind: "turn", turn: turnTo(own, clusterId, newest.base) };
  const leader = known.find((each) => each.leader !== undefined)?.leader;
  const where = `${own.name} is new; ${newest.name} belongs to cluster ${clusterId}`;
  if (present?.incarnation === own.incarnation) {
    return { kind: "wait", reason: `${own.name} is a ${present.role} of cluster ${clusterId}; waiting for its leader` };
  }
  if (leader === undefined) return { kind: "wait", reason: `${where}; waiting for its leader` };
  return { kind: "join", leader };
}

/**
 * Explains why a node that belongs to a cluster unknown to all others waits. It must not found a
 * cluster: the only copy of its cluster's data may be in a directory that was set aside.
 */
function whyAlone({ name, clusterId }: OwnFacts, answers: Answers): string {
  const others = [...answers.keys()].join(", ");
  return `${name} belongs to cluster ${clusterId}, but ${others} know of no cluster: its data may be lost. Restore a snapshot of it; or, to begin an empty cluster, remove the data directory of ${name} and start it with its founders (cluster, or --cluster on the command line)`;
}

function waitFor(own: OwnFacts, answers: Answers, what: string): NextStep {
  const silent = [...answers].filter(([, answer]) => answer === undefined).map(([name]) => name);
  const whom = silent.length > 0 ? `${silent.join(", ")} (no answer)` : [...answers.keys()].join(", ");
  return { kind: "wait", reason: `${own.name} is new; ${what} ${whom}` };
}

/** Describes why another node cannot found a cluster with this one; undefined when it can. */
function whyUnfit(own: OwnFacts, { name, founders, base, standing }: Introduced): string | undefined {
  if (standing.kind === "retired") return `${name} has lost data, and is on its way back`;
  if (!sameFounders(own.founders, founders)) {
    const list = founders.map((each) => `${each.name}=${each.address}`).join(",");
    return `${name} was started with another list of founders: ${list === "" ? "none" : list}`;
  }
  if (base === undefined || sameBase(base, own.base)) return undefined;
  return `${name} begins with the snapshot at index ${base.index}, and ${own.name} with ${own.base === undefined ? "none" : "another one"}`;
}

function foundersAs(own: OwnFacts, others: readonly Introduced[]): Membership {
  const incarnations = new Map([own, ...others].map((each) => [each.name, each.incarnation]));
  const members = own.founders.map(({ name, address }) => {
    return { id: name, address, role: "voter", incarnation: incarnations.get(name)! } as const;
  });
  return members.sort((a, b) => (a.id < b.id ? -1 : 1));
}

function sameFounders(one: readonly NamedAddress[], other: readonly NamedAddress[]): boolean {
  return listText(one) === listText(other);
}

function listText(founders: readonly NamedAddress[]): string {
  return founders
    .map(({ name, address }) => `${name}=${address}`)
    .sort()
    .join(",");
}

function sameBase(one: Base | undefined, other: Base | undefined): boolean {
  return one?.index === other?.index && one?.term === other?.term && one?.sha256 === other?.sha256;
}
