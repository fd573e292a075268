import type { MessageInitShape } from "@bufbuild/protobuf";
import { onTestFinished } from "vitest";
import type { KeyValueService, WatchRequestSchema, WatchResponse } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import type { Client } from "../../../src/rpc/client.js";
import { until } from "../../support/conditions.js";

/** A Watch stream over the network, read by a test. */
export class RawWatch {
  readonly answers: WatchResponse[] = [];
  /** Set when the stream has ended. */
  error: CairnError | undefined;
  readonly #stop = new AbortController();

  constructor(kv: Client<typeof KeyValueService>, request: MessageInitShape<typeof WatchRequestSchema> = {}) {
    onTestFinished(() => this.stop());
    void this.#read(kv.watch(request, { signal: this.#stop.signal }));
  }

  stop(): void {
    this.#stop.abort();
  }

  get through(): number {
    return Number(this.answers.at(-1)?.through ?? -1);
  }

  /** The changes so far, in short: `INDEX key=value`, `INDEX +key=value` when created, or `INDEX -key`. */
  get changes(): string[] {
    return this.answers
      .flatMap(({ events }) => events)
      .map(({ index, kv, deleted }) => {
        const key = Buffer.from(kv!.key).toString();
        if (deleted) return `${index} -${key}`;
        return `${index} ${kv!.createVersion === 0n ? "" : "+"}${key}=${Buffer.from(kv!.value).toString()}`;
      });
  }

  /** Resolves when the watch has told of everything up to an index. */
  async reached(index: number): Promise<this> {
    await until(() => this.through >= index || this.error !== undefined, `the watch reaches ${index}`);
    if (this.error !== undefined) throw this.error;
    return this;
  }

  async ended(): Promise<CairnError> {
    await until(() => this.error !== undefined, "the watch ends");
    return this.error!;
  }

  async #read(answers: AsyncIterable<WatchResponse>): Promise<void> {
    try {
      for await (const answer of answers) this.answers.push(answer);
      this.error = new CairnError("INTERNAL", "the stream has ended without an error");
    } catch (error) {
      this.error = CairnError.from(error);
    }
  }
}
