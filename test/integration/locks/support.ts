import { CairnClient } from "../../../src/client/client.js";
import type { RunningCommand } from "../../support/processes/processes.js";
import { inRepository, startProcess } from "../../support/processes/processes.js";

export interface Plan {
  readonly name: string;
  readonly lock?: object;
  readonly holdMs?: number;
  readonly blockMs?: number;
  readonly isSlow?: boolean;
  readonly rounds?: number;
}

export interface Said {
  readonly event: "locked" | "done" | "late" | "failed" | "unreleased";
  readonly pid: number;
  readonly token: number;
  readonly [field: string]: unknown;
}

/** A process that contends for a lock. */
export class Contender {
  readonly command: RunningCommand;

  constructor(endpoints: readonly string[], plan: Plan) {
    const script = inRepository("test/integration/locks/contender.mjs");
    this.command = startProcess(process.execPath, [script, endpoints.join(","), JSON.stringify(plan)]);
  }

  get said(): Said[] {
    return this.command.stdout
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Said);
  }

  /** Waits until it has said this so many times; returns the last of them. */
  says(event: Said["event"], times = 1): Promise<Said> {
    return this.command.until(`${times} x ${event}`, () => this.said.filter((each) => each.event === event)[times - 1]);
  }
}

/**
 * Follows all keys of a lock and what those wrote who believed that they held it, and judges each
 * entry by the order of the log: nobody may enter while an older key of the lock exists.
 */
export class LockAudit {
  readonly tokens: number[] = [];
  readonly problems: string[] = [];
  readonly #client: CairnClient;
  readonly #keys = new Map<string, number>();
  readonly #ended = new AbortController();
  #following: Promise<void> | undefined;

  constructor(
    endpoints: readonly string[],
    private readonly name: string,
  ) {
    this.#client = new CairnClient({ endpoints, timeoutMs: 60_000 });
  }

  /** Resolves when the audit sees every change from now on. */
  async start(): Promise<void> {
    const watch = this.#client.watch(undefined, { signal: this.#ended.signal });
    await watch.ready();
    this.#following = (async () => {
      try {
        for await (const event of watch) {
          if (event.type === "put") this.#put(event.key, event.value.text(), event.index, event.created);
          else if (event.type === "delete") this.#keys.delete(event.key);
        }
      } catch (error) {
        if (!this.#ended.signal.aborted) this.problems.push(`the audit has failed: ${error}`);
      }
    })();
  }

  async end(): Promise<void> {
    this.#ended.abort();
    await this.#following;
    await this.#client.close();
  }

  #put(key: string, value: string, index: number, created: boolean): void {
    if (key.startsWith(`_lock/${this.name}/`)) {
      if (created) this.#keys.set(key, index);
      return;
    }
    const token = Number(value);
    if (key === `fenced/${this.name}`) {
      if (Math.min(...this.#keys.values()) !== token) this.problems.push(`${token} wrote at ${index} without its turn`);
      return;
    }
    if (key !== `entered/${this.name}`) return;
    // One whose lease has ended since may be late, and the token tells; but it had its turn.
    const older = [...this.#keys.values()].filter((each) => each < token);
    if (older.length > 0) this.problems.push(`${token} entered at ${index} while ${older.join(", ")} existed`);
    this.tokens.push(token);
  }
}
