import { CairnError } from "../base/errors.js";
import { LostDataError } from "../node/open/lost_data.js";
import type { LostData } from "../raft/state.js";
import type { Membership } from "../raft/types.js";
import { arrive, type Contact } from "./arrival.js";
import {
  type Claim,
  checkFounders,
  claimDirectory,
  isRestated,
  mustNotReplace,
  replaceDirectory,
  restateDirectory,
} from "./claim.js";
import type { MemberEvent } from "./events.js";
import { NodeSession, type NodeSessionEnd, type NodeSessionOptions } from "./node_session.js";
import { RemovalWatch } from "./removal_watch.js";
import { Waiting } from "./waiting.js";
import type { MemberNode, World } from "./world.js";

/** Interval in milliseconds at which a founder checks whether the first membership is durable. */
const DURABLE_LOOK_MS = 10;

export interface MemberOptions<Node extends MemberNode> {
  readonly world: World<Node>;
  /** The data directory. */
  readonly directory: string;
  readonly claim: Claim;
  /** host:port to listen on; port 0 takes a free one. */
  readonly listen: string;
  /** host:port at which the others reach it. Default: the address that it listens on. */
  readonly advertise?: string | undefined;
  /**
   * Addresses (host:port) of members as seen from here, by name, when they differ from those in the
   * founders' list or the membership.
   */
  readonly peerAddresses?: Readonly<Record<string, string>> | undefined;
  /** host:port of members of the cluster to join. */
  readonly join?: readonly string[] | undefined;
  /**
   * False: a directory that has lost data, or that is new although its cluster knows its name, is
   * left to an operator.
   */
  readonly replacesLostData: boolean;
  readonly onEvent: (event: MemberEvent) => void;
}

/**
 * Runs a member around its node (T1 to T4): it finds or founds its cluster, returns under another
 * incarnation when it has lost data, and notices that it was removed. When the directory changes
 * its identity, node and server are started again.
 */
export class RunningMember<Node extends MemberNode = MemberNode> {
  readonly #options: MemberOptions<Node>;
  readonly #stopping = new AbortController();
  readonly #waiting: Waiting;
  readonly #lastFounder: NodeSessionOptions<Node>["lastFounder"] = { incarnation: undefined };
  #session!: NodeSession<Node>;
  #listen: string;
  #running: Promise<void> = Promise.resolve();
  /** Rejects when the member cannot continue. */
  readonly failed: Promise<never>;
  #fail!: (error: unknown) => void;

  private constructor(options: MemberOptions<Node>) {
    this.#options = options;
    this.#listen = options.listen;
    this.#waiting = new Waiting(options.onEvent, () => options.world.now());
    this.failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.failed.catch(() => {});
  }

  /**
   * Starts a member on its directory, which is created if it does not exist. On return it listens;
   * events report everything that follows.
   * @throws CairnError as {@link World.startNode} and {@link World.serve}; DATA_DIRECTORY,
   * FAILED_PRECONDITION
   */
  static async start<Node extends MemberNode>(options: MemberOptions<Node>): Promise<RunningMember<Node>> {
    const member = new RunningMember(options);
    const say = (text: string) => options.onEvent({ kind: "locked", text });
    await claimDirectory(options.world.fs, options.directory, options.claim, options.replacesLostData, { say });
    member.#session = await member.#openReplacing();
    await member.#restate();
    const { node, address } = member.#session;
    try {
      if (!node.isNew) checkFounders(options.directory, node.identity, options.claim.founders);
    } catch (error) {
      await member.#session.stop();
      throw error;
    }
    options.onEvent({ kind: "listening", address, clusterId: node.isNew ? "" : node.clusterId });
    member.#running = member.#run().catch((error: unknown) => member.#fail(error));
    return member;
  }

  /** The node. It is another one after the directory has changed its identity. */
  get node(): Node {
    return this.#session.node;
  }

  /** The address that it listens on: host:port with the real port. */
  get address(): string {
    return this.#session.address;
  }

  /** Stops accepting calls, then stops the node. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    await this.#session.stop();
    this.#options.world.close();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const stopped = new Promise<"stopped">((resolve) => signal.addEventListener("abort", () => resolve("stopped")));
    while (!signal.aborted) {
      const over = new AbortController();
      const around = this.#around(this.#session, AbortSignal.any([signal, over.signal]));
      around.catch((error: unknown) => this.#fail(error));
      const end = await Promise.race([this.#session.ended, stopped]);
      over.abort();
      await around.catch(() => {});
      if (end === "stopped") return;
      if (end.kind === "failed") throw end.error;
      await this.#next(end);
    }
  }

  /** Runs the member's work around a session's node: the arrival, then the watch for a removal. */
  async #around(session: NodeSession<Node>, signal: AbortSignal): Promise<void> {
    const hasJoined = session.node.isNew && (await this.#arrive(session, signal));
    const contacts = () => this.#contactsOf(session);
    const { world, onEvent } = this.#options;
    await new RemovalWatch(session.node, world, contacts, onEvent).run(hasJoined, signal);
  }

  /** Opens the next session, after the directory has got another identity or must get one. */
  async #next(end: Exclude<NodeSessionEnd, { kind: "failed" }>): Promise<void> {
    const { onEvent } = this.#options;
    const members = this.#session.node.raft.membership.members;
    await this.#session.stop();
    if (end.kind === "lost") await this.#replace(end.lost, members);
    this.#session = await this.#openReplacing();
    const { clusterId } = this.#session.node;
    if (end.kind === "turned") onEvent({ kind: "turned", clusterId });
  }

  /** Applies the command line to a directory that is still new. */
  async #restate(): Promise<void> {
    const { world, directory, claim } = this.#options;
    const { node } = this.#session;
    if (!node.isNew || !isRestated(node.identity, claim)) return;
    await this.#session.stop();
    if (node.isNew) await restateDirectory(world.fs, directory, claim);
    this.#session = await this.#openReplacing();
  }

  async #openReplacing(): Promise<NodeSession<Node>> {
    try {
      return await this.#open();
    } catch (error) {
      if (!(error instanceof LostDataError) || !this.#options.replacesLostData) throw error;
      await this.#replace(error.lost, error.members);
      return this.#open();
    }
  }

  async #open(): Promise<NodeSession<Node>> {
    const { world, directory, replacesLostData } = this.#options;
    const session = await NodeSession.open({
      world,
      directory,
      listen: this.#listen,
      refusesReturn: !replacesLostData,
      warnings: () => this.#warnings(),
      contactOf: (node, name) => this.#contactsOf({ node }).find((each) => each.name === name),
      lastFounder: this.#lastFounder,
    });
    this.#listen = session.address;
    return session;
  }

  #warnings(): readonly string[] {
    const { removedAt } = this.#session.node.raft;
    const waits = this.#waiting.reason;
    return [
      ...(waits === undefined ? [] : [waits]),
      ...(removedAt === undefined ? [] : [`this node was removed from its cluster at index ${removedAt}: stop it`]),
    ];
  }

  async #replace(lost: LostData, members: Membership): Promise<void> {
    const { world, directory, replacesLostData, onEvent } = this.#options;
    if (!replacesLostData) {
      const text = `this node has acknowledged entries up to ${lost.acknowledged}, and has entries up to ${lost.has}`;
      throw mustNotReplace(text);
    }
    const aside = await replaceDirectory(world.fs, directory, members);
    onEvent({ kind: "lost", lost, aside });
  }

  /** Brings the node into its cluster; returns whether it came as a learner. */
  async #arrive(session: NodeSession<Node>, signal: AbortSignal): Promise<boolean> {
    const { world, join, onEvent } = this.#options;
    let hasJoined = false;
    const { clusterId, incarnation, identity } = session.node;
    const refused = await arrive(
      {
        facts: () => session.facts(),
        contacts: () => this.#contactsOf(session),
        ask: (contact, asked) => world.ask(contact, asked),
        join: async (leader) => {
          const cameBy = identity.cameBy === "join" || join !== undefined ? "join" : "cluster";
          const address = this.#options.advertise ?? session.address;
          const joiner = { clusterId, name: session.node.id, incarnation, address, cameBy } as const;
          const answer = await world.join(leader, joiner);
          const isLearner = answer.kind === "joined" && answer.isVoter !== true;
          if (isLearner && !hasJoined) onEvent({ kind: "joined", clusterId, address });
          hasJoined ||= isLearner;
          return answer;
        },
        turn: (turn) => session.turn(turn),
        found: async (members, own) => {
          if (!(await session.found(members, own))) return;
          const { log } = session.node.raft;
          // Reported only when it can no longer be undone.
          while (!signal.aborted && log.persisted <= (own.base?.index ?? 0)) await world.pause(DURABLE_LOOK_MS, signal);
          if (!signal.aborted) onEvent({ kind: "founded", clusterId, members });
        },
        waits: (reason) => this.#waiting.waits(reason),
        pause: (ms) => world.pause(ms, signal),
      },
      signal,
    );
    this.#waiting.over();
    if (refused === undefined) return hasJoined;
    throw new CairnError("FAILED_PRECONDITION", `${session.node.id} must not start as it is: ${refused.refused}`);
  }

  /** Returns all other members that are known from any source; a given address takes precedence. */
  #contactsOf({ node }: Pick<NodeSession<Node>, "node">): Contact[] {
    const { claim, join = [], peerAddresses = {} } = this.#options;
    const known = new Map(claim.founders?.map(({ name, address }) => [name, address]));
    for (const { id, address } of [...node.identity.members, ...node.raft.membership.members]) known.set(id, address);
    known.delete(node.id);
    const named = [...known].map(([name, address]): Contact => ({ name, address: peerAddresses[name] ?? address }));
    const unnamed = join.map((address): Contact => ({ name: undefined, address }));
    return [...named.filter(({ address }) => address !== ""), ...unnamed];
  }
}
