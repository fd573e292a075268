import type { TableFloor } from "./manifest.js";

/** A floor as memory tables have it. */
interface RaisedFloor {
  readonly firstByte: number;
  readonly version: number;
}

/** The floors in force at one version, by the first byte of the keys. */
export class Floors {
  readonly #versions = new Float64Array(256);
  /** Whether there is a floor at all. */
  readonly isEmpty: boolean;

  /** `atVersion`: floors that were raised later are left out. */
  constructor(floors: Iterable<RaisedFloor>, atVersion = Number.MAX_SAFE_INTEGER) {
    let isEmpty = true;
    for (const { firstByte, version } of floors) {
      if (version > atVersion) continue;
      isEmpty = false;
      this.#versions[firstByte] = Math.max(this.#versions[firstByte]!, version);
    }
    this.isEmpty = isEmpty;
  }

  /** Whether there is a floor for keys with this first byte. */
  isRaised(firstByte: number): boolean {
    return this.#versions[firstByte] !== 0;
  }

  /** Whether a record of a key with this first byte counts as absent. */
  isDead(firstByte: number, version: number): boolean {
    return version < this.#versions[firstByte]!;
  }
}

/**
 * Returns the floors of a manifest and of the table that is written behind it. `nextTable`: the
 * first table that is written under the new ones.
 */
export function raisedFloors(
  floors: readonly TableFloor[],
  raised: readonly RaisedFloor[],
  nextTable: number,
): TableFloor[] {
  const byByte = new Map(floors.map((floor) => [floor.firstByte, floor]));
  for (const { firstByte, version } of raised) {
    if (version > (byByte.get(firstByte)?.version ?? 0))
      byByte.set(firstByte, { firstByte, version, table: nextTable });
  }
  return [...byByte.values()].sort((a, b) => a.firstByte - b.firstByte);
}
