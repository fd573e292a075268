import type { LogPosition } from "../../raft/types.js";
import type { FileSystem } from "../../system/fs.js";
import { emptyManifest } from "../levels/manifest.js";
import type { StoreBuilder } from "../reads.js";
import { recordKind } from "../record.js";
import type { StoreRules } from "../rules/rules.js";
import { StepFiles } from "./step_files.js";
import { TableOutput } from "./table_output.js";

/** Writes a whole state as the base of a new store. */
export class BaseBuilder implements StoreBuilder {
  readonly #files: StepFiles;
  /** By the first byte of the keys. */
  readonly #outputs = new Map<number, TableOutput>();

  private constructor(
    fs: FileSystem,
    directory: string,
    private readonly rules: StoreRules,
  ) {
    this.#files = new StepFiles(fs, directory, rules, 1);
  }

  /** Makes the directory. */
  static async create(fs: FileSystem, directory: string, rules: StoreRules): Promise<BaseBuilder> {
    await fs.makeDirectory(directory);
    return new BaseBuilder(fs, directory, rules);
  }

  add(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): Promise<void> | undefined {
    const firstByte = key[0]!;
    let output = this.#outputs.get(firstByte);
    if (output === undefined) {
      output = new TableOutput(this.#files, false);
      this.#outputs.set(firstByte, output);
    }
    return output.add({ key, value, version, first: created, tag, kind: recordKind.known });
  }

  async finish(position: LogPosition, note: Uint8Array): Promise<void> {
    const tables = [];
    for (const [, output] of [...this.#outputs].sort(([a], [b]) => a - b)) {
      await output.end();
      tables.push(...output.tables);
    }
    const empty = emptyManifest(this.rules);
    const base = { ...empty.base, tables };
    await this.#files.publish({ ...empty, position, note, base, nextTable: this.#files.nextTable });
    await this.#files.close();
  }

  async abandon(): Promise<void> {
    for (const output of this.#outputs.values()) await output.abandon();
    await this.#files.discard();
  }
}
