import { describe, expect, test } from "vitest";
import { type Combined, type RecordKind, recordKind } from "../../../src/store/record.js";
import { combine, settle } from "../../../src/store/rules/v1.js";
import { Random } from "../../support/random.js";

const { gone, known, inherits, deleted, only } = recordKind;

/** Draws the records of one key, oldest first, as a machine may write them. */
function drawWrites(random: Random): Combined[] {
  const isOnly = random.oneIn(2);
  const writes: Combined[] = [];
  let created = 0;
  for (let version = 1; version <= random.whole(1, 6); version += 1) {
    if (created !== 0 && random.oneIn(3)) {
      writes.push({ kind: deleted, first: 0 });
      created = 0;
      continue;
    }
    if (created === 0) created = version;
    const isFirst = writes.length === 0;
    if (isOnly && isFirst) writes.push({ kind: only, first: created });
    else if (random.oneIn(2)) writes.push({ kind: known, first: created });
    else writes.push({ kind: inherits, first: version });
  }
  return writes;
}

/** Index at which the key that these writes leave was created; 0: there is none. */
function createdBy(writes: readonly Combined[]): number {
  return writes.reduce((created, { kind, first }) => {
    if (kind === deleted) return 0;
    if (kind === inherits && created !== 0) return created;
    return first;
  }, 0);
}

/** Combines neighbours in an order that chance decides; or leaves out what is nothing, as a flush does. */
function fold(random: Random, writes: readonly Combined[], gones: "kept" | "left out"): Combined {
  const parts = [...writes];
  while (parts.length > 1) {
    const at = random.whole(0, parts.length - 2);
    const combined = combine(parts[at + 1]!, parts[at]!);
    parts.splice(at, 2, combined);
    if (gones === "left out" && combined.kind === gone && parts.length > 1) parts.splice(at, 1);
  }
  return parts[0]!;
}

describe("combining records", () => {
  test("gives the same in whichever order neighbours are combined", () => {
    const random = new Random(1);
    for (let round = 0; round < 2_000; round += 1) {
      const writes = drawWrites(random);
      const combined = fold(random, writes, "kept");
      const inOrder = writes.reduce((older, newer) => combine(newer, older));
      expect([combined, writes]).toEqual([inOrder, writes]);
    }
  });

  test("leaves the key that the writes leave, with its creation", () => {
    const random = new Random(2);
    for (let round = 0; round < 2_000; round += 1) {
      const writes = drawWrites(random);
      const { kind, first } = fold(random, writes, random.pick(["kept", "left out"] as const));
      const created = createdBy(writes);
      expect([settle(kind), first, writes]).toEqual([created === 0 ? gone : known, created, writes]);
    }
  });

  test("forgets a key that was made and removed where no older table can hold it", () => {
    expect(combine({ kind: deleted, first: 0 }, { kind: only, first: 5 })).toEqual({ kind: gone, first: 0 });
    expect(combine({ kind: only, first: 7 }, { kind: gone, first: 0 })).toEqual({ kind: only, first: 7 });
    expect(combine({ kind: inherits, first: 7 }, { kind: gone, first: 0 })).toEqual({ kind: only, first: 7 });
  });

  test("remembers a removal wherever an older table may hold the key", () => {
    const kinds: RecordKind[] = [known, inherits, deleted];
    for (const kind of kinds) {
      expect(combine({ kind: deleted, first: 0 }, { kind, first: 5 }).kind).toBe(deleted);
      const only5 = combine({ kind: only, first: 5 }, { kind, first: 3 });
      expect(combine({ kind: deleted, first: 0 }, only5).kind).toBe(deleted);
    }
  });
});
