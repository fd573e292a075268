import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  CompareAndSetRequestSchema,
  DeleteRequestSchema,
  PutRequestSchema,
  TxnRequestSchema,
} from "../../../../gen/cairn/v1/kv_pb.js";
import { CommandOutcome, CommandSchema } from "../../../../gen/cairn/v1/storage_pb.js";
import { decodeCommand, encodeCommand } from "../../../../src/machine/kv/command.js";
import { MemoryMachine } from "../../../../src/machine/kv/memory_machine.js";
import { NEWEST_RULES } from "../../../../src/machine/kv/session_limits.js";
import type { LogPosition } from "../../../../src/raft/types.js";
import { type CommandInit, writes } from "../../../../src/server/kv/key_value_calls.js";
import type { Random } from "../../../support/random.js";
import { type Hints, randomMessage } from "../../generate/messages.js";
import { mutated } from "../../generate/mutations.js";
import { anyBytes } from "../../generate/values.js";
import { expectThat } from "../../run/target.js";
import { type Decoder, expectAnyRefusal, unlessRefused } from "./decoder.js";

// Commands: from a client's request to the state of a replica.

/** Keys, clients and versions that meet each other. */
export const keyValueHints: Hints = (field, random) => {
  switch (field.name) {
    case "key":
    case "prefix":
    case "start":
    case "end":
    case "after":
      return random.oneIn(4) ? anyBytes(random, 6) : Buffer.from(`f/${random.whole(0, 12)}`);
    case "value":
    case "new_value":
    case "version":
    case "if_version":
    case "create_version":
      if (field.scalar !== undefined && field.message === undefined && field.name.includes("version")) {
        return BigInt(random.whole(0, 40));
      }
      return random.oneIn(3) ? undefined : Buffer.from(`v${random.whole(0, 5)}`);
    case "client_id":
      return `client-${random.whole(0, 3)}`;
    case "sequence":
      return BigInt(random.whole(1, 30));
    case "acknowledged_through":
    case "since":
      return BigInt(random.whole(0, 3));
    case "lease_id":
    case "lease_ids":
      return random.oneIn(2) ? 0n : BigInt(random.whole(1, 20));
    case "ttl_ms":
      return random.whole(1_000, 100_000);
    case "rules":
      return random.whole(0, NEWEST_RULES);
    default:
      return undefined;
  }
};

const SAMPLES: readonly CommandInit[] = [
  { operation: { case: "leaseGrant", value: { ttlMs: 10_000 } } },
  { operation: { case: "put", value: { key: Buffer.from("f/1"), value: Buffer.from("v1"), leaseId: 1n } } },
  {
    operation: { case: "put", value: { key: Buffer.from("f/2"), value: Buffer.alloc(300, "v") } },
    requestId: { clientId: "client-1", sequence: 1n, since: 1n },
  },
  {
    operation: {
      case: "compareAndSet",
      value: {
        key: Buffer.from("f/2"),
        expected: { case: "value", value: Buffer.from("v1") },
        newValue: Buffer.from("v2"),
      },
    },
    requestId: { clientId: "client-1", sequence: 2n, since: 1n },
  },
  {
    operation: {
      case: "txn",
      value: {
        compare: [{ key: Buffer.from("f/1"), expected: { case: "exists", value: true } }],
        then: [
          { operation: { case: "put", value: { key: Buffer.from("f/3"), value: Buffer.from("v3") } } },
          { operation: { case: "range", value: { keys: { prefix: Buffer.from("f/") } } } },
        ],
        otherwise: [{ operation: { case: "deleteRange", value: { keys: {} } } }],
      },
    },
    requestId: { clientId: "client-2", sequence: 1n, since: 1n },
  },
  { operation: { case: "delete", value: { key: Buffer.from("f/9"), ifVersion: 3n } } },
  { operation: { case: "leaseKeepAlive", value: { leaseIds: [1n] } } },
];

const ENCODED = SAMPLES.map((command) => encodeCommand(command));

/** The payload of a state that some commands have made, which ends at `at`. */
export async function payloadOfCommands(at: LogPosition): Promise<Buffer> {
  const machine = new MemoryMachine();
  const entries = Array.from({ length: at.index }, (_, place) => ({
    index: place + 1,
    term: at.term,
    type: "command" as const,
    data: ENCODED[place % ENCODED.length]!,
  }));
  machine.apply(entries);
  const view = await machine.capture();
  const pieces: Buffer[] = [];
  for await (const piece of view.payload()) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

/** Entries that one machine applies before it is replaced by an empty one. */
const ENTRIES_PER_MACHINE = 500;

let machine = new MemoryMachine();

/** Bytes of an entry that a replica must be able to apply, whatever they are. */
const applied: Decoder = {
  name: "command",
  draw: (random) =>
    random.oneIn(2)
      ? mutated(random, random.pick(ENCODED), random.pick(ENCODED))
      : randomMessage(random, CommandSchema, { wildness: random.pick([0, 0.02, 0.2]), hints: keyValueHints }),
  run(bytes) {
    if (machine.appliedIndex >= ENTRIES_PER_MACHINE) machine = new MemoryMachine();
    const index = machine.appliedIndex + 1;
    const command = decodeCommand(bytes);
    // A replica stops for the rules of a newer version, which no command of this one names.
    if ((command?.rules ?? 0) > NEWEST_RULES) return;
    const [result] = machine.apply([{ index, term: 1, type: "command", data: bytes }]);
    const isInvalid = result?.result?.outcome === CommandOutcome.INVALID;
    expectThat(command !== undefined || isInvalid, () => "bytes that are no command have an effect");
  },
};

const REQUESTS = {
  put: PutRequestSchema,
  delete: DeleteRequestSchema,
  compareAndSet: CompareAndSetRequestSchema,
  txn: TxnRequestSchema,
} as const;

function requestDecoder(name: keyof typeof REQUESTS): Decoder {
  const schema: DescMessage = REQUESTS[name];
  const { operationOf } = writes[name] as { operationOf(request: unknown): NonNullable<CommandInit["operation"]> };
  return {
    name: `${name} request`,
    draw: (random) => drawRequest(random, schema),
    run(bytes) {
      const request = unlessRefused(() => fromBinary(schema, bytes), expectAnyRefusal);
      if (request === undefined) return;
      const { requestId } = request as { requestId?: CommandInit["requestId"] };
      const operation = operationOf(request);
      const command = unlessRefused(() => encodeCommand({ operation, ...(requestId !== undefined && { requestId }) }));
      if (command === undefined) return;
      // What the server has let pass, every replica can carry out.
      expectThat(decodeCommand(command) !== undefined, () => "a command that was proposed is invalid to a replica");
    },
  };
}

function drawRequest(random: Random, schema: DescMessage): Buffer {
  const bytes = randomMessage(random, schema, { wildness: random.pick([0, 0, 0.02, 0.1]), hints: keyValueHints });
  return random.oneIn(3) ? mutated(random, bytes) : bytes;
}

/** Encodes a message from its fields. */
export function encoded<Schema extends DescMessage>(schema: Schema, fields: MessageInitShape<Schema>): Buffer {
  return Buffer.from(toBinary(schema, create(schema, fields)));
}

export const commandDecoders: readonly Decoder[] = [
  applied,
  ...(Object.keys(REQUESTS) as (keyof typeof REQUESTS)[]).map(requestDecoder),
];
