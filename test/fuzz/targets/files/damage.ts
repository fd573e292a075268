import type { Random } from "../../../support/random.js";
import { mutated } from "../../generate/mutations.js";
import { anyBytes } from "../../generate/values.js";

// Damages the files of a directory as disks, people and programs do.

/** Files by path, damaged, and what was done. */
export interface Damaged {
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Paths of the files that are not as they were. */
  readonly touched: ReadonlySet<string>;
  readonly story: readonly string[];
}

export function damage(random: Random, original: ReadonlyMap<string, Uint8Array>): Damaged {
  const files = new Map(original);
  const touched = new Set<string>();
  const story: string[] = [];
  const times = random.oneIn(3) ? random.whole(2, 3) : 1;
  for (let left = times; left > 0 && files.size > 0; left--) story.push(damageOne(random, files, touched));
  return { files, touched, story };
}

function damageOne(random: Random, files: Map<string, Uint8Array>, touched: Set<string>): string {
  const paths = [...files.keys()].sort();
  const path = random.pick(paths);
  const bytes = Buffer.from(files.get(path)!);
  const change = (changed: Uint8Array | undefined, what: string) => {
    touched.add(path);
    if (changed === undefined) files.delete(path);
    else files.set(path, changed);
    return `${path}: ${what}`;
  };
  switch (random.whole(0, 9)) {
    case 0:
    case 1:
    case 2: {
      if (bytes.byteLength === 0) return change(anyBytes(random), "filled");
      const at = random.whole(0, bytes.byteLength - 1);
      const bit = random.whole(0, 7);
      bytes[at] = bytes[at]! ^ (1 << bit);
      return change(bytes, `bit ${bit} of byte ${at} flipped`);
    }
    case 3: {
      const end = random.whole(0, bytes.byteLength);
      return change(bytes.subarray(0, end), `cut to ${end} bytes`);
    }
    case 4:
      return change(undefined, "deleted");
    case 5: {
      const other = random.pick(paths);
      const swapped = files.get(other)!;
      files.set(other, bytes);
      touched.add(other);
      return change(swapped, `swapped with ${other}`);
    }
    case 6: {
      const from = random.whole(0, bytes.byteLength);
      const to = Math.min(bytes.byteLength, from + random.pick([8, 512, 4_096]));
      bytes.fill(0, from, to);
      return change(bytes, `bytes ${from} to ${to} made zero`);
    }
    case 7: {
      const copy = nameLike(random, path);
      files.set(copy, bytes);
      touched.add(copy);
      return `${path} copied to ${copy}`;
    }
    case 8:
      return change(Buffer.concat([bytes, anyBytes(random)]), "made longer");
    default:
      return change(mutated(random, bytes, files.get(random.pick(paths))), "changed");
  }
}

/** A name beside this one, with one of its digits changed if it has any. */
function nameLike(random: Random, path: string): string {
  const digits = [...path.matchAll(/\d(?=[^/]*$)/g)];
  const chosen = digits.length === 0 ? undefined : random.pick(digits);
  if (chosen === undefined) return `${path}.copy`;
  return `${path.slice(0, chosen.index)}${random.whole(0, 9)}${path.slice(chosen.index + 1)}`;
}
