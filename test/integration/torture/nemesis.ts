import { rm } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import type { Client } from "../../../src/rpc/client.js";
import { loseLogTail } from "../../support/disk/log_tail.js";
import { canRenameHost } from "../../support/processes/processes.js";
import type { LinkFaults } from "../../support/processes/tcp_proxy.js";
import type { Random } from "../../support/random.js";
import type { NodeProcess, ProcessCluster } from "./cluster.js";

/** How long one fault lasts, in ms. */
const FAULT_MS = { least: 300, most: 4_000 };
/** Between two faults. */
const CALM_MS = { least: 100, most: 1_500 };

/** Time that each sync of a slow disk takes, in ms. */
const SLOW_MS = { least: 20, most: 500 };
/** A sync that takes longer than any fault lasts, in ms. */
const STUCK_MS = 60_000;

/** How long the rest of the cluster may take to make up for a loss. A bound, not a pause. */
const PATIENCE_MS = 60_000;

type Fault = (this: Nemesis) => Promise<void>;

/** Does one bad thing after the other to a cluster, and undoes each before the next but one. */
export class Nemesis {
  /** How often each was done. */
  readonly counts: Record<string, number> = {};
  #stopped = false;
  #added = 0;
  #hosts = 0;
  /** Rejects when something went wrong that no fault explains. */
  readonly done: Promise<void>;

  constructor(
    readonly cluster: ProcessCluster,
    private readonly random: Random,
    private readonly progress: (line: string) => void,
  ) {
    this.done = this.#run();
  }

  /** Undoes what is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.done;
    await this.cluster.heal();
  }

  async #run(): Promise<void> {
    const names = Object.keys(faults) as (keyof typeof faults)[];
    while (!this.#stopped) {
      await this.#wait(CALM_MS);
      if (this.#stopped) return;
      const name = this.random.pick(names);
      this.counts[name] = (this.counts[name] ?? 0) + 1;
      this.progress(`fault: ${name}`);
      await faults[name].call(this);
    }
  }

  async #wait(range: { least: number; most: number }): Promise<void> {
    await pause(this.between(range));
  }

  between({ least, most }: { least: number; most: number }): number {
    return this.random.whole(least, most);
  }

  during(): Promise<void> {
    return this.#wait(FAULT_MS);
  }

  any(): NodeProcess | undefined {
    const { running } = this.cluster;
    return running.length === 0 ? undefined : this.random.pick(running);
  }

  async leaderOrAny(): Promise<NodeProcess | undefined> {
    return (await this.cluster.leader()) ?? this.any();
  }

  async killAndRestart(nodes: readonly NodeProcess[], signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await Promise.all(nodes.map((node) => node.end(signal)));
    await this.during();
    await Promise.all(nodes.map((node) => this.cluster.launch(node)));
  }

  async linksFail(links: ReturnType<ProcessCluster["link"]>[], faults: Partial<LinkFaults>): Promise<void> {
    for (const link of links) link.set(faults);
    await this.during();
    for (const link of links) link.set({});
  }

  async diskFails(node: NodeProcess, syncMs: number): Promise<void> {
    await node.delaySyncs(syncMs);
    await this.during();
    await node.delaySyncs(0);
  }

  /** Both ways between a node and all others, and its clients' way. */
  roads(node: NodeProcess): ReturnType<ProcessCluster["link"]>[] {
    const others = this.cluster.nodes.filter((other) => other !== node);
    const between = others.flatMap((other) => [this.cluster.link(node, other), this.cluster.link(other, node)]);
    return [...between, node.front];
  }

  pairOfLinks(): ReturnType<ProcessCluster["link"]>[] {
    const from = this.random.pick(this.cluster.nodes);
    const to = this.random.pick(this.cluster.nodes.filter((node) => node !== from));
    return [this.cluster.link(from, to), this.cluster.link(to, from)];
  }

  anotherHost(): string {
    return `host-${++this.#hosts}`;
  }

  oneIn(n: number): boolean {
    return this.random.oneIn(n);
  }

  /** A member more for a while: it joins as a learner, becomes a voter, and goes. */
  async comeAndGo(): Promise<void> {
    const id = `x${++this.#added}`;
    const node = await this.cluster.add(id);
    await this.cluster.launch(node);
    if (await this.onLeader((admin) => admin.promoteLearner({ nodeId: id }))) this.count("of these, promoted");
    await this.during();
    if (!(await this.onLeader((admin) => admin.removeMember({ nodeId: id })))) {
      throw new Error(`${id} could not be removed again`);
    }
    await this.cluster.remove(node);
  }

  /**
   * Ends a founder, does something to its directory, and starts it as before. Not while an earlier loss is being made up for: a majority of the
   * voters keeps its disks. Before it starts again the others have all that it had, as a disk that has forgotten acknowledged writes must
   * not vote while nobody who knows of them is there.
   */
  async loseData(what: (node: NodeProcess) => Promise<void>): Promise<void> {
    const node = this.random.pick(this.cluster.founders);
    if (!(await this.cluster.isWhole())) return this.count("of these, left out: a loss is being made up for");
    const last = (await node.status())?.lastLogIndex;
    if (last === undefined) return;
    await node.end();
    await what(node);
    await this.during();
    const others = this.cluster.founders.filter((other) => other !== node);
    await this.#until(`the others have applied ${last}`, async () => {
      const statuses = await Promise.all(others.map((other) => other.status()));
      return statuses.every((status) => status !== undefined && status.appliedIndex >= last);
    });
    await this.cluster.launch(node);
    await this.#until(`${node.id} votes again`, () => this.cluster.isWhole());
  }

  async #until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const end = performance.now() + PATIENCE_MS;
    while (!(await holds())) {
      if (performance.now() > end) {
        const printed = this.cluster.nodes.map(({ id, command }) => {
          return `--- ${id}\n${command?.stdout.slice(-2_000)}${command?.stderr.slice(-3_000)}`;
        });
        throw new Error([`waited ${PATIENCE_MS} ms in vain until ${what}`, ...printed].join("\n"));
      }
      await pause(100);
    }
  }

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  /** Asks the leader, whoever it is, until it is done or has failed too often; what was done before counts as done. */
  async onLeader(ask: (admin: Client<typeof AdminService>) => Promise<unknown>): Promise<boolean> {
    for (let attempt = 0; attempt < 40; attempt++) {
      const leader = await this.cluster.leader();
      try {
        if (leader !== undefined) {
          await ask(leader.channel.client(AdminService));
          return true;
        }
      } catch (error) {
        if (/ already|is not a member/.test(String(error))) return true;
      }
      await pause(250);
    }
    return false;
  }
}

const faults = {
  async "kill a node"() {
    const node = this.any();
    if (node !== undefined) await this.killAndRestart([node]);
  },
  async "kill the leader"() {
    const node = await this.leaderOrAny();
    if (node !== undefined) await this.killAndRestart([node]);
  },
  async "kill two at once"() {
    await this.killAndRestart(this.cluster.running.slice(0, 2));
  },
  async "kill all at once"() {
    await this.killAndRestart([...this.cluster.running]);
  },
  async "stop and start one after the other"() {
    for (const node of [...this.cluster.running]) {
      await node.end("SIGTERM");
      await this.cluster.launch(node);
    }
  },
  async "pause a node"() {
    const node = await (this.oneIn(2) ? this.leaderOrAny() : this.any());
    if (node === undefined) return;
    node.pause();
    await this.during();
    node.resume();
  },
  async "cut a pair"() {
    await this.linksFail(this.pairOfLinks(), { cut: true });
  },
  async "cut one way"() {
    await this.linksFail(this.pairOfLinks().slice(0, 1), { cut: true });
  },
  async "isolate a node"() {
    const node = this.any();
    if (node !== undefined) await this.linksFail(this.roads(node), { cut: true });
  },
  async "isolate the leader without a word"() {
    const node = await this.leaderOrAny();
    if (node !== undefined) await this.linksFail(this.roads(node), { silent: true });
  },
  async "break all connections"() {
    for (const link of [...this.cluster.links, ...this.cluster.nodes.map(({ front }) => front)])
      link.breakConnections();
  },
  async "slow links"() {
    const node = this.any();
    if (node !== undefined) await this.linksFail(this.roads(node), { bytesPerSecond: 60_000, delayMs: 20 });
  },
  async "delay a pair"() {
    await this.linksFail(this.pairOfLinks(), { delayMs: 150 });
  },
  async "slow disk"() {
    const node = await (this.oneIn(2) ? this.leaderOrAny() : this.any());
    if (node !== undefined) await this.diskFails(node, this.between(SLOW_MS));
  },
  async "stuck disk"() {
    const node = await (this.oneIn(2) ? this.leaderOrAny() : this.any());
    if (node !== undefined) await this.diskFails(node, STUCK_MS);
  },
  async "hand leadership over"() {
    await this.onLeader((admin) => admin.transferLeadership({}));
  },
  async "lose a disk"() {
    await this.loseData(({ data }) => rm(data, { recursive: true }));
  },
  async "lose a log's tail"() {
    await this.loseData(({ data }) => loseLogTail(data, 2));
  },
  async "make a node again under another host name"() {
    const node = this.any();
    if (node === undefined) return;
    if (!canRenameHost()) return this.count("of these, left out: this system does not allow it");
    await node.end();
    await this.cluster.launch(node, "as usual", this.anotherHost());
  },
  async "a member comes and goes"() {
    await this.comeAndGo();
  },
} satisfies Record<string, Fault>;
