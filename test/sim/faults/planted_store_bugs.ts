import type { PlantedBug } from "./planted_bugs.js";

type StoreBug = Omit<PlantedBug, "state">;

const bugs: readonly StoreBug[] = [
  {
    name: "flush points follow batches, not entries",
    rule: "store: the files are a function of the log",
    patches: [
      {
        file: "src/machine/store_machine.ts",
        find: "if (state.isDue) state.freeze({ index, term }, false);",
        replace: "if (state.isDue && at === entries.length - 1) state.freeze({ index, term }, false);",
      },
    ],
  },
  {
    name: "a read writes what it has settled",
    rule: "store: reads change no byte",
    patches: [
      {
        file: "src/machine/store/store_records.ts",
        find: "    return row === undefined ? undefined : recordOf(row);",
        replace:
          "    if (row === undefined) return undefined;\n    const read = { ...recordOf(row), value: recordOf(row).value.slice() };\n    this.engine.put(this.#rows.key(key), this.#rows.valueOf(read), row.version, row.created, row.tag);\n    return read;",
      },
    ],
  },
  {
    name: "filters are asked with another seed than they were made with",
    rule: "store: a filter never misses a key",
    patches: [
      {
        file: "src/store/levels/store_reader.ts",
        find: "    const hash = filterHash(manifest.rules, key);",
        replace: "    const hash = filterHash({ ...manifest.rules, seeds: [0, 0] }, key);",
      },
    ],
  },
  {
    name: "a delete is dropped above the base",
    rule: "store: deletes are dropped in the base only",
    patches: [
      {
        file: "src/store/steps/sweep.ts",
        find: "if (this.sweep.toBase) kind = settle(kind);",
        replace: "if (this.sweep.toBase || kind === recordKind.deleted) kind = settle(kind);",
      },
    ],
  },
  {
    name: "a blind put is settled above the base",
    rule: "store: only the base has nothing below it",
    patches: [
      {
        file: "src/store/steps/sweep.ts",
        find: "if (this.sweep.toBase) kind = settle(kind);",
        replace: "if (this.sweep.toBase || kind === recordKind.inherits) kind = settle(kind);",
      },
    ],
  },
  {
    name: "the older of two equal keys wins",
    rule: "store: newer runs come first",
    patches: [
      {
        file: "src/store/levels/merge_order.ts",
        find: "(order === 0 && one.age < other.age)",
        replace: "(order === 0 && one.age > other.age)",
      },
    ],
  },
  {
    name: "a put over a put forgets when the key was created",
    rule: "store: combine",
    patches: [
      {
        file: "src/store/rules/v1.ts",
        find: "return newer === inherits && older !== deleted && older !== gone ? olderFirst : newerFirst;",
        replace: "return newerFirst + 0 * olderFirst;",
      },
    ],
  },
  {
    name: "a put over a delete takes the creation from before it",
    rule: "store: combine",
    patches: [
      {
        file: "src/store/rules/v1.ts",
        find: "if (newer === inherits) return older === inherits ? inherits : known;",
        replace: "if (newer === inherits) return older === inherits || older === deleted ? inherits : known;",
      },
    ],
  },
  {
    name: "a view shows what was written later",
    rule: "store: a view is the state as it was",
    patches: [
      {
        file: "src/store/store.ts",
        find: "    const reader = this.#newReader(position.index);",
        replace: "    const reader = this.#newReader();",
      },
    ],
  },
  {
    name: "inputs of a sweep are read again below its cursor",
    rule: "store: keys below a cursor are in the output",
    patches: [
      {
        file: "src/store/steps/sweep.ts",
        find: "return { low, tables: run.tables.filter(({ last }) => Buffer.compare(last, low) >= 0) };",
        replace: "return { low: run.low, tables: run.tables };",
      },
    ],
  },
  {
    name: "session heads are not written at the flush point",
    rule: "store: the files hold the whole state",
    patches: [
      {
        file: "src/machine/store/store_state.ts",
        find: "    this.sessions.flush();\n    this.leases.flush();",
        replace: "    this.leases.flush();",
      },
    ],
  },
  {
    name: "leases are not written at the flush point",
    rule: "store: the files hold the whole state",
    patches: [
      {
        file: "src/machine/store/store_state.ts",
        find: "    this.sessions.flush();\n    this.leases.flush();",
        replace: "    this.sessions.flush();",
      },
    ],
  },
  {
    name: "forgotten answers stay in the store",
    rule: "store: the files hold the whole state",
    patches: [
      {
        file: "src/machine/store/store_sessions.ts",
        find: "for (const sequence of sequences) this.engine.delete(this.#rows.answer(birth, sequence), this.#index);",
        replace:
          "for (const sequence of sequences) if (birth < 0) this.engine.delete(this.#rows.answer(birth, sequence), this.#index);",
      },
    ],
  },
  {
    name: "a key's row claims that no older one exists",
    rule: "store: only keys made of an index are written so",
    patches: [
      {
        file: "src/machine/store/store_records.ts",
        find: "    this.engine.put(this.#rows.key(key), this.#rows.valueOf(record), version, createVersion, tagOf(lease));",
        replace:
          "    this.engine.putOnly(this.#rows.key(key), this.#rows.valueOf(record), version, createVersion, tagOf(lease));",
      },
    ],
  },
  {
    name: "rules of the node's own decide about sweeps",
    rule: "store: the files are a function of the log",
    patches: [
      {
        file: "src/store/rules/v1_sweeps.ts",
        find: "return readBytes >= (isBetweenTables ? quota : quota + rules.tableBytesMin);",
        replace: "return readBytes >= (isBetweenTables ? quota : quota + rules.tableBytesMin) * (0.5 + Math.random());",
      },
    ],
  },
  {
    name: "a blind put that made its key is told as a change",
    rule: "store: a watch tells creations apart",
    patches: [
      {
        file: "src/store/steps/created.ts",
        find: "if (!exists(manifest, runs, floors, key)) created.push(version);",
        replace: "if (exists(manifest, runs, floors, key)) created.push(version);",
      },
      {
        file: "src/machine/store/open_puts.ts",
        find: "this.#states[at] = existed(key, index) ? EXISTED : CREATED;",
        replace: "this.#states[at] = existed(key, index) ? EXISTED : EXISTED;",
      },
    ],
  },
];

/** Bugs of the store. */
export const plantedStoreBugs: readonly PlantedBug[] = bugs.map((bug) => ({ ...bug, state: "store" }));
