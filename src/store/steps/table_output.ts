import type { RecordKind, StoreRecord } from "../record.js";
import type { TableInfo } from "../tables/format.js";
import type { RecordReader } from "../tables/record_reader.js";
import type { TableWriter } from "../tables/writer.js";
import type { StepFiles } from "./step_files.js";

/** Writes ascending records into as many tables as the rules make of them. */
export class TableOutput {
  #writer: TableWriter | undefined;

  constructor(
    private readonly files: StepFiles,
    /** Whether the tables get filters: those of the base need none. */
    private readonly filter: boolean,
    readonly tables: TableInfo[] = [],
  ) {}

  /** Whether no table is begun. */
  get isBetweenTables(): boolean {
    return this.#writer === undefined;
  }

  /** Adds a record. Wait for the result: it writes when enough has been gathered. */
  add(record: StoreRecord): Promise<void> | undefined {
    const writer = this.#writer;
    if (writer === undefined) return this.#begin((begun) => begun.add(record));
    writer.add(record);
    return this.#afterAdding(writer);
  }

  /** Adds a reader's record with this kind and first version. */
  addFrom(reader: RecordReader, kind: RecordKind, first: number): Promise<void> | undefined {
    const writer = this.#writer;
    if (writer === undefined) return this.#begin((begun) => begun.addFrom(reader, kind, first));
    writer.addFrom(reader, kind, first);
    return this.#afterAdding(writer);
  }

  /** Takes a table over as it is. No table may be begun. */
  move(table: TableInfo): void {
    this.tables.push(table);
  }

  /** Ends the table that was begun. */
  async end(): Promise<void> {
    const writer = this.#writer;
    if (writer === undefined) return;
    this.#writer = undefined;
    const table = await writer.finish();
    this.files.writtenBytes += table.bytes;
    this.tables.push(table);
  }

  /** Removes the table that was begun. */
  async abandon(): Promise<void> {
    await this.#writer?.abandon();
    this.#writer = undefined;
  }

  async #begin(add: (writer: TableWriter) => void): Promise<void> {
    const writer = await this.files.create(this.filter);
    this.#writer = writer;
    add(writer);
    await this.#afterAdding(writer);
  }

  #afterAdding(writer: TableWriter): Promise<void> | undefined {
    if (writer.mayEnd) return this.end();
    return writer.isFull ? this.files.flush(writer) : undefined;
  }
}
