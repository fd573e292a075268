import type { Run } from "../levels/manifest.js";
import type { Source } from "../levels/merge_order.js";
import { TableCursor } from "../tables/cursor.js";
import type { TableInfo } from "../tables/format.js";
import { RecordReader } from "../tables/record_reader.js";
import type { Table } from "../tables/table.js";

/** Opens a table that a manifest names. */
export type OpenTable = (info: TableInfo) => Promise<Table>;

/**
 * Walks over the records of a run from its low bound on. It opens a table only when a record of it
 * is wanted, so that a table can be passed over unread.
 */
export class RunCursor implements Source {
  reader: RecordReader = new FirstKey(new Uint8Array(0));
  readonly #tables: readonly TableInfo[];
  readonly #cursor = new TableCursor();
  #at = 0;

  constructor(
    private readonly run: Run,
    readonly age: number,
    private readonly open: OpenTable,
  ) {
    this.#tables = run.tables;
  }

  /** The table before whose first record the cursor stands; undefined when it is within a table. */
  get untouched(): TableInfo | undefined {
    return this.reader === this.#cursor ? undefined : this.#tables[this.#at];
  }

  /** Moves to the first record at or above the low bound; false: there is none. */
  async begin(): Promise<boolean> {
    const { low } = this.run;
    while (this.#at < this.#tables.length) {
      const info = this.#tables[this.#at]!;
      if (Buffer.compare(info.first, low) >= 0) return this.#standBefore(info);
      if (Buffer.compare(info.last, low) >= 0) {
        this.#cursor.start(await this.open(info), low);
        this.reader = this.#cursor;
        return this.#fill();
      }
      this.#at += 1;
    }
    return false;
  }

  /** Makes the record that the cursor stands at readable. */
  async touch(): Promise<void> {
    const info = this.untouched;
    if (info === undefined) return;
    this.#cursor.start(await this.open(info));
    this.reader = this.#cursor;
    await this.#cursor.fill();
  }

  /** Moves to the next record; false: there is none. */
  advance(): boolean | Promise<boolean> {
    return this.#cursor.advance() || this.#fill();
  }

  /** Moves behind the untouched table; false: there is no record. */
  pass(): boolean {
    this.#at += 1;
    const info = this.#tables[this.#at];
    return info !== undefined && this.#standBefore(info);
  }

  async #fill(): Promise<boolean> {
    return (await this.#cursor.fill()) || this.pass();
  }

  #standBefore(info: TableInfo): true {
    this.reader = new FirstKey(info.first);
    return true;
  }
}

/** Stands for the first record of a table that is not read yet: it has the key alone. */
class FirstKey extends RecordReader {
  constructor(key: Uint8Array) {
    super();
    this.bytes = key;
    this.keyBytes = key.byteLength;
  }
}
