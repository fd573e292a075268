import { CairnError } from "../../../../src/base/errors.js";
import { limits } from "../../../../src/base/limits.js";
import { type AskedLeader, FollowerReads } from "../../../../src/node/requests/follower_reads.js";
import type { SimCluster } from "../cluster.js";
import type { RunningNode, SimNode } from "../node.js";
import type { SimNetwork } from "./network.js";

/** Linearizable reads at followers: each asks its leader for a read index, in calls over the network. */
export class SimReadQuestions {
  readonly #reads = new WeakMap<RunningNode, FollowerReads<AskedLeader>>();

  constructor(
    private readonly cluster: SimCluster,
    private readonly network: SimNetwork,
  ) {}

  /** The reads of a node that runs at this place. */
  of(place: SimNode, node: RunningNode): FollowerReads<AskedLeader> {
    const known = this.#reads.get(node);
    if (known !== undefined) return known;
    const reads = new FollowerReads(node, place.clock.view(), ({ id }: AskedLeader) => this.#ask(place, node, id));
    this.#reads.set(node, reads);
    return reads;
  }

  #ask(from: SimNode, { clusterId }: RunningNode, id: string): Promise<number> {
    const { cluster, network } = this;
    const { scheduler } = cluster;
    const target = cluster.node(id);
    const { life } = from;
    cluster.count("question for a read index");
    return new Promise((resolve, reject) => {
      const patience = scheduler.after(limits.peerCallMs, undefined, `${from.id} gives ${id} up`, () =>
        reject(new CairnError("TIMEOUT", `${id} did not tell its read index`)),
      );
      if (target === undefined || network.isLost(from.id, id)) return;
      scheduler.arrive(network.delay(from.id, id), target, `is asked for a read index by ${from.id}`, () => {
        const { cairn, life: asked } = target;
        const answer = (end: () => void) => {
          if (target.life !== asked || network.isLost(id, from.id)) return;
          scheduler.arrive(network.delay(id, from.id), from, `is told the read index by ${id}`, () => {
            scheduler.cancel(patience);
            if (from.life === life) end();
          });
        };
        if (cairn === undefined || cairn.clusterId !== clusterId) {
          answer(() => reject(new CairnError("UNREACHABLE", `${id} is down`)));
          return;
        }
        cairn.readIndex().then(
          (index) => answer(() => resolve(index)),
          (error) => answer(() => reject(error)),
        );
      });
    });
  }
}
