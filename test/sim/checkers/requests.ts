import { fromBinary } from "@bufbuild/protobuf";
import { type Command, CommandOutcome, type CommandResult, CommandSchema } from "../../../gen/cairn/v1/storage_pb.js";
import type { Entry } from "../../../src/core/types.js";
import type { ApplyResult } from "../../../src/machine/state_machine.js";
import { getOrAdd } from "../maps.js";
import type { SimNode } from "../sim_node.js";
import { type Checker, demand } from "./checker.js";

/** What became of a request, as its client heard or as it must be. */
export interface RequestResult {
  readonly outcome: CommandOutcome;
  /** Index of the entry that carried it out. */
  readonly index: number;
  /** What a compare-and-set that found another value has found. */
  readonly value: string;
}

interface Client {
  readonly answers: Map<number, RequestResult>;
  /** Requests up to here are forgotten. */
  floor: number;
}

/**
 * What requests do, told a second time and in few words: each has its effect once, whatever is in the log how often, and all replicas answer the
 * same. What a client was told stays true.
 */
export class Requests implements Checker {
  readonly #clients = new Map<string, Client>();
  readonly #records = new Map<string, { readonly value: string; readonly version: number }>();
  /** By index; undefined where there is no command. */
  readonly #results: (RequestResult | undefined)[] = [undefined];
  /** What clients were told. */
  readonly #told: { readonly client: string; readonly sequence: number; readonly result: RequestResult }[] = [];
  repeated = 0;

  /** A client has the answer to its request. */
  told(client: string, sequence: number, result: RequestResult): void {
    this.#told.push({ client, sequence, result });
  }

  applied(place: SimNode, entries: readonly Entry[], results: readonly ApplyResult<CommandResult>[]): void {
    entries.forEach((entry, at) => {
      const { index } = entry;
      demand(index <= this.#results.length, "nothing is applied before what is below it", { node: place.id, index });
      if (index === this.#results.length) this.#results.push(this.#apply(entry));
      const wanted = this.#results[index];
      const given = results[at]?.result;
      const isSame =
        given?.outcome === wanted?.outcome && (given === undefined || Number(given.index) === wanted?.index);
      demand(isSame, "a request is answered by what it did when it was carried out", {
        node: place.id,
        index,
        outcome: given?.outcome,
        carriedOutAt: given === undefined ? undefined : Number(given.index),
        wanted,
      });
    });
  }

  finished(): void {
    for (const { client, sequence, result } of this.#told) {
      const known = this.#clients.get(client)?.answers.get(sequence);
      demand(known !== undefined, "what a client was told is in the committed log", { client, sequence, result });
      const isSame = known.outcome === result.outcome && known.index === result.index && known.value === result.value;
      demand(isSame, "what a client was told is what was done", { client, sequence, result, known });
    }
  }

  #apply({ index, type, data }: Entry): RequestResult | undefined {
    if (type !== "command") return undefined;
    const command = fromBinary(CommandSchema, data);
    const { requestId } = command;
    if (requestId === undefined) return this.#carryOut(command, index);
    const sequence = Number(requestId.sequence);
    const client = this.#client(requestId.clientId);
    let result = client.answers.get(sequence);
    if (result !== undefined && sequence > client.floor) this.repeated += 1;
    else if (sequence <= client.floor) result = { outcome: CommandOutcome.RETRY_TOO_OLD, index, value: "" };
    else {
      result = this.#carryOut(command, index);
      client.answers.set(sequence, result);
    }
    client.floor = Math.max(client.floor, Number(requestId.acknowledgedThrough));
    return result;
  }

  #client(id: string): Client {
    return getOrAdd(this.#clients, id, () => ({ answers: new Map(), floor: 0 }));
  }

  #carryOut({ operation }: Command, index: number): RequestResult {
    const records = this.#records;
    const done = (outcome: CommandOutcome, value = ""): RequestResult => ({ outcome, index, value });
    if (operation.case === "put") {
      const { key, value } = operation.value;
      records.set(textOf(key), { value: textOf(value), version: index });
      return done(CommandOutcome.OK);
    }
    if (operation.case === "delete") {
      return done(records.delete(textOf(operation.value.key)) ? CommandOutcome.OK : CommandOutcome.NOT_FOUND);
    }
    if (operation.case !== "compareAndSet") throw new Error(`no client of the simulator sends a ${operation.case}`);
    const { key, expected, newValue } = operation.value;
    const present = records.get(textOf(key));
    const wanted = expected.case === "value" ? textOf(expected.value) : undefined;
    if (present === undefined && wanted !== undefined) return done(CommandOutcome.NOT_FOUND);
    if (present?.value !== wanted) return done(CommandOutcome.MISMATCH, present?.value);
    records.set(textOf(key), { value: textOf(newValue), version: index });
    return done(CommandOutcome.OK);
  }
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}
