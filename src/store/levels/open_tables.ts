import type { TableFiles } from "../tables/files.js";
import type { TableInfo } from "../tables/format.js";
import type { PageCache } from "../tables/page_cache.js";
import { Table } from "../tables/table.js";
import { Levels, OpenRun } from "./levels.js";
import { type Manifest, type Run, runsInOrder, tablesOf } from "./manifest.js";

interface TableUse {
  readonly table: Table;
  users: number;
}

/** The tables that are open, each once, however many manifests name it. */
export class OpenTables {
  readonly #shared = new Map<number, TableUse>();
  /** Tables that the latest caller may open. */
  #opening: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly files: TableFiles,
    private readonly cache: PageCache,
    /** Called with the number of a table that nothing reads any longer. */
    private readonly onUnused: (table: number) => void,
  ) {}

  /**
   * Opens the tables of a manifest; the caller releases them.
   * @throws CairnError CORRUPT when one of them is missing or damaged, BUSY
   */
  open(manifest: Manifest): Promise<Levels> {
    // One after the other: no table is opened twice.
    const opened = this.#opening.then(() => this.#open(manifest));
    this.#opening = opened.catch(() => {});
    return opened;
  }

  /** Closes all tables, whoever uses them. */
  close(): void {
    for (const { table } of this.#shared.values()) table.close();
    this.#shared.clear();
  }

  async #open(manifest: Manifest): Promise<Levels> {
    const numbers: number[] = [];
    const letGo = () => {
      for (const number of numbers) this.#letGo(number);
    };
    try {
      for (const info of tablesOf(manifest)) {
        await this.#use(info, manifest);
        numbers.push(info.number);
      }
    } catch (error) {
      letGo();
      throw error;
    }
    return new Levels(
      manifest,
      runsInOrder(manifest).map((run) => this.#openRun(run)),
      letGo,
    );
  }

  #openRun({ low, tables }: Run): OpenRun {
    return new OpenRun(
      low,
      tables.map(({ number }) => this.#shared.get(number)!.table),
    );
  }

  async #use(info: TableInfo, { rules }: Manifest): Promise<void> {
    const shared = this.#shared.get(info.number);
    if (shared !== undefined) shared.users += 1;
    else this.#shared.set(info.number, { table: await Table.open(this.files, this.cache, info, rules), users: 1 });
  }

  #letGo(number: number): void {
    const shared = this.#shared.get(number);
    if (shared === undefined) return;
    shared.users -= 1;
    if (shared.users > 0) return;
    this.#shared.delete(number);
    shared.table.close();
    this.onUnused(number);
  }
}
