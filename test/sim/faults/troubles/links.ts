import type { SimCluster } from "../../world/cluster.js";
import type { LinkRule } from "../../world/network/network.js";
import type { SimRandom } from "../../world/random.js";

/** What befalls the links between nodes. */
export class LinkTroubles {
  constructor(
    private readonly cluster: SimCluster,
    private readonly random: SimRandom,
  ) {}

  partition(): void {
    const { cluster, random } = this;
    const ids = cluster.nodes.filter(({ isGone }) => !isGone).map(({ id }) => id);
    if (ids.length < 2) return;
    const one = random.pick(ids);
    const kind = random.pick(["leader", "leader", "leader", "one", "half", "one way", "flapping", "link"] as const);
    const leader = cluster.leader?.id ?? one;
    const alone = kind === "leader" ? leader : one;
    const other = random.pick(ids.filter((id) => id !== one));
    const half = new Set(ids.filter(() => random.chance(0.5)));
    const between = (from: string, to: string) => (from === one && to === other) || (from === other && to === one);
    const rules: Record<typeof kind, LinkRule> = {
      leader: { blocks: (from, to) => from === alone || to === alone },
      one: { blocks: (from, to) => from === alone || to === alone },
      half: { blocks: (from, to) => half.has(from) !== half.has(to) },
      "one way": { blocks: random.chance(0.5) ? (from) => from === alone : (_from, to) => to === alone },
      flapping: { blocks: (from, to) => between(from, to) && Math.floor(cluster.scheduler.nowMs / 150) % 2 === 0 },
      link: { blocks: between },
    };
    cluster.count(`partition: ${kind}`);
    this.#forAWhile(rules[kind], `partition (${kind})`, random.between(500, 8_000));
  }

  slowLink(): void {
    const { cluster, random } = this;
    const { id } = random.pick(cluster.nodes);
    const ms = random.pick([20, 100, 400]);
    cluster.count("slow link");
    const rule: LinkRule = { delayMs: (from, to) => (from === id || to === id ? random.between(ms / 2, ms) : 0) };
    this.#forAWhile(rule, `${id} is slow to reach`, random.between(1_000, 8_000));
  }

  /** All links work, and lose nothing. */
  end(): void {
    const { network } = this.cluster;
    network.rules.clear();
    network.weather = { ...network.weather, slow: 0, loss: 0, duplicate: 0, streamBreak: 0, corruption: 0 };
  }

  #forAWhile(rule: LinkRule, what: string, ms: number): void {
    const { network, scheduler } = this.cluster;
    this.cluster.note(`${what} begins`);
    network.rules.add(rule);
    scheduler.after(ms, undefined, `${what} ends`, () => network.rules.delete(rule));
  }
}
