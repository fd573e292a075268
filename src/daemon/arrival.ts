import {
  type Answers,
  type Introduced,
  type Introduction,
  type NamedAddress,
  type NextStep,
  nextStep,
  type OwnFacts,
  type Turn,
} from "../raft/membership/introduction.js";
import type { Membership } from "../raft/types.js";

/** The leader's answer to a node that wants to be a member. */
export type JoinAnswer =
  /**
   * `isVoter`: it was a member already, a founder that did not know that yet. Absent: a learner.
   */
  | { readonly kind: "joined"; readonly isVoter?: boolean }
  /** Not now; nothing has happened. */
  | { readonly kind: "later"; readonly reason: string }
  /** Never, with its present options. */
  | { readonly kind: "refused"; readonly reason: string };

/** A node to ask. The name is unknown for an address given by `--join`. */
export interface Contact {
  readonly name: string | undefined;
  readonly address: string;
}

/** The surroundings that a new node depends on: the network, its directory, the time. */
export interface Surroundings {
  /** Returns the facts about the node now; undefined once it is no longer new. */
  facts(): OwnFacts | undefined;
  contacts(): readonly Contact[];
  /** Resolves with undefined when there is no answer, or one that makes no sense. Never rejects. */
  ask(contact: Contact, asked: Introduction): Promise<Introduced | undefined>;
  /** Asks the leader to make this node a member. Never rejects. */
  join(leader: NamedAddress): Promise<JoinAnswer>;
  /** Changes the directory's cluster durably, and restarts the node with it. */
  turn(turn: Turn): Promise<void>;
  /**
   * Founds the cluster, unless since `own` the node has changed its identity or become a member.
   */
  found(members: Membership, own: OwnFacts): Promise<void>;
  /** Reports the reason why the node waits. The same reason is reported many times. */
  waits(reason: string): void;
  pause(ms: number): Promise<void>;
}

/**
 * Pause between two rounds of questions in milliseconds: it doubles up to the longest while a round
 * changes nothing.
 */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1_000;

/**
 * Brings a node with a new directory into its cluster (T1): asks all others about themselves in
 * rounds, and acts on their answers, never on their silence. Resolves when the node has the log of
 * a cluster, or when the signal is aborted; with the reason when the node must not join at all.
 */
export async function arrive(
  world: Surroundings,
  signal: AbortSignal,
): Promise<{ readonly refused: string } | undefined> {
  let pauseMs = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    const step = await look(world);
    if (step === undefined) return undefined;
    if (step.kind === "refused") return { refused: step.reason };
    if (step.kind === "join") {
      const answer = await world.join(step.leader);
      if (answer.kind === "refused") return { refused: answer.reason };
      if (answer.kind === "later") world.waits(answer.reason);
    }
    if (step.kind === "wait") world.waits(step.reason);
    pauseMs = step.kind === "wait" ? Math.min(2 * pauseMs, LONGEST_PAUSE_MS) : FIRST_PAUSE_MS;
    await world.pause(pauseMs);
  }
  return undefined;
}

/**
 * Asks all others, and acts on their answers alone. Returns the step that is left to the caller;
 * undefined when the node is no longer new.
 */
async function look(world: Surroundings): Promise<NextStep | undefined> {
  const own = world.facts();
  if (own === undefined) return undefined;
  let step = nextStep(own, await askAll(world, own, false), false);
  if (step.kind === "ask_promises") step = nextStep(own, await askAll(world, own, true), true);
  if (step.kind === "turn") await world.turn(step.turn);
  if (step.kind === "found") await world.found(step.members, own);
  return world.facts() === undefined ? undefined : step;
}

async function askAll(world: Surroundings, own: OwnFacts, askPromise: boolean): Promise<Answers> {
  const founder = own.clusterId === own.incarnation ? own.clusterId : "";
  const contacts = world.contacts();
  const answers = await Promise.all(
    contacts.map((contact) => {
      const { name, founders, base } = own;
      return world.ask(contact, { name, receiver: contact.name ?? "", founders, base, founder, askPromise });
    }),
  );
  return new Map(contacts.map(({ name, address }, at) => [name ?? address, answers[at]]));
}
