import type { ChangeHistory, KeptRecords } from "../../kv/effects/change_history.js";
import type { Effects, IndexSpan } from "../../kv/effects/effects.js";
import type { KeyRecord } from "../../kv/record_store.js";
import type { LmdbEnvironment } from "../environment.js";

/** The history of changes of a machine on LMDB. */
export class LmdbHistory implements ChangeHistory {
  /**
   * `environment` returns the environment in force; `reading` runs a read of it, and notes its
   * failure.
   */
  constructor(
    private readonly environment: () => LmdbEnvironment,
    private readonly reading: <Result>(read: () => Result) => Result,
    private readonly kept: KeptRecords,
  ) {}

  get since(): number {
    return this.environment().effects.known.since;
  }

  effects(span: IndexSpan): ReadonlyMap<number, Effects> {
    const environment = this.environment();
    if (environment.effects.known.bytes === 0) return NONE;
    return this.reading(() => environment.read((transaction) => environment.effects.effects(span, transaction)));
  }

  keepRecords(): () => void {
    return this.kept.keep();
  }

  recordsBefore(index: number): readonly (KeyRecord | undefined)[] | undefined {
    return this.kept.get(index);
  }

  forget(index: number): void {
    this.environment().effects.forget(index);
  }
}

const NONE: ReadonlyMap<number, Effects> = new Map();
