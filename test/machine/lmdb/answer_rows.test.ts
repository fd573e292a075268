import { describe, expect, onTestFinished, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { LmdbEnvironment } from "../../../src/machine/lmdb/environment.js";
import { nodeFileSystem } from "../../../src/system/fs.js";
import { temporaryDirectory } from "../../support/disk/temporary_directory.js";

/** An environment with one client, whose batches of answers are transactions. */
class Client {
  static readonly id = "c";
  #lastUsed = 0;

  private constructor(readonly environment: LmdbEnvironment) {}

  static async make(): Promise<Client> {
    const environment = await LmdbEnvironment.create(nodeFileSystem, await temporaryDirectory());
    onTestFinished(() => environment.close());
    return new Client(environment);
  }

  /** Remembers answers, and forgets those up to `floor`. */
  batch(sequences: readonly number[], floor = 0, text = "answer"): void {
    const { sessions } = this.environment;
    this.environment.transaction(() => {
      for (const sequence of sequences) sessions.putAnswer(Client.id, sequence, Buffer.from(`${text} ${sequence}`));
      sessions.deleteAnswersThrough(Client.id, floor);
      sessions.putSession({ clientId: Client.id, floor, lastUsed: ++this.#lastUsed });
      this.environment.writeApplied({ index: this.#lastUsed, term: 1 });
    });
  }

  answer(sequence: number): string | undefined {
    const answer = this.environment.sessions.getAnswer(Client.id, sequence);
    return answer && Buffer.from(answer).toString();
  }

  /** Answers as a snapshot of the state has them. */
  get stored(): string[] {
    return this.environment.read((transaction) => {
      const [session] = [...this.environment.sessions.entries(transaction)];
      return [...(session?.answers ?? [])].map(({ answer }) => Buffer.from(answer).toString());
    });
  }

  get rows(): number {
    return this.environment.readMark()!.digest.answers.count;
  }
}

describe("remembered answers", () => {
  test("of one transaction are one row, which goes when the last of them is forgotten", async () => {
    const client = await Client.make();
    client.batch([3, 1, 2]);
    client.batch([4, 5]);
    expect(client.rows).toBe(2);
    expect(client.stored).toEqual(["answer 1", "answer 2", "answer 3", "answer 4", "answer 5"]);
    client.batch([], 2);
    expect(client.rows).toBe(2);
    expect(client.stored).toEqual(["answer 3", "answer 4", "answer 5"]);
    client.batch([6], 3);
    expect(client.rows).toBe(2);
    expect(client.stored).toEqual(["answer 4", "answer 5", "answer 6"]);
    expect([4, 5, 6].map((sequence) => client.answer(sequence))).toEqual(client.stored);
    client.environment.transaction(() => client.environment.sessions.deleteSession(Client.id));
    expect(client.stored).toEqual([]);
  });

  test("are found before they are written, and when sequences do not ascend from row to row", async () => {
    const client = await Client.make();
    client.batch([5, 9]);
    client.batch([1, 7]);
    expect([1, 5, 7, 9].map((sequence) => client.answer(sequence))).toEqual(client.stored);
    expect(client.answer(6)).toBeUndefined();
    client.environment.sessions.putAnswer(Client.id, 6, Buffer.from("waits"));
    expect(client.answer(6)).toBe("waits");
  });

  test("that are put again replace the earlier ones", async () => {
    const client = await Client.make();
    client.batch([1, 2, 3]);
    client.batch([2], 0, "shorter");
    expect(client.answer(2)).toBe("shorter 2");
    expect(client.stored).toEqual(["answer 1", "shorter 2", "answer 3"]);
  });

  test("take bounded room when each row keeps one answer that is not forgotten", async () => {
    const client = await Client.make();
    const high = 1_000_000;
    let most = 0;
    for (let turn = 0; turn < 100; turn++) {
      const low = Array.from({ length: 99 }, (_, at) => turn * 100 + at + 1);
      client.batch([...low, high + turn], turn * 100);
      most = Math.max(most, client.rows);
    }
    expect(most).toBeLessThanOrEqual((2 * limits.sessionAnswers) / 100 + 1);
    expect(client.stored).toHaveLength(99 + 100);
    expect(client.answer(high)).toBe(`answer ${high}`);
  });
});
