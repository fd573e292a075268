import { fromBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { TxnRequestSchema } from "../../../gen/cairn/v1/kv_pb.js";
import { CommandOutcome } from "../../../gen/cairn/v1/storage_pb.js";
import { checkKey } from "../../../src/base/key_checks.js";
import { limits } from "../../../src/base/limits.js";
import { decodeCommand, encodeCommand } from "../../../src/machine/kv/command.js";
import { writes } from "../../../src/server/kv/key_value_calls.js";
import {
  applyBytes,
  applyCommand,
  bytes,
  type CommandInit,
  contents,
  del,
  getCommand,
  load,
  machines,
  put,
  request,
  uncheckedBytes,
} from "../../support/machines/machines.js";

const longKey = "k".repeat(limits.keyBytes + 1);
const longValue = new Uint8Array(limits.valueBytes + 1);
const longId = "é".repeat(limits.clientIdBytes / 2 + 1);

const refused: readonly { what: string; command: CommandInit; code: string; names: string }[] = [
  { what: "no operation", command: {}, code: "INVALID_ARGUMENT", names: "operation" },
  { what: "an empty key", command: { operation: put("", "v") }, code: "INVALID_ARGUMENT", names: "key" },
  { what: "a long key to put", command: { operation: put(longKey, "v") }, code: "LIMIT_EXCEEDED", names: "keyBytes" },
  { what: "a long key to delete", command: { operation: del(longKey) }, code: "LIMIT_EXCEEDED", names: "keyBytes" },
  { what: "a long key to get", command: { operation: getCommand(longKey) }, code: "LIMIT_EXCEEDED", names: "keyBytes" },
  {
    what: "a long value",
    command: { operation: { case: "put", value: { key: bytes("k"), value: longValue } } },
    code: "LIMIT_EXCEEDED",
    names: "valueBytes",
  },
  {
    what: "a long new value",
    command: {
      operation: {
        case: "compareAndSet",
        value: { key: bytes("k"), expected: { case: "version", value: 1n }, newValue: longValue },
      },
    },
    code: "LIMIT_EXCEEDED",
    names: "valueBytes",
  },
  {
    what: "a comparison with nothing",
    command: { operation: { case: "compareAndSet", value: { key: bytes("k"), newValue: bytes("v") } } },
    code: "INVALID_ARGUMENT",
    names: "expected",
  },
  {
    what: "a load out of order",
    command: { operation: load(["b", ""], ["a", ""]) },
    code: "INVALID_ARGUMENT",
    names: "order",
  },
  {
    what: "a load with a key twice",
    command: { operation: load(["a", ""], ["a", ""]) },
    code: "INVALID_ARGUMENT",
    names: "once",
  },
  { what: "an empty client id", command: request("", 1, put("k", "v")), code: "INVALID_ARGUMENT", names: "client_id" },
  {
    what: "a long client id",
    command: request(longId, 1, put("k", "v")),
    code: "LIMIT_EXCEEDED",
    names: "clientIdBytes",
  },
  { what: "sequence 0", command: request("c", 0, put("k", "v")), code: "INVALID_ARGUMENT", names: "sequence" },
  {
    what: "a sequence above sequenceMax",
    command: { requestId: { clientId: "c", sequence: 2n ** 52n + 1n }, operation: put("k", "v") },
    code: "INVALID_ARGUMENT",
    names: "sequenceMax",
  },
  {
    what: "an acknowledgement of itself",
    command: request("c", 3, put("k", "v"), 3),
    code: "INVALID_ARGUMENT",
    names: "acknowledged_through",
  },
];

test.each(refused)("encoding $what is refused with $code", ({ command, code, names }) => {
  expect(() => encodeCommand(command)).toThrow(
    expect.objectContaining({ code, message: expect.stringContaining(names) }),
  );
});

test("a command that does not fit an entry is refused, naming the limit", () => {
  const half = new Uint8Array(limits.valueBytes - 1000);
  const pairs = ["a", "b"].map((key) => ({ key: bytes(key), value: half }));
  expect(() => encodeCommand({ operation: { case: "load", value: { pairs } } })).toThrow(
    expect.objectContaining({ code: "LIMIT_EXCEEDED", message: expect.stringContaining("entryBytes") }),
  );
});

test("a command that was encoded is decoded to the same", () => {
  const command = decodeCommand(encodeCommand(request("client", 7, put("key", "value"), 5)));
  expect(command).toMatchObject({
    requestId: { clientId: "client", sequence: 7n, acknowledgedThrough: 5n },
    operation: { case: "put", value: { key: bytes("key"), value: bytes("value") } },
  });
});

test("a key that is too long for a read to ask for is refused", () => {
  expect(() => checkKey(bytes(""))).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  expect(() => checkKey(bytes(longKey))).toThrow(expect.objectContaining({ code: "LIMIT_EXCEEDED" }));
  checkKey(bytes(longKey.slice(1)));
});

describe.each(machines)("the $kind machine", ({ make }) => {
  test.each(refused)("answers INVALID to $what and changes nothing", async ({ command }) => {
    const machine = await make();
    applyCommand(machine, { operation: put("here", "1") });
    const result = applyBytes(machine, uncheckedBytes(command));
    expect(result).toMatchObject({ outcome: CommandOutcome.INVALID, index: 2n });
    expect(contents(machine)).toEqual(["here=1@1"]);
    expect(machine.sessionCount).toBe(0);
  });

  test.each([
    ["bytes that are no message", Uint8Array.of(0xff, 0xff, 0xff)],
    ["a message that is cut off", encodeCommand({ operation: put("k", "v") }).subarray(0, 5)],
    ["no bytes", new Uint8Array(0)],
    ["an operation of a later program", Uint8Array.of(0xfa, 0x01, 0x00)],
  ])("answers INVALID to %s", async (_, data) => {
    const machine = await make();
    expect(applyBytes(machine, data)).toMatchObject({ outcome: CommandOutcome.INVALID, index: 1n });
    expect(machine.appliedIndex).toBe(1);
  });

  test("forgets an invalid command, so that its sequence may still be used", async () => {
    const machine = await make();
    expect(applyCommand(machine, request("c", 1, put("", "v"))).outcome).toBe(CommandOutcome.INVALID);
    expect(machine.sessionCount).toBe(0);
    expect(applyCommand(machine, request("c", 1, put("k", "v"))).outcome).toBe(CommandOutcome.OK);
    expect(contents(machine)).toEqual(["k=v@2"]);
  });
});

test("fields that this version does not know are left out of a command, however deep they are nested", () => {
  // As deep as a request is decoded; the command has one more level around it.
  const groups = Buffer.concat([Buffer.alloc(97, 0x7b), Buffer.alloc(97, 0x7c)]);
  const inField = (tag: number, content: Uint8Array) => {
    const bytes = [0x80 | (content.byteLength & 0x7f), content.byteLength >> 7];
    return Buffer.concat([Buffer.from([tag, ...bytes]), content]);
  };
  const putOperation = Buffer.concat([Buffer.from([0x0a, 0x01, 0x6b]), groups]);
  const request = fromBinary(TxnRequestSchema, inField(0x12, inField(0x0a, putOperation)));
  const known = fromBinary(TxnRequestSchema, Buffer.from([0x12, 0x05, 0x0a, 0x03, 0x0a, 0x01, 0x6b]));
  const command = encodeCommand({ operation: writes.txn.operationOf(request) });
  expect(decodeCommand(command)).toBeDefined();
  expect(command).toEqual(encodeCommand({ operation: writes.txn.operationOf(known) }));
});
