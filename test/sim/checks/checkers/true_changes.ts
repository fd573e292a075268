import { MemoryMachine } from "../../../../src/machine/kv/memory_machine.js";
import type { SessionLimits } from "../../../../src/machine/kv/session_limits.js";
import type { Entry } from "../../../../src/raft/types.js";

/** A key as a watch tells of it: `+key=value` when it was created, `key=value` or `-key`. */
export type ToldChange = string;

/**
 * What each entry changes, found without what a machine notes: by comparing the keys before it and after it.
 */
export class TrueChanges {
  readonly #machine: MemoryMachine;
  readonly #changes: (readonly ToldChange[])[] = [[]];
  #before: ReadonlyMap<string, string> = new Map();

  constructor(sessionLimits: SessionLimits) {
    this.#machine = new MemoryMachine(sessionLimits);
  }

  /** Last index whose changes are known. */
  get last(): number {
    return this.#machine.appliedIndex;
  }

  /** Takes what is new of some committed entries. */
  add(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.index !== this.last + 1) continue;
      this.#machine.apply([entry]);
      const after = this.#keys(entry.index);
      this.#changes.push(differences(this.#before, after.told));
      this.#before = after.plain;
    }
  }

  /** The changes of an index, sorted. */
  at(index: number): readonly ToldChange[] {
    return this.#changes[index]!;
  }

  /** The keys with value and version, and the same as somebody tells of them who has seen this entry. */
  #keys(index: number) {
    const plain = new Map<string, string>();
    const told = new Map<string, { readonly plain: string; readonly told: ToldChange }>();
    for (const { key, value, version, createVersion } of this.#machine.range()) {
      const name = Buffer.from(key).toString("latin1");
      const text = `${name}=${Buffer.from(value).toString("latin1")}`;
      plain.set(name, `${text} ${version}`);
      told.set(name, { plain: `${text} ${version}`, told: createVersion === index ? `+${text}` : text });
    }
    return { plain, told };
  }
}

function differences(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, { readonly plain: string; readonly told: ToldChange }>,
): ToldChange[] {
  const changes: ToldChange[] = [];
  for (const [name, { plain, told }] of after) if (before.get(name) !== plain) changes.push(told);
  for (const name of before.keys()) if (!after.has(name)) changes.push(`-${name}`);
  return changes.sort();
}
