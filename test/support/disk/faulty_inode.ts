/** What a power loss leaves of the changes that were not synced. */
export type Keep = "none" | "all" | "random";

/** What a disk writes in one piece. */
const SECTOR_BYTES = 512;

type Change = { kind: "write"; position: number; bytes: Uint8Array } | { kind: "resize"; bytes: number };

/** Growing bytes. */
class Content {
  #bytes = new Uint8Array(0);
  size = 0;

  get view(): Uint8Array {
    return this.#bytes.subarray(0, this.size);
  }

  write(bytes: Uint8Array, position: number): void {
    if (bytes.byteLength === 0) return;
    this.resize(Math.max(this.size, position + bytes.byteLength));
    this.#bytes.set(bytes, position);
  }

  resize(size: number): void {
    if (size > this.#bytes.byteLength) {
      const larger = new Uint8Array(Math.max(size, this.#bytes.byteLength * 2, 1024));
      larger.set(this.view);
      this.#bytes = larger;
    }
    if (size < this.size) this.#bytes.fill(0, size, this.size);
    this.size = size;
  }

  copy(): Content {
    const content = new Content();
    content.write(this.view, 0);
    return content;
  }
}

/** A file's contents as programs see them, as the disk has them, and the changes in between. */
export class Inode {
  #current = new Content();
  /** The very same as the present ones, until they change. */
  #durable = this.#current;
  #pending: Change[] = [];

  get size(): number {
    return this.#current.size;
  }

  /** A view of the contents as programs see them. */
  get bytes(): Uint8Array {
    return this.#current.view;
  }

  write(bytes: Uint8Array, position: number): void {
    this.#change({ kind: "write", position, bytes: bytes.slice() });
  }

  resize(bytes: number): void {
    this.#change({ kind: "resize", bytes });
  }

  sync(): void {
    for (const change of this.#pending) apply(this.#durable, change);
    this.#pending = [];
  }

  /**
   * A sync that fails, as Linux does it: what was written stays as programs see it, and counts as clean. No later sync writes it to the
   * disk, unless somebody writes it again.
   */
  failSync(): void {
    this.#pending = [];
  }

  /** Replaces the contents, durably. */
  set(bytes: Uint8Array): void {
    this.#current = new Content();
    this.#current.write(bytes, 0);
    this.#durable = this.#current;
    this.#pending = [];
  }

  /** Inverts one bit, also on the disk. */
  flipBit(offset: number, bit: number): void {
    for (const content of new Set([this.#current, this.#durable])) {
      if (offset < content.size) content.view[offset]! ^= 1 << bit;
    }
  }

  /** The file as it is found after a power loss. */
  afterPowerLoss(keep: Keep, random: () => number): Inode {
    const inode = new Inode();
    inode.set(keep === "none" ? this.#durable.view : keep === "all" ? this.#current.view : this.#torn(random));
    return inode;
  }

  #change(change: Change): void {
    if (this.#durable === this.#current) this.#durable = this.#current.copy();
    apply(this.#current, change);
    this.#pending.push(change);
  }

  /** Each sector, and the size, as it was after some number of the changes that touched it. */
  #torn(random: () => number): Uint8Array {
    const pick = (count: number): number => Math.floor(random() * (count + 1));
    const content = this.#durable.copy();
    const sizes = [content.size];
    const replay = this.#durable.copy();
    const touching = new Map<number, Change[]>();
    for (const change of this.#pending) {
      for (const sector of sectorsOf(change, replay.size)) {
        touching.set(sector, [...(touching.get(sector) ?? []), change]);
      }
      apply(replay, change);
      sizes.push(replay.size);
    }
    const size = sizes[pick(sizes.length - 1)]!;
    content.resize(Math.max(...sizes));
    for (const [sector, changes] of touching) {
      for (const change of changes.slice(0, pick(changes.length))) applyToSector(content, change, sector);
    }
    content.resize(size);
    return content.view;
  }
}

function apply(content: Content, change: Change): void {
  if (change.kind === "write") content.write(change.bytes, change.position);
  else content.resize(change.bytes);
}

function* sectorsOf(change: Change, size: number): Iterable<number> {
  const start = change.kind === "write" ? change.position : change.bytes;
  const end = change.kind === "write" ? change.position + change.bytes.byteLength : size;
  for (let sector = Math.floor(start / SECTOR_BYTES); sector * SECTOR_BYTES < end; sector++) yield sector;
}

function applyToSector(content: Content, change: Change, sector: number): void {
  const start = sector * SECTOR_BYTES;
  const end = Math.min(start + SECTOR_BYTES, content.size);
  if (change.kind === "resize") {
    content.view.fill(0, Math.max(start, change.bytes), end);
    return;
  }
  const from = Math.max(start, change.position);
  const to = Math.min(end, change.position + change.bytes.byteLength);
  if (from < to) content.view.set(change.bytes.subarray(from - change.position, to - change.position), from);
}
