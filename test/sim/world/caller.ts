import { CairnError } from "../../../src/base/errors.js";
import type { SimCluster } from "./cluster.js";
import type { RunningNode, SimNode } from "./node.js";
import type { SimRandom } from "./random.js";

/** How a client's calls fare. */
export interface CallWeather {
  readonly timeoutMs: number;
  /** Share of the requests, and of the answers, that get lost. */
  readonly loss: number;
}

/** Makes the calls of one client: to whom it takes for the leader, or to any node. */
export class Caller {
  #leader: string | undefined;

  /** `strays`: share of the attempts that go to any node instead of the one that is taken for the leader. */
  constructor(
    private readonly cluster: SimCluster,
    readonly id: string,
    private readonly weather: CallWeather,
    private readonly random: SimRandom,
    private readonly strays: number,
  ) {}

  /** Another cluster is called from now on, and nothing is known of its leader. */
  forgetLeader(): void {
    this.#leader = undefined;
  }

  /** One attempt at a node of a cluster. */
  async ask<Value>(
    clusterId: string | undefined,
    work: (node: RunningNode, signal: AbortSignal, place: SimNode) => Promise<Value>,
  ): Promise<{ readonly value: Value } | { readonly error: CairnError }> {
    const { cluster, random, weather } = this;
    const known = this.#leader === undefined ? undefined : cluster.node(this.#leader);
    const target = known !== undefined && !random.chance(this.strays) ? known : random.pick(cluster.nodes);
    try {
      const value = await this.#call(target, clusterId, work);
      if (random.chance(weather.loss)) throw lost("the answer was lost");
      this.#leader = target.id;
      return { value };
    } catch (caught) {
      const error = CairnError.from(caught);
      if (error.code === "INTERNAL")
        cluster.fail("a client meets with none but the errors that are written down", describe(caught));
      this.#leader = error.code === "NOT_LEADER" ? error.leaderHint : undefined;
      cluster.count(`client told ${error.code}`);
      return { error };
    }
  }

  /** A call over the network: it may not arrive, its process may die, and it ends when the client's patience does. */
  #call<Value>(
    target: SimNode,
    clusterId: string | undefined,
    work: (node: RunningNode, signal: AbortSignal, place: SimNode) => Promise<Value>,
  ): Promise<Value> {
    const { scheduler } = this.cluster;
    const { random, weather } = this;
    const controller = new AbortController();
    return new Promise<Value>((resolve, reject) => {
      const patience = scheduler.after(
        random.between(0.2, 1) * weather.timeoutMs,
        undefined,
        `${this.id} gives up waiting`,
        () => {
          reject(lost("the client gave up"));
          scheduler.arrive(1, target, `${this.id} hangs up`, () => controller.abort());
        },
      );
      const settle = (end: () => void) => {
        scheduler.after(random.between(0.1, 2), undefined, `${this.id} has its answer`, () => {
          scheduler.cancel(patience);
          end();
        });
      };
      if (random.chance(weather.loss)) return;
      scheduler.arrive(random.between(0.1, 2), target, `is asked by ${this.id}`, () => {
        const { cairn, life } = target;
        if (cairn === undefined || cairn.clusterId !== clusterId) return settle(() => reject(unreachable(target)));
        work(cairn, controller.signal, target).then(
          (value) => target.life === life && settle(() => resolve(value)),
          (error) => target.life === life && settle(() => reject(error)),
        );
      });
    });
  }
}

function lost(text: string): CairnError {
  return new CairnError("TIMEOUT", text);
}

function unreachable({ id }: SimNode): CairnError {
  return new CairnError("UNREACHABLE", `${id} is down`);
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
