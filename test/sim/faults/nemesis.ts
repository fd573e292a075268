import type { SimCluster } from "../world/cluster.js";
import type { SimRandom } from "../world/random.js";
import { Caretaker } from "./troubles/caretaker.js";
import { DiskTroubles } from "./troubles/disks.js";
import { HostileMember } from "./troubles/hostile.js";
import { LinkTroubles } from "./troubles/links.js";
import { LossTroubles } from "./troubles/losses.js";
import { Operator } from "./troubles/operator.js";
import { ProcessTroubles } from "./troubles/processes.js";
import { TransferTroubles } from "./troubles/transfers.js";
import type { Troubles } from "./weather.js";

/** Lets things go wrong, each kind at its own pace. */
export class Nemesis {
  #isOver = false;
  readonly #processes: ProcessTroubles;
  readonly #links: LinkTroubles;
  readonly #disks: DiskTroubles;
  readonly #operator: Operator;
  readonly #transfers: TransferTroubles;
  readonly #hostile: HostileMember;
  readonly #hostileRandom: SimRandom;
  readonly #losses: LossTroubles;
  readonly caretaker: Caretaker;

  constructor(
    private readonly cluster: SimCluster,
    private readonly random: SimRandom,
  ) {
    this.#processes = new ProcessTroubles(cluster, random);
    this.#links = new LinkTroubles(cluster, random);
    this.caretaker = new Caretaker(cluster);
    this.#losses = new LossTroubles(cluster, random.fork("losses"), this.#processes, this.caretaker);
    this.#operator = new Operator(cluster, random, this.#processes, this.caretaker);
    this.#disks = new DiskTroubles(
      cluster,
      random,
      (node) => (cluster.isDrawn ? this.caretaker.maySpare(node) : this.#operator.mayDamage(node)),
      (node) => this.#processes.restart(node),
    );
    const own = random.fork("transfers");
    this.#transfers = new TransferTroubles(cluster, own, this.#processes, this.#disks, this.#operator);
    this.#hostileRandom = random.fork("hostile");
    this.#hostile = new HostileMember(cluster, this.#hostileRandom);
  }

  start(): void {
    const [processes, links, disks, operator] = [this.#processes, this.#links, this.#disks, this.#operator];
    const stuck = this.random.fork("stuck disk");
    const [transfers, losses, { isDrawn }] = [this.#transfers, this.#losses, this.cluster];
    if (isDrawn) {
      this.caretaker.start();
      this.cluster.onMemberEvent = (node, event) => {
        this.caretaker.told(node, event);
        losses.told(node, event);
      };
    }
    const acts: Record<keyof Troubles, () => void> = {
      crash: () => processes.crash(),
      powerFailure: () => processes.powerFailure(),
      allAtOnce: () => processes.allAtOnce(),
      stop: () => processes.stop(),
      pause: () => processes.pause(),
      partition: () => links.partition(),
      slowLink: () => links.slowLink(),
      slowDisk: () => disks.slowDisk(),
      stuckDisk: () => disks.stuckDisk(stuck),
      fullDisk: () => disks.fullDisk(),
      failedSync: () => disks.failedSync(),
      bitFlip: () => this.cluster.watch(disks.bitFlip()),
      wipe: () => (isDrawn ? losses.wipe() : operator.wipe()),
      clock: () => this.#clock(),
      transferTrouble: () => transfers.strike(),
      breakInstall: () => void this.cluster.network.breakInstall(),
      snapshot: () => operator.takeSnapshot(),
      membership: () => operator.changeMembership(),
      transfer: () => operator.transfer(),
      campaign: () => operator.campaign(),
      hostile: () => this.#hostile.strike(),
      loseTail: () => losses.loseTail(),
      rollBack: () => losses.rollBack(),
      wipeMany: () => losses.wipeMany(),
      stranger: () => losses.stranger(),
    };
    for (const [kind, act] of Object.entries(acts)) {
      // Draws of its own, so that the rest of a run is the same with it and without.
      this.#repeat(kind as keyof Troubles, act, kind === "hostile" ? this.#hostileRandom : this.random);
    }
  }

  /** From now on everything works, and whoever can is up. */
  end(): void {
    this.#isOver = true;
    this.#operator.end();
    this.#losses.end();
    this.#processes.end();
    this.#links.end();
    this.#disks.end();
  }

  #repeat(kind: keyof Troubles, act: () => void, random: SimRandom): void {
    const mean = this.cluster.weather.troubles[kind];
    if (mean === undefined) return;
    const next = () => {
      this.cluster.scheduler.after(random.waiting(mean), undefined, `trouble: ${kind}`, () => {
        if (this.#isOver) return;
        act();
        next();
      });
    };
    next();
  }

  #clock(): void {
    const { drift, jumpMs } = this.cluster.weather.clock;
    const { id, clock } = this.random.pick(this.cluster.nodes);
    if (jumpMs > 0 && this.random.chance(0.5)) {
      this.cluster.count("clock jump");
      const ms = this.random.between(0, jumpMs);
      this.cluster.note(`the clock of ${id} jumps by ${ms.toFixed(0)} ms`);
      clock.jump(ms);
    } else {
      this.cluster.count("clock drift");
      clock.drift(1 + this.random.between(-drift, drift));
    }
  }
}
