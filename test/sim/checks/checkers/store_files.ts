import { createHash } from "node:crypto";
import type { Manifest } from "../../../../src/store/levels/manifest.js";
import { encodeManifest } from "../../../../src/store/levels/manifest_bytes.js";
import type { SimNode } from "../../world/node.js";
import { demand } from "./checker.js";

/** The files of stores are a function of the log: from one manifest, which names tables by their digests, all nodes come to the same next one. */
export class StoreFiles {
  /** What follows a manifest, by its digest. */
  readonly #next = new Map<string, { readonly index: number; readonly digest: string; readonly node: string }>();
  compared = 0;

  stepped({ id }: SimNode, before: Manifest, after: Manifest): void {
    const from = digestOf(before);
    const made = { index: after.position.index, digest: digestOf(after), node: id };
    const known = this.#next.get(from);
    if (known === undefined) {
      this.#next.set(from, made);
      return;
    }
    this.compared += 1;
    const invariant = "the store's files are a function of the log";
    demand(known.index === made.index, invariant, { after: before.position, flushPoints: [known, made] });
    demand(known.digest === made.digest, invariant, { at: made.index, manifests: [known, made] });
  }
}

function digestOf(manifest: Manifest): string {
  return createHash("sha256").update(encodeManifest(manifest)).digest("hex");
}
