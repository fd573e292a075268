import { CairnError } from "../../../../src/base/errors.js";
import type { Contact, JoinAnswer } from "../../../../src/daemon/arrival.js";
import type { Joiner } from "../../../../src/daemon/world.js";
import type { Introduced, Introduction, NamedAddress } from "../../../../src/raft/membership/introduction.js";
import type { SimCluster } from "../cluster.js";
import type { SimNode } from "../node.js";
import type { SimNetwork } from "./network.js";

/** As a daemon waits for others, in milliseconds. */
const ASK_TIMEOUT_MS = 1_000;
const JOIN_TIMEOUT_MS = 10_000;
/** A request that was thought to be lost arrives after so many milliseconds, at most. */
const GHOST_MS = 15_000;

/** What nodes ask each other that have no cluster in common: calls over the network, which reach whoever serves at the address when they arrive. */
export class SimIntroductions {
  constructor(
    private readonly cluster: SimCluster,
    private readonly network: SimNetwork,
  ) {}

  ask(from: SimNode, { name, address }: Contact, asked: Introduction): Promise<Introduced | undefined> {
    const { checks } = this.cluster;
    return this.#call(from, address, `introduction of ${from.id}`, ASK_TIMEOUT_MS, undefined, async (target) => {
      const { life } = target;
      const { node, introducer } = target.serving!;
      const introduced = await introducer.introduce(asked);
      if (target.life !== life) return undefined;
      checks.introduced(target, node, asked, introduced);
      if (introduced.standing.kind === "new" && introduced.standing.promised) this.cluster.count("promise");
      return name === undefined || introduced.name === name ? introduced : undefined;
    });
  }

  join(from: SimNode, { address }: NamedAddress, joiner: Joiner): Promise<JoinAnswer> {
    const silent: JoinAnswer = { kind: "later", reason: "no answer" };
    return this.#call(from, address, `join of ${joiner.name}`, JOIN_TIMEOUT_MS, silent, async (target, signal) => {
      const { node } = target.serving!;
      const { name: id, incarnation, cameBy } = joiner;
      if (joiner.clusterId !== node.clusterId) return { kind: "later", reason: "another cluster" };
      try {
        const change = { type: "join", id, incarnation, address: joiner.address, cameBy } as const;
        const { members } = await node.changeMembership(change, signal);
        this.cluster.count("join");
        const present = members.find((member) => member.id === id);
        if (present === undefined) return { kind: "later", reason: `${id} is not a member yet` };
        return { kind: "joined", isVoter: present.role === "voter" };
      } catch (error) {
        const { code, text } = CairnError.from(error);
        this.cluster.count(`join refused with ${code}`);
        return { kind: code === "NOT_FOUND" ? "refused" : "later", reason: text };
      }
    });
  }

  /** The answer to a call, or `silence` when there is none in time. */
  #call<Answer>(
    from: SimNode,
    address: string,
    what: string,
    timeoutMs: number,
    silence: Answer,
    work: (target: SimNode, signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer> {
    const { cluster, network } = this;
    const { scheduler } = cluster;
    const { random, weather } = network;
    const target = cluster.nodes.find((node) => node.address === address);
    return new Promise((resolve) => {
      const given = new AbortController();
      const cancel = from.clock.view().after(timeoutMs, () => {
        given.abort();
        resolve(silence);
      });
      const answered = (answer: Answer) => {
        cancel();
        resolve(answer);
      };
      if (target === undefined) return;
      const arrive = (ms: number, label: string) => {
        scheduler.arrive(ms, target, label, () => {
          const { serving, life } = target;
          if (serving === undefined || network.isBlocked(from.id, target.id)) return;
          work(target, given.signal).then(
            (answer) => {
              if (target.life !== life || network.isLost(target.id, from.id)) return;
              scheduler.after(network.delay(target.id, from.id), from, `${target.id} answers the ${what}`, () =>
                answered(answer),
              );
            },
            (error) => {
              const { code } = CairnError.from(error);
              if (target.life !== life) return;
              cluster.count(`introduction refused with ${code}`);
              target.judgeIntroduction(error);
            },
          );
        });
      };
      if (!network.isLost(from.id, target.id)) arrive(network.delay(from.id, target.id), `takes the ${what}`);
      if (!random.chance(weather.ghost)) return;
      cluster.count("late request of a new node");
      arrive(random.between(100, GHOST_MS), `takes the ${what}, which comes late`);
    });
  }
}
