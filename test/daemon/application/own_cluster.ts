import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { CairnMember } from "../../../src/daemon/application/cairn_member.js";
import type { CairnMemberOptions } from "../../../src/daemon/application/member_options.js";
import type { InMemoryMachine } from "../../../src/machine/in_memory_machine.js";
import { inMemory } from "../../../src/server/machine/own_machine.js";
import { until } from "../../support/conditions.js";
import { Words } from "../../support/machines/words.js";
import { freePorts } from "../../support/processes/process_cluster.js";

export type WordsMember = CairnMember<Uint8Array, InMemoryMachine<Words>, Words>;
export type WordsOptions = Partial<CairnMemberOptions<Uint8Array, InMemoryMachine<Words>, Words>>;

/** Members of this process with a machine of their own, on the real disk and the loopback interface. Elections are quick. */
export class OwnCluster {
  readonly members = new Map<string, WordsMember>();

  private constructor(
    readonly directory: string,
    readonly addresses: Readonly<Record<string, string>>,
    private readonly settings: WordsOptions,
  ) {}

  /** Gives founders with these names their addresses, and starts none. */
  static async prepare(ids: readonly string[], settings: WordsOptions = {}): Promise<OwnCluster> {
    const ports = await freePorts(ids.length);
    const addresses = Object.fromEntries(ids.map((id, at) => [id, `127.0.0.1:${ports[at]}`]));
    const cluster = new OwnCluster(await mkdtemp(join(tmpdir(), "cairn-own-")), addresses, settings);
    onTestFinished(async () => {
      await Promise.all([...cluster.members.values()].map((member) => member.stop()));
      await rm(cluster.directory, { recursive: true, force: true });
    });
    return cluster;
  }

  /** All of these found a cluster, and one leads. */
  static async of(ids: readonly string[], settings: WordsOptions = {}): Promise<OwnCluster> {
    const cluster = await OwnCluster.prepare(ids, settings);
    await Promise.all(ids.map((id) => cluster.start(id)));
    await cluster.leader();
    return cluster;
  }

  async start(id: string, options: WordsOptions = {}): Promise<WordsMember> {
    const member = await CairnMember.start({
      id,
      directory: this.dataOf(id),
      machine: inMemory(() => new Words()),
      tickMs: 20,
      ...(options.join === undefined && { cluster: this.addresses }),
      ...this.settings,
      ...options,
    });
    this.members.set(id, member);
    return member;
  }

  dataOf(id: string): string {
    return join(this.directory, id);
  }

  get(id: string): WordsMember {
    return this.members.get(id)!;
  }

  async stop(id: string): Promise<void> {
    const member = this.get(id);
    this.members.delete(id);
    await member.stop();
  }

  /** Waits until all that run know the same leader. */
  async leader(): Promise<WordsMember> {
    const all = () => [...this.members.values()];
    const found = () => all().find(({ leader }) => leader.isSelf);
    await until(() => {
      const leader = found();
      return leader !== undefined && all().every((member) => member.leader.leader === leader.id);
    }, "all follow one leader");
    return found()!;
  }

  async follower(): Promise<WordsMember> {
    const { id } = await this.leader();
    return [...this.members.values()].find((member) => member.id !== id)!;
  }
}
