import type { Manifest } from "../../../src/store/levels/manifest.js";
import type { StoreFactory } from "../../../src/store/reads.js";
import { Store, type StoreOptions } from "../../../src/store/store.js";

/** Who is told of a store's manifests. */
export interface StoreWatcher {
  opened(manifest: Manifest): void;
  /** A step has made the second from the first; also one whose process died before it could say so. */
  stepped(before: Manifest, after: Manifest): void;
}

/** Stores with somebody who watches them. `known`: the newest manifest that was seen in each directory, by earlier processes, too. */
export function watchedStores(
  options: StoreOptions,
  known: Map<string, Manifest>,
  watcher: StoreWatcher,
): StoreFactory {
  return {
    open: async (directory) => {
      const store = await Store.open(directory, options);
      const before = known.get(directory);
      const opened = store.manifest;
      watcher.opened(opened);
      if (before !== undefined && opened.step === before.step + 1) watcher.stepped(before, opened);
      known.set(directory, opened);
      store.onWritten(() => {
        watcher.stepped(known.get(directory)!, store.manifest);
        known.set(directory, store.manifest);
      });
      return store;
    },
    build: (directory) => {
      known.delete(directory);
      return Store.build(directory, options);
    },
  };
}
