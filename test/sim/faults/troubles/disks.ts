import { CairnError } from "../../../../src/base/errors.js";
import { WriteAheadLog } from "../../../../src/storage/wal/wal.js";
import type { FaultyFileSystem } from "../../../support/disk/faulty_fs.js";
import type { SimCluster } from "../../world/cluster.js";
import type { SimNode } from "../../world/node.js";
import type { SimRandom } from "../../world/random.js";

/** What befalls disks. */
export class DiskTroubles {
  #isOver = false;

  constructor(
    private readonly cluster: SimCluster,
    private readonly random: SimRandom,
    /** Whether a node may lose its data, or a part of it. */
    private readonly mayDamage: (node: SimNode) => boolean,
    /** Lets the process of a node die, and start again. */
    private readonly restart: (node: SimNode) => void,
  ) {}

  slowDisk(): void {
    const { cluster, random } = this;
    const { id, disk } = random.pick(cluster.nodes);
    cluster.count("slow disk");
    disk.extraMs = random.pick([20, 100, 300]);
    cluster.scheduler.after(random.between(500, 5_000), undefined, `the disk of ${id} is fast again`, () => {
      disk.extraMs = 0;
    });
  }

  /** It takes nothing for many election timeouts, or each call takes as long as one. */
  stuckDisk(random: SimRandom): void {
    const { cluster } = this;
    const { leader } = cluster;
    const node = leader !== undefined && random.chance(0.5) ? leader : random.pick(cluster.nodes);
    const hangs = random.chance(0.6);
    cluster.count(hangs ? "stuck disk" : "crawling disk");
    if (node === leader) cluster.count("stuck or crawling disk of the leader");
    cluster.note(`the disk of ${node.id} ${hangs ? "is stuck" : "crawls"}`);
    if (hangs) node.disk.hang();
    else node.disk.extraMs = random.between(800, 3_000);
    cluster.scheduler.after(random.between(1_000, 12_000), undefined, `the disk of ${node.id} is well again`, () => {
      if (this.#isOver) return;
      node.disk.goOn();
      node.disk.extraMs = 0;
    });
  }

  fullDisk(): void {
    this.fullDiskOf(this.random.pick(this.cluster.nodes));
  }

  fullDiskOf({ id, disk }: SimNode): void {
    const { cluster, random } = this;
    cluster.count("full disk");
    disk.fs.capacityBytes = disk.fs.usedBytes + random.pick([0, 500, 5_000]);
    cluster.scheduler.after(random.between(500, 6_000), undefined, `the disk of ${id} has room again`, () => {
      disk.fs.capacityBytes = Number.POSITIVE_INFINITY;
    });
  }

  /** The process ends over it, and nobody knows what is on the disk. */
  failedSync(): void {
    const { cluster, random } = this;
    const node = random.pick(cluster.nodes);
    if (!node.isUp) return;
    cluster.count("failing sync");
    node.expectsStorageFailure = true;
    node.disk.fs.failCall(random.pick(["datasync", "datasync", "syncDirectory"]), random.whole(1, 20));
  }

  /** A bit of a file at rest is inverted. */
  async bitFlip(): Promise<void> {
    const { cluster, random } = this;
    const node = random.pick(cluster.nodes);
    if (!this.mayDamage(node)) return;
    const part = random.pick(["snapshots", "wal"]);
    const directory = `${node.disk.directory}/${part}`;
    const names = node.disk.fs.names(directory).filter((name) => /\.(snap|wal)$/.test(name));
    if (names.length === 0) return;
    const path = `${directory}/${random.pick(names)}`;
    const size = node.disk.fs.contents(path).byteLength;
    const [offset, bit] = [random.whole(0, size - 1), random.whole(0, 7)];
    if (part === "wal" && !(await this.#isFoundOut(node, path, offset, bit))) return;
    if (node.damage !== undefined || !node.disk.fs.names(directory).includes(path.slice(directory.length + 1))) return;
    node.disk.fs.flipBit(path, offset, bit);
    node.damage = `bit ${bit} of ${path} at ${offset}`;
    cluster.note(`${node.id} is damaged: ${node.damage}`);
    cluster.count(`bit flip in ${part}`);
    // A process that runs may never look at that place again; one that starts does.
    if (random.chance(0.5)) this.restart(node);
  }

  end(): void {
    this.#isOver = true;
    for (const { disk } of this.cluster.nodes) disk.calm();
  }

  /**
   * Whether a log either shows that it is damaged or is none the worse for it. A flip in the last records cannot be told from a write that a
   * crash has torn: it takes away what was promised, which no protocol survives that trusts its disk.
   */
  async #isFoundOut({ disk }: SimNode, path: string, offset: number, bit: number): Promise<boolean> {
    const before = await describeLog(disk.fs.peek(disk.directory, "all"), disk.directory);
    const flipped = disk.fs.peek(disk.directory, "all");
    flipped.flipBit(path, offset, bit);
    const after = await describeLog(flipped, disk.directory);
    return after === "CORRUPT" || after === before;
  }
}

/** What a log is found to hold. */
async function describeLog(fs: FaultyFileSystem, directory: string): Promise<string> {
  try {
    const { log } = await WriteAheadLog.open({ fs, directory: `${directory}/wal` });
    const { hardState, boundary, last } = log;
    return JSON.stringify([hardState, boundary, last, log.termRanges()]);
  } catch (error) {
    return CairnError.from(error).code;
  }
}
