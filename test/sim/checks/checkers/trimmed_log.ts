import type { SnapshotInfo } from "../../../../src/storage/snapshots/snapshot_info.js";
import { SnapshotStore } from "../../../../src/storage/snapshots/snapshot_store.js";
import { parseSegmentName } from "../../../../src/storage/wal/segment_header.js";
import { WriteAheadLog } from "../../../../src/storage/wal/wal.js";
import type { Call } from "../../../support/disk/faulty_fs.js";
import type { SimNode } from "../../world/node.js";
import { type Checker, demand, type Observed } from "./checker.js";

/** Nothing leaves a log, in memory or on disk, before a snapshot that covers it is durable and good. */
export class TrimmedLog implements Checker {
  readonly #boundaries = new Map<SimNode, number>();
  /** Index of the newest snapshot that was found on each disk, durable and good. It stays until there is a newer one. */
  readonly #found = new Map<SimNode, number>();

  started({ place, cairn }: Observed): void {
    this.#boundaries.set(place, cairn.raft.log.boundary.index);
  }

  ended(place: SimNode): void {
    this.#boundaries.delete(place);
    // The next node may have another directory.
    this.#found.delete(place);
  }

  touched({ place, cairn }: Observed): Promise<void> | undefined {
    const { log, isInstalling } = cairn.raft;
    const boundary = log.boundary.index;
    // What is being installed may still fail, and then the node ends.
    if (isInstalling || boundary <= (this.#boundaries.get(place) ?? 0)) return undefined;
    this.#boundaries.set(place, boundary);
    return this.#demandCovered(place, boundary, "the log in memory");
  }

  diskCall(place: SimNode, { kind, path }: Call): Promise<void> | undefined {
    const directory = `${place.disk.directory}/wal/`;
    if (
      kind !== "unlink" ||
      !path.startsWith(directory) ||
      parseSegmentName(path.slice(directory.length)) === undefined
    ) {
      return undefined;
    }
    return this.#demandLeftCovered(place, path);
  }

  /** What is left without the segment still goes on from a snapshot. */
  async #demandLeftCovered(place: SimNode, segment: string): Promise<void> {
    const { disk, damage } = place;
    if (damage !== undefined) return;
    const fs = disk.fs.peek(disk.directory, "all");
    await fs.unlink(segment);
    const { log } = await WriteAheadLog.open({ fs, directory: `${disk.directory}/wal` });
    await this.#demandCovered(place, log.boundary.index, `without ${segment}`);
  }

  async #demandCovered(place: SimNode, index: number, what: string): Promise<void> {
    if (place.damage !== undefined || index <= (this.#found.get(place) ?? 0)) return;
    const fs = place.disk.fs.peek(place.disk.directory, "none");
    const store = await SnapshotStore.open({
      fs,
      directory: `${place.disk.directory}/snapshots`,
      clusterId: place.clusterId,
    });
    const snapshot = await newestGood(store);
    demand((snapshot?.index ?? 0) >= index, "what leaves the log is in a snapshot that is durable and good", {
      node: place.id,
      what,
      trimmedTo: index,
      snapshot: snapshot?.index,
    });
    this.#found.set(place, snapshot!.index);
  }
}

async function newestGood(store: SnapshotStore): Promise<SnapshotInfo | undefined> {
  for (const info of store.list()) {
    const isGood = await store.verify(info).then(
      () => true,
      () => false,
    );
    if (isGood) return info;
  }
  return undefined;
}
