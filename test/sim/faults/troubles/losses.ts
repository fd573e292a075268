import { CairnError } from "../../../../src/base/errors.js";
import type { MemberEvent } from "../../../../src/daemon/events.js";
import type { LogPosition } from "../../../../src/raft/types.js";
import { WriteAheadLog } from "../../../../src/storage/wal/wal.js";
import type { FaultyFileSystem } from "../../../support/disk/faulty_fs.js";
import type { SimCluster } from "../../world/cluster.js";
import type { SimNode } from "../../world/node.js";
import type { SimRandom } from "../../world/random.js";
import type { Caretaker } from "./caretaker.js";
import type { ProcessTroubles } from "./processes.js";

/** Bytes that the end of a log loses, at most. */
const TAIL_BYTES = 1_500;
/** A disk is wiped within so many milliseconds after a step. */
const AFTER_STEP_MS = 80;
/** How long a node that stops may take, in milliseconds. */
const STOP_MS = 2_000;

/** What a log holds. */
interface LogEnd {
  readonly term: number;
  readonly vote: string | undefined;
  readonly last: LogPosition;
}

/** A copy of a directory, as it was once. */
interface Copy {
  readonly node: SimNode;
  readonly key: string;
  readonly fs: FaultyFileSystem;
}

/** What directories lose that draw their own identity: all of it, the end of the log, or everything since a copy was made. */
export class LossTroubles {
  #copies: Copy[] = [];
  #isOver = false;

  constructor(
    private readonly cluster: SimCluster,
    private readonly random: SimRandom,
    private readonly processes: ProcessTroubles,
    private readonly caretaker: Caretaker,
  ) {}

  end(): void {
    this.#isOver = true;
  }

  wipe(): void {
    const node = this.random.pick(this.cluster.nodes);
    if (this.caretaker.maySpare(node)) this.#wipe(node, "wiped disk");
  }

  /** A node has come a step further. */
  told(node: SimNode, { kind }: MemberEvent): void {
    const { cluster, random } = this;
    const { wipeAtStep } = cluster.weather.trust!;
    if (this.#isOver || kind === "waiting" || wipeAtStep === 0 || !random.chance(wipeAtStep)) return;
    cluster.scheduler.after(random.between(0, AFTER_STEP_MS), undefined, `wipe after ${kind}`, () => {
      if (!this.#isOver && this.caretaker.maySpare(node)) this.#wipe(node, `wiped after: ${kind}`);
    });
  }

  /** Two disks at once, where the cluster survives that; else all, or all but one, one after the other: the cluster may not survive it. */
  wipeMany(): void {
    const { cluster, random, caretaker } = this;
    const kind = random.pick(["two", "two", "all but one", "all"] as const);
    const nodes = cluster.nodes.filter(({ key, id }) => key !== id);
    if (nodes.length === 0) return;
    cluster.count(`wiped disks: ${kind}`);
    if (kind === "two") {
      for (let times = 0; times < 2; times++) {
        const node = random.pick(nodes);
        if (caretaker.maySpare(node)) this.#wipe(node, "wiped disk");
      }
      return;
    }
    const spared = kind === "all" ? undefined : random.pick(nodes);
    const withinMs = random.pick([0, 100, 3_000]);
    for (const node of nodes) {
      if (node === spared) continue;
      cluster.scheduler.after(random.between(0, withinMs), undefined, `${node.id} is wiped, with others`, () => {
        if (!this.#isOver) this.#wipe(node, "wiped with others");
      });
    }
  }

  /** The last records of a log are gone when its node starts again, which had stopped or died. */
  loseTail(): void {
    const node = this.#victim();
    if (node === undefined) return;
    this.#whenDown(node, async () => {
      const before = await endOf(node.disk.fs, node);
      const path = lastSegment(node);
      if (path === undefined || before === undefined) return;
      const bytes = node.disk.fs.contents(path);
      const used = bytes.findLastIndex((byte) => byte !== 0) + 1;
      const shorter = bytes.slice();
      shorter.fill(0, Math.max(0, used - this.random.whole(1, TAIL_BYTES)));
      const cut = node.disk.fs.peek(node.disk.directory, "all");
      cut.setContents(path, shorter);
      await this.#put(node, before, cut, "lost the end of its log");
    });
  }

  /** Makes a copy of a directory, or puts one back: whoever does that has not read the manual. */
  rollBack(): void {
    const { random, cluster } = this;
    const copied = random.pick(cluster.nodes);
    if (copied.key !== copied.id && (this.#copies.length === 0 || random.chance(0.5))) {
      const { disk, key } = copied;
      this.#copies.push({ node: copied, key, fs: disk.fs.peek(disk.directory, "all") });
      return;
    }
    this.#copies = this.#copies.filter(({ node, key }) => node.key === key);
    const copy = this.#copies.length === 0 ? undefined : random.pick(this.#copies);
    if (copy === undefined || this.#victim(copy.node) === undefined) return;
    this.#whenDown(copy.node, async () => {
      const { node, key, fs } = copy;
      const before = await endOf(node.disk.fs, node);
      if (before === undefined || node.key !== key) return;
      await this.#put(node, before, fs.peek(node.disk.directory, "all"), "has an old copy of its directory");
    });
  }

  /** Another machine, which somebody has started under the name of a member that runs. */
  stranger(): void {
    const { cluster, random } = this;
    const node = cluster.leader?.cairn;
    const running = node?.raft.progress.filter(({ isActive, state }) => isActive && state !== "lost") ?? [];
    if (node === undefined || running.length === 0) return;
    const { id } = random.pick(running);
    cluster.count("a stranger under a member's name");
    const incarnation = Array.from({ length: 32 }, () => random.whole(0, 15).toString(16)).join("");
    const join = { type: "join", id, incarnation, address: "elsewhere.test:1", cameBy: "cluster" } as const;
    node.changeMembership(join).then(
      () => cluster.count("a stranger was let in"),
      (error) => cluster.count(`a stranger was refused with ${CairnError.from(error).code}`),
    );
  }

  #wipe(node: SimNode, what: string): void {
    this.cluster.count(what);
    this.caretaker.wipe(node);
    this.processes.startLater(node);
  }

  #victim(node = this.random.pick(this.cluster.nodes)): SimNode | undefined {
    const isFit = !node.isTurnedAway && node.key !== node.id && node.state !== "starting" && node.state !== "stopping";
    const { taken } = this.cluster.directories.of(node.key);
    return isFit && taken === undefined && this.caretaker.maySpare(node) ? node : undefined;
  }

  /** Stops a node, or lets it die, and starts it again when the work is done. */
  #whenDown(node: SimNode, work: () => Promise<void>): void {
    const { cluster, random, processes } = this;
    if (node.isUp && random.chance(0.5)) node.stop();
    else node.kill("all");
    const look = (leftMs: number) => {
      if (node.state === "down" && !this.#isOver) cluster.watch(work().then(() => processes.startLater(node)));
      else if (leftMs > 0 && node.state === "stopping") {
        cluster.scheduler.after(50, undefined, `${node.id} is about to lose data`, () => look(leftMs - 50));
      } else processes.startLater(node);
    };
    look(STOP_MS);
  }

  /** Puts another disk in, if a node can start with it, and if that has less than the one before. */
  async #put(node: SimNode, before: LogEnd, fs: FaultyFileSystem, what: string): Promise<void> {
    const { cluster } = this;
    const { disk } = node;
    const present = disk.fs;
    const after = await endOf(fs, node);
    if (after === undefined || JSON.stringify(after) === JSON.stringify(before)) return;
    if (disk.fs !== present || node.state !== "down" || !this.caretaker.maySpare(node)) return;
    cluster.count(`a node ${what}`);
    cluster.note(`${node.id} ${what}: had ${JSON.stringify(before)}, has ${JSON.stringify(after)}`);
    disk.replace(fs);
    if (this.random.chance(0.5)) node.forgetState();
    cluster.directories.take(node.key, before);
  }
}

function lastSegment({ disk }: SimNode): string | undefined {
  const names = disk.fs.names(`${disk.directory}/wal`).filter((name) => name.endsWith(".wal"));
  const last = names.sort().at(-1);
  return last === undefined ? undefined : `${disk.directory}/wal/${last}`;
}

/** How far a log goes; undefined when it cannot be opened. */
async function endOf(fs: FaultyFileSystem, { disk }: SimNode): Promise<LogEnd | undefined> {
  try {
    const copy = fs.peek(disk.directory, "all");
    const { log } = await WriteAheadLog.open({ fs: copy, directory: `${disk.directory}/wal` });
    const { term, vote } = log.hardState;
    return { term, vote, last: log.last };
  } catch {
    return undefined;
  }
}
