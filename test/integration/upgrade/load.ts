import { setTimeout as pause } from "node:timers/promises";
import { CairnClient } from "../../../src/client/client.js";
import type { Operation } from "../../support/history/history.js";
import { checkLinearizable, describe } from "../../support/history/linearizability.js";
import { Random } from "../../support/random.js";
import { ChangeLedger } from "../torture/change_ledger.js";
import { TortureWatcher } from "../torture/watcher.js";
import { type OperationCounts, TortureClient } from "../torture/workload.js";

const CLIENTS = 4;
const LOOK_MS = 20;

/** Clients that read and write, and watches, while a cluster is upgraded; and the judgement of what they saw. */
export class Load {
  readonly history: Operation[] = [];
  readonly counts: OperationCounts = { ok: 0, unknown: 0, failed: 0 };
  readonly #ledger = new ChangeLedger();
  readonly #clients: readonly TortureClient[];
  readonly #watchers: readonly TortureWatcher[];
  /** Rejects with an answer, or a change, that nobody may get. */
  readonly #wrong: Promise<unknown>;

  constructor(
    private readonly endpoints: readonly string[],
    seed: number,
  ) {
    const record = (operation: Operation) => void this.history.push(operation);
    const answered = (index: number, key: string, value: string) => this.#ledger.answered(index, key, value);
    this.#clients = Array.from(
      { length: CLIENTS },
      (_, at) => new TortureClient(`c${at}`, endpoints, new Random(seed + at), record, answered, this.counts),
    );
    this.#watchers = [0, 1].map((at) => new TortureWatcher(`w${at}`, endpoints, this.#ledger, { pauseMs: 0 }));
    this.#wrong = Promise.race([...this.#clients, ...this.#watchers].map(({ done }) => done));
    this.#wrong.catch(() => {});
  }

  /** Waits until so many more operations were answered. */
  async answers(more: number): Promise<void> {
    const wanted = this.counts.ok + more;
    while (this.counts.ok < wanted) await Promise.race([this.#wrong, pause(LOOK_MS)]);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.stop()));
  }

  /**
   * Checks that the history is linearizable, and that the watches have reported all changes up to `index`, each once and in order, and
   * never had to begin anew. @throws Error
   */
  async check(index: number) {
    await using client = new CairnClient({ endpoints: this.endpoints });
    const state = new Map<string, string>();
    for await (const entry of client.range()) state.set(entry.key, entry.text());
    for (const watcher of this.#watchers) {
      await watcher.reaches(index);
      await watcher.stop();
      const differs = [...new Set([...state.keys(), ...watcher.copy.keys()])].find(
        (key) => state.get(key) !== watcher.copy.get(key),
      );
      if (differs !== undefined) throw new Error(`by the watch ${watcher.name}, ${differs} is another one`);
    }
    const verdict = checkLinearizable(this.history);
    if (verdict.outcome !== "ok") throw new Error(describe(verdict));
    return {
      ...this.counts,
      watchedWrites: this.#watchers.reduce((sum, { counts }) => sum + counts.checked, 0),
      watchRestarts: this.#watchers.reduce((sum, { counts }) => sum + counts.restarts, 0),
    };
  }
}
