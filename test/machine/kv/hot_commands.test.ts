import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { CommandResultSchema } from "../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../src/base/limits.js";
import { commandResult, decodeAnyCommand, decodeCommand, encodeResult } from "../../../src/machine/kv/command.js";
import { hotCommand } from "../../../src/machine/kv/hot/hot_commands.js";
import {
  bytes,
  cas,
  del,
  getCommand,
  leasedPut,
  put,
  request,
  uncheckedBytes,
} from "../../support/machines/machines.js";
import { runs } from "../../support/run/tries_all.js";

const key = fc.oneof(fc.string({ maxLength: 6 }), fc.constant("k".repeat(limits.keyBytes + 1)));
const value = fc.oneof(fc.string({ maxLength: 6 }), fc.constant("v".repeat(200)));
const operation = fc.oneof(
  fc.tuple(key, value).map(([k, v]) => put(k, v)),
  key.map(del),
  key.map(getCommand),
  fc.tuple(key, value, value, fc.boolean()).map(([k, e, v, c]) => cas(k, e, v, c)),
  fc.tuple(key, fc.maxSafeNat(), value, fc.boolean()).map(([k, e, v, c]) => cas(k, e, v, c)),
  fc.tuple(key, value, fc.nat(3)).map(([k, v, lease]) => leasedPut(k, v, lease)),
  key.map((k) => ({ case: "delete", value: { key: bytes(k), ifVersion: 3n } }) as const),
);
const number = fc.oneof(fc.nat(300), fc.maxSafeNat());
const command = fc.oneof(
  operation.map((op) => ({ operation: op })),
  fc.tuple(operation, fc.nat(5)).map(([op, rules]) => ({ operation: op, rules })),
  fc
    .tuple(
      fc.oneof(fc.string({ maxLength: 40 }), fc.constantFrom("a client", "é", "")),
      number,
      operation,
      number,
      number,
    )
    .map(([client, sequence, op, acknowledged, since]) => request(client, sequence, op, acknowledged, since)),
);

test("a command is decoded to the same by both decoders", () => {
  fc.assert(
    fc.property(command, (init) => {
      const data = uncheckedBytes(init);
      expect(decodeCommand(data)).toStrictEqual(decodeAnyCommand(data));
    }),
    { numRuns: runs(500, 5000) },
  );
});

test("mutated, cut and joined commands are decoded to the same by both decoders", () => {
  const change = fc.record({ at: fc.nat(), to: fc.nat(255), kind: fc.constantFrom("set", "insert", "remove", "cut") });
  fc.assert(
    fc.property(command, command, fc.boolean(), fc.array(change, { maxLength: 3 }), (one, two, isJoined, changes) => {
      const data = [...uncheckedBytes(one), ...(isJoined ? uncheckedBytes(two) : [])];
      for (const { at, to, kind } of changes) {
        const place = at % Math.max(1, Math.min(data.length, 40));
        if (kind === "set") data[place] = to;
        else if (kind === "insert") data.splice(place, 0, to);
        else if (kind === "remove") data.splice(place, 1);
        else data.length = Math.min(data.length, at % (data.length + 1));
      }
      const mutated = Uint8Array.from(data);
      expect(decodeCommand(mutated)).toStrictEqual(decodeAnyCommand(mutated));
    }),
    { numRuns: runs(2000, 50_000) },
  );
});

test("the frequent commands are decoded by hand, with numbers of up to 49 bits", () => {
  const largest = 2 ** 49 - 1;
  for (const op of [
    put("k", "v"),
    put("k", ""),
    del("k"),
    getCommand("k"),
    cas("k", "e", "v"),
    cas("k", largest, "v", true),
  ]) {
    expect(hotCommand(uncheckedBytes({ operation: op }))).toBeDefined();
    expect(hotCommand(uncheckedBytes(request("client", largest, op, largest - 1, 7)))).toBeDefined();
  }
  expect(hotCommand(uncheckedBytes({ operation: leasedPut("k", "v", 1) }))).toBeUndefined();
});

test("keys and values point into the entry", () => {
  const data = Buffer.from(uncheckedBytes({ operation: put("key", "value") }));
  const decoded = hotCommand(data)?.operation;
  expect(decoded?.case === "put" && decoded.value.value.buffer).toBe(data.buffer);
});

test("results are made and encoded as the generated code does it", () => {
  fc.assert(
    fc.property(fc.nat(8), number, fc.uint8Array({ maxLength: 3 }), number, (outcome, index, data, version) => {
      const made = commandResult(outcome, index, data, version);
      const init = { outcome, index: BigInt(index), value: data, version: BigInt(version) };
      const generated = create(CommandResultSchema, init);
      expect(made).toStrictEqual(generated);
      expect(Buffer.from(encodeResult(made))).toEqual(Buffer.from(toBinary(CommandResultSchema, generated)));
    }),
    { numRuns: runs(300, 3000) },
  );
});
