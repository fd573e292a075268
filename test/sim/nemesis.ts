import type { SimCluster } from "./cluster.js";
import type { SimRandom } from "./random.js";
import type { SimNode } from "./sim_node.js";

/** Lets things go wrong, each kind at its own pace. */
export class Nemesis {
  #isOver = false;

  constructor(
    private readonly cluster: SimCluster,
    private readonly random: SimRandom,
  ) {}

  start(): void {
    const { troubles } = this.cluster.weather;
    this.#repeat(troubles.crash, "crash", () => this.#crash());
    this.#repeat(troubles.powerFailure, "power failure", () => this.#powerFailure());
  }

  async end(): Promise<void> {
    this.#isOver = true;
    for (const node of this.cluster.nodes) node.start();
  }

  #repeat(mean: number | undefined, label: string, act: () => void): void {
    if (mean === undefined) return;
    const next = () => {
      this.cluster.scheduler.after(this.random.waiting(mean), undefined, label, () => {
        if (this.#isOver) return;
        act();
        next();
      });
    };
    next();
  }

  #crash(): void {
    const node = this.#pick();
    if (node === undefined) return;
    this.cluster.count("crash");
    node.kill("all");
    this.#restart(node);
  }

  #powerFailure(): void {
    const node = this.#pick();
    if (node === undefined) return;
    this.cluster.count("power failure");
    node.kill(this.random.pick(["none", "random"]));
    this.#restart(node);
  }

  #restart(node: SimNode): void {
    this.cluster.scheduler.after(this.random.waiting(this.cluster.weather.downMs), undefined, `start ${node.id}`, () => {
      if (!this.#isOver) node.start();
    });
  }

  #pick(): SimNode | undefined {
    const up = this.cluster.nodes.filter(({ state }) => state !== "down");
    return up.length === 0 ? undefined : this.random.pick(up);
  }
}
