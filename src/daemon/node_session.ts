import { CairnError } from "../base/errors.js";
import {
  type Introduced,
  type Introduction,
  type NamedAddress,
  type OwnFacts,
  plainQuestion,
  promiseOf,
  type Standing,
  type Turn,
} from "../raft/membership/introduction.js";
import type { LostData } from "../raft/state.js";
import type { Member as MemberOfList, Membership } from "../raft/types.js";
import { memberStanding } from "../server/introducer.js";
import type { Identity } from "../storage/identity.js";
import { Serial } from "../system/serial.js";
import type { Contact } from "./arrival.js";
import { turnDirectory } from "./claim.js";
import type { MemberNode, Served, World } from "./world.js";

/** Options of a session: a node and its server, while the data directory keeps its identity. */
export interface NodeSessionOptions<Node extends MemberNode> {
  readonly world: World<Node>;
  readonly directory: string;
  readonly listen: string;
  readonly refusesReturn: boolean;
  /** Warnings for an operator, besides the node's own. */
  readonly warnings: () => readonly string[];
  /** Returns the contact with this name, if the node knows one. */
  readonly contactOf: (node: Node, name: string) => Contact | undefined;
  /** The founder that asked last, over all sessions (T1). */
  readonly lastFounder: { incarnation: string | undefined };
}

/**
 * Reason for the end of a session. `failed`: its node has stopped on the way to another identity,
 * and the directory may have either.
 */
export type NodeSessionEnd =
  | { readonly kind: "turned" }
  | { readonly kind: "lost"; readonly lost: LostData }
  | { readonly kind: "failed"; readonly error: unknown };

/** A node and its server, for as long as the data directory keeps its identity. */
export class NodeSession<Node extends MemberNode> {
  readonly #changes = new Serial();
  #node!: Node;
  #server!: Served;
  #resolveEnd!: (end: NodeSessionEnd) => void;
  #hasEnded = false;
  /** Resolves when the directory has another identity, or must get one. */
  readonly ended = new Promise<NodeSessionEnd>((resolve) => {
    this.#resolveEnd = resolve;
  });

  private constructor(private readonly options: NodeSessionOptions<Node>) {}

  /**
   * Starts the node and its server.
   * @throws CairnError as {@link World.startNode} and {@link World.serve}
   */
  static async open<Node extends MemberNode>(options: NodeSessionOptions<Node>): Promise<NodeSession<Node>> {
    const session = new NodeSession(options);
    const { world, listen } = options;
    session.#node = await world.startNode((lost) => session.#end({ kind: "lost", lost }));
    try {
      session.#server = await world.serve(session.#node, listen, {
        base: session.#node.identity.base,
        get warnings() {
          return options.warnings();
        },
        introduce: (asked) => session.#introduce(asked),
      });
      return session;
    } catch (error) {
      await session.#node.stop();
      throw error;
    }
  }

  get node(): Node {
    return this.#node;
  }

  get address(): string {
    return this.#server.address;
  }

  /**
   * Returns the facts about this node while it is new; undefined when it is no longer new, or the
   * session has ended.
   */
  facts(): OwnFacts | undefined {
    return this.#hasEnded || !this.#node.isNew ? undefined : this.#facts();
  }

  /**
   * Changes the directory's cluster, and ends the session. Does nothing if the log of the present
   * cluster has arrived meanwhile.
   */
  turn(turn: Turn): Promise<void> {
    return this.#changes.run(async () => {
      if (!this.#hasEnded && this.#node.isNew) await this.#turn(turn);
    });
  }

  /**
   * Founds a cluster, if the node has not changed since the others promised. Returns whether it has
   * founded one.
   */
  found(members: Membership, own: OwnFacts): Promise<boolean> {
    return this.#changes.run(async () => {
      const isSame = !this.#hasEnded && this.#node.isNew && this.#node.incarnation === own.incarnation;
      if (isSame) this.#node.found(members);
      return isSame;
    });
  }

  /** Lets calls under way end, then stops server and node. On return nothing uses the directory. */
  async stop(): Promise<void> {
    this.#hasEnded = true;
    try {
      await this.#server.stop();
      // The directory may be on its way to another identity.
      await this.#changes.settled();
    } finally {
      await this.#node.stop();
    }
  }

  #end(end: NodeSessionEnd): void {
    this.#hasEnded = true;
    this.#resolveEnd(end);
  }

  #facts(): OwnFacts {
    const { id, identity, raft } = this.#node;
    return {
      name: id,
      incarnation: identity.incarnation,
      clusterId: identity.clusterId,
      founders: identity.cameBy === "cluster" ? identity.members.map(toFounder) : [],
      base: identity.base,
      refusesReturn: this.options.refusesReturn,
      hasTerm: raft.term > (identity.base?.term ?? 0),
    };
  }

  /**
   * Introduces the node, and gives a founder its promise. One at a time: a promise is for one
   * founder alone.
   */
  #introduce(asked: Introduction): Promise<Introduced> {
    return this.#changes.run(async () => {
      const { raft, isNew } = this.#node;
      const own = this.#facts();
      if (raft.lost !== undefined) return introduced(own, { kind: "retired" });
      if (!isNew) return introduced(own, memberStanding(this.#node));
      if (this.#hasEnded) throw new CairnError("STOPPED", `node ${own.name} is turning to a cluster`);
      const { lastFounder } = this.options;
      if (asked.founder !== "" && !asked.askPromise) lastFounder.incarnation = asked.founder;
      const decision = promiseOf(own, asked, lastFounder.incarnation);
      if (decision.kind === "answer") return introduced(own, { kind: "new", promised: decision.promised });
      const identity = (await this.#isPresent(asked)) ? await this.#turn(decision.turn) : undefined;
      if (identity === undefined) return introduced(own, { kind: "new", promised: false });
      return introduced(
        { ...own, incarnation: identity.incarnation, base: identity.base },
        { kind: "new", promised: true },
      );
    });
  }

  /**
   * T1: returns whether the founder that asks for a promise still runs, under that incarnation. Its
   * request may have been under way for long: the founder's directory may be lost by now, and its
   * successor may have founded a cluster with this node's promise.
   */
  async #isPresent(asked: Introduction): Promise<boolean> {
    const { world, contactOf } = this.options;
    const contact = contactOf(this.#node, asked.name);
    const found = contact && (await world.ask(contact, plainQuestion(this.#node.id, asked.name)));
    if (this.#hasEnded) return false;
    return found?.standing.kind === "new" && found.name === asked.name && found.incarnation === asked.founder;
  }

  /**
   * Stops the node, then changes the directory's cluster. The node stops first: its writes so far
   * decide, and nothing reaches it afterwards. Returns the directory's new identity; undefined when
   * the node was no longer new.
   */
  async #turn(turn: Turn): Promise<Identity | undefined> {
    try {
      await this.#node.stop();
      const isNew = this.#node.isNew;
      const identity = isNew ? await turnDirectory(this.options.world.fs, this.options.directory, turn) : undefined;
      this.#end({ kind: "turned" });
      return identity;
    } catch (error) {
      // The node has stopped: nobody must mistake it for a node that is running and waiting.
      this.#end({ kind: "failed", error });
      throw error;
    }
  }
}

function toFounder({ id, address }: MemberOfList): NamedAddress {
  return { name: id, address };
}

function introduced({ name, incarnation, founders, base }: OwnFacts, standing: Standing): Introduced {
  return { name, incarnation, founders, base, standing };
}
