import type { Keep } from "../../../support/disk/faulty_fs.js";
import type { SimCluster } from "../../world/cluster.js";
import type { SimNode } from "../../world/node.js";
import type { SimRandom } from "../../world/random.js";

/** Calls of a disk within which a process that is to die in the midst of one does so. */
const CALLS = 25;
/** The same for a process that starts, which does more of them. */
const CALLS_OF_START = 60;

/** What befalls processes: they die, stop, freeze, and come back. */
export class ProcessTroubles {
  #isOver = false;

  constructor(
    private readonly cluster: SimCluster,
    private readonly random: SimRandom,
  ) {}

  end(): void {
    this.#isOver = true;
    for (const node of this.cluster.nodes) node.resume();
  }

  crash(): void {
    const node = this.#pick();
    if (node !== undefined) this.#killSometime(node, "all", "crash");
  }

  /** This process dies now; unless its disk keeps all, with the power. */
  restart(node: SimNode, keep: Keep = "all"): void {
    const what = keep === "all" ? "crash" : "power failure";
    if (node.state === "running" || node.state === "starting") this.#kill(node, keep, what);
  }

  powerFailure(): void {
    const node = this.#pick();
    if (node !== undefined) this.#killSometime(node, this.random.pick(["none", "random", "random"]), "power failure");
  }

  allAtOnce(): void {
    this.cluster.count("all nodes at once");
    const keep = this.random.pick<Keep>(["all", "none", "random"]);
    for (const node of this.cluster.nodes) if (node.state !== "down") this.#kill(node, keep, "crash of all");
  }

  stop(): void {
    const node = this.#pick();
    if (node === undefined || !node.isUp) return;
    this.cluster.count("clean stop");
    node.stop();
    this.startLater(node);
  }

  pause(): void {
    const node = this.#pick();
    if (node === undefined || node.isPaused) return;
    const { cluster, random } = this;
    cluster.count("pause");
    node.pause();
    // A machine that is frozen may be cut off as well, and still be so when it goes on.
    const ms = random.between(100, 6_000);
    if (random.chance(0.3)) {
      const { id } = node;
      const rule = { blocks: (from: string, to: string) => from === id || to === id };
      cluster.count("pause and partition");
      cluster.network.rules.add(rule);
      cluster.scheduler.after(ms + random.between(0, 1_000), undefined, `${id} is reached again`, () => {
        cluster.network.rules.delete(rule);
      });
    }
    cluster.scheduler.after(ms, undefined, `${node.id} goes on`, () => node.resume());
  }

  /** Starts it in a while; again and again, in case that its disk is full, or that it was still stopping. */
  startLater(node: SimNode): void {
    const { scheduler, weather } = this.cluster;
    scheduler.after(this.random.waiting(weather.downMs), undefined, `start ${node.id}`, () => {
      if (this.#isOver || node.isGone || node.isTurnedAway) return;
      if (node.state === "stopping") return this.startLater(node);
      if (node.state !== "down") return;
      if (this.random.chance(weather.inStart)) {
        node.disk.dieAtCall(this.random.whole(1, CALLS_OF_START), () => {
          if (node.state === "starting") this.cluster.count("crash while recovering");
          this.#kill(node, this.random.pick<Keep>(["all", "all", "none", "random"]), "crash");
        });
      }
      node.start();
    });
  }

  #killSometime(node: SimNode, keep: Keep, what: string): void {
    const kill = () => this.#kill(node, keep, what);
    if (this.random.chance(this.cluster.weather.inCall)) node.disk.dieAtCall(this.random.whole(1, CALLS), kill);
    else kill();
  }

  #kill(node: SimNode, keep: Keep, what: string): void {
    this.cluster.count(what);
    this.cluster.note(`${what} of ${node.id}, its disk keeps ${keep}`);
    if (node.cairn?.raft.role === "leader") this.cluster.count(`${what} of the leader`);
    if (node.cairn?.raft.isInstalling) this.cluster.count("crash while a snapshot is being installed");
    node.kill(keep);
    this.startLater(node);
  }

  #pick(): SimNode | undefined {
    const up = this.cluster.nodes.filter(({ state }) => state === "running" || state === "starting");
    return up.length === 0 ? undefined : this.random.pick(up);
  }
}
