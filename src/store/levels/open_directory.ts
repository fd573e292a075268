import { CairnError, hasCode } from "../../base/errors.js";
import { type FileSystem, readSmallFile } from "../../system/fs.js";
import type { StoreRules } from "../rules/rules.js";
import { tableName } from "../tables/format.js";
import type { Levels } from "./levels.js";
import { emptyManifest, type Manifest, manifestName, manifestPosition, tablesOf } from "./manifest.js";
import { decodeManifest } from "./manifest_bytes.js";
import type { OpenTables } from "./open_tables.js";

/** The states that a directory holds. */
export interface FoundStates {
  readonly newest: Levels;
  /** The one before; undefined when there is none. */
  readonly previous: Levels | undefined;
  /** Names of files that no manifest names, and of manifests that cannot be used. */
  readonly unnamed: readonly string[];
  /** Reasons why manifests were passed over. */
  readonly damage: readonly CairnError[];
}

/**
 * Finds the newest two manifests whose tables are whole. `rules`: those of a new store.
 * @throws CairnError CORRUPT when there are manifests, but none that can be used
 */
export async function findStates(
  fs: FileSystem,
  directory: string,
  rules: StoreRules,
  tables: OpenTables,
): Promise<FoundStates> {
  const names = await fs.list(directory);
  const found: Levels[] = [];
  const damage: CairnError[] = [];
  for (const name of names
    .filter((each) => manifestPosition(each) !== undefined)
    .sort()
    .reverse()) {
    if (found.length === 2) break;
    try {
      found.push(await tables.open(await readManifest(fs, directory, name)));
    } catch (error) {
      if (!hasCode(error, "CORRUPT")) throw error;
      damage.push(error);
    }
  }
  if (found.length === 0 && damage.length > 0) throw damage[0]!;
  const newest = found[0] ?? (await tables.open(emptyManifest(rules)));
  const named = new Set(found.flatMap(({ manifest }) => namesOf(manifest)));
  const unnamed = names.filter((name) => !named.has(name) && /\.(tab|man|man\.tmp)$/.test(name));
  return { newest, previous: found[1], unnamed, damage };
}

async function readManifest(fs: FileSystem, directory: string, name: string): Promise<Manifest> {
  const path = `${directory}/${name}`;
  const manifest = decodeManifest(await readSmallFile(fs, path), path);
  if (manifestName(manifest.position) === name) return manifest;
  throw new CairnError("CORRUPT", `the manifest ${path} is that of index ${manifest.position.index}`);
}

function namesOf(manifest: Manifest): string[] {
  return [manifestName(manifest.position), ...[...tablesOf(manifest)].map(({ number }) => tableName(number))];
}
