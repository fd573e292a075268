import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CommandOutcome } from "../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../src/base/limits.js";
import type { StoredLease } from "../../../src/machine/kv/leases/lease_store.js";
import {
  encodePairsPayload,
  encodePayload,
  type PayloadKey,
  type PayloadSession,
} from "../../../src/machine/kv/payload.js";
import { PayloadDecoder } from "../../../src/machine/kv/payload_decoder.js";
import { FIRST_HEAD, type SessionsHead, sessionRules } from "../../../src/machine/kv/session_limits.js";
import {
  applyCommand,
  applyOperation,
  bytes,
  countedRequest,
  grant,
  inPieces,
  keepAlive,
  leasedPut,
  machines,
  metaAt,
  payloadOf,
  put,
  request,
  skipTo,
  text,
} from "../../support/machines/machines.js";
import { runs } from "../../support/run/tries_all.js";

const BOUNDS = { sessions: 4, answers: 3, valueBytes: 8, bytes: 700 };
const MAX = Number.MAX_SAFE_INTEGER;

/** A state with one key and one session, written out by hand from the table at the top of payload.ts. */
const GOLDEN = {
  preamble: "434149524e4b56" + "01" + "0300000000000000" + "0200000000000000",
  key: "01" + "01" + "01" + "02" + "02" + "6b" + "7632",
  session: "02" + "01" + "01" + "03" + "63",
  answer: "03" + "02" + "04" + "08011003",
  end: "04" + "01" + "01" + "01",
};
const golden = (changes: Partial<typeof GOLDEN> = {}, after = "") =>
  Buffer.from(Object.values({ ...GOLDEN, ...changes }).join("") + after, "hex");

/** The same state under the second rules: a session that was last used at index 1 is forgotten. */
const GOLDEN_2 = {
  preamble: GOLDEN.preamble.replace("4b5601", "4b5602"),
  key: GOLDEN.key,
  head: "05" + "01",
  session: GOLDEN.session,
  answer: GOLDEN.answer,
  end: GOLDEN.end,
};
/** A state of the fourth rules, with a lease that has one key, at index 3 of term 1. */
const GOLDEN_4 = {
  preamble: "434149524e4b56" + "04" + "0300000000000000" + "0100000000000000",
  lease: "06" + "01" + "904e" + "01" + "01",
  key: "07" + "01" + "01" + "02" + "02" + "02" + "6b" + "7632",
  head: "05" + "00",
  end: "04" + "01" + "00" + "00" + "01",
};
const golden4 = (changes: Partial<typeof GOLDEN_4> = {}) =>
  Buffer.from(Object.values({ ...GOLDEN_4, ...changes }).join(""), "hex");
/** Three sessions with the longest ids. */
const longId = (first: string) => `0280020103${first}${"61".repeat(255)}`;
const FILLED = longId("63") + longId("64") + longId("65");

const golden2 = (changes: Partial<typeof GOLDEN_2> = {}) =>
  Buffer.from(Object.values({ ...GOLDEN_2, ...changes }).join(""), "hex");

interface Contents {
  head: SessionsHead;
  leases: StoredLease[];
  keys: { key: string; createVersion: number; version: number; value: string; lease?: number }[];
  sessions: { clientId: string; floor: number; lastUsed: number; answers: [number, string][] }[];
}

/** Decodes pieces that are overwritten once they have been taken, as a reader of files may do. */
function decode(pieces: Iterable<Uint8Array>, at = { index: 3, term: 2 }, bounds = BOUNDS): Contents {
  const contents: Contents = { head: FIRST_HEAD, leases: [], keys: [], sessions: [] };
  const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");
  const decoder = new PayloadDecoder(at, bounds, {
    lease: (lease) => void contents.leases.push(lease),
    key: (key, record) => void contents.keys.push({ ...record, key: hex(key), value: hex(record.value) }),
    sessionsHead: (head) => void Object.assign(contents, { head }),
    session: (head) => void contents.sessions.push({ ...head, answers: [] }),
    answer: (sequence, answer) => void contents.sessions.at(-1)!.answers.push([sequence, hex(answer)]),
  });
  for (const piece of pieces) {
    const lent = Uint8Array.from(piece);
    decoder.push(lent);
    lent.fill(0xee);
  }
  decoder.finish();
  return contents;
}

function* cut(data: Uint8Array, pieceBytes: number): Generator<Uint8Array> {
  for (let from = 0; from < data.byteLength; from += pieceBytes) yield data.subarray(from, from + pieceBytes);
}

const joined = (pieces: Iterable<Uint8Array>) => Buffer.concat(Array.from(pieces, (piece) => Buffer.from(piece)));

const corrupt = (what = "") => expect.objectContaining({ code: "CORRUPT", message: expect.stringContaining(what) });

describe.each(machines)("the $kind machine", ({ make }) => {
  test("writes exactly the bytes of the table", async () => {
    const machine = await make();
    applyOperation(machine, put("k", "v"));
    applyOperation(machine, put("k", "v2"));
    applyCommand(machine, countedRequest("c", 2, put("x", ""), 1));
    applyCommand(machine, { operation: { case: "delete", value: { key: bytes("x") } } });
    const ofIndex4 = (preamble: string) =>
      preamble.replace("03000000", "04000000").replace("0200000000000000", "0100000000000000");
    const expected = golden({ preamble: ofIndex4(GOLDEN.preamble) });
    expect((await payloadOf(machine)).toString("hex")).toBe(expected.toString("hex"));
    // The same answer again, which now names newer rules.
    applyCommand(machine, request("c", 2, put("x", "")));
    const preamble = ofIndex4(GOLDEN_2.preamble).replace("04000000", "05000000").replace("4b5602", "4b5603");
    const session = GOLDEN.session.replace("0363", "0563");
    const renewed = golden2({ preamble, head: "0500", session });
    expect((await payloadOf(machine)).toString("hex")).toBe(renewed.toString("hex"));
  });

  test("writes exactly the bytes of the table with a lease", async () => {
    const machine = await make();
    for (const operation of [grant(10_000), leasedPut("k", "v2", 1), keepAlive(1)]) {
      applyCommand(machine, { rules: sessionRules.leased, operation });
    }
    expect((await payloadOf(machine)).toString("hex")).toBe(golden4().toString("hex"));
    const other = await make();
    await other.restore(inPieces(golden4(), 5), metaAt({ index: 3, term: 1 }));
    expect((await payloadOf(other)).toString("hex")).toBe(golden4().toString("hex"));
  });

  test("writes an empty state", async () => {
    const machine = await make();
    skipTo(machine, 300, 5);
    expect((await payloadOf(machine)).toString("hex")).toBe(`434149524e4b56012c01000000000000050000000000000004000000`);
  });

  test("reads its golden bytes one at a time", async () => {
    const machine = await make();
    await machine.restore(inPieces(golden(), 1), metaAt({ index: 3, term: 2 }));
    expect(machine.appliedIndex).toBe(3);
    const record = machine.get(bytes("k"))!;
    expect({ ...record, value: text(record.value) }).toEqual({ createVersion: 1, version: 2, value: "v2" });
    expect(await payloadOf(machine)).toEqual(golden());
    expect(applyCommand(machine, request("c", 2, put("k", "again")), 2).index).toBe(3n);
  });

  test("reads its golden bytes of the second version one at a time", async () => {
    const machine = await make();
    await machine.restore(inPieces(golden2(), 1), metaAt({ index: 3, term: 2 }));
    expect(await payloadOf(machine)).toEqual(golden2());
    expect(applyCommand(machine, request("d", 1, put("k", "again")), 2).outcome).toBe(CommandOutcome.SESSION_EXPIRED);
    expect(applyCommand(machine, request("c", 2, put("k", "again")), 2).index).toBe(3n);
  });

  test("hands out pieces of bounded size, also of a value that is larger", async () => {
    const machine = await make();
    const value = Buffer.alloc(limits.valueBytes, 1);
    applyCommand(machine, { operation: { case: "put", value: { key: bytes("big"), value } } });
    for (let at = 0; at < 3000; at++) applyOperation(machine, put(`key ${at}`, "v".repeat(100)));
    const view = await machine.capture();
    const sizes: number[] = [];
    for await (const piece of view.payload()) sizes.push(piece.byteLength);
    view.release();
    expect([limits.payloadPieceBytes, limits.snapshotWriteBytes]).toContain(Math.max(...sizes));
    expect(sizes.length).toBeLessThan(2 + (limits.valueBytes + 3000 * 130) / (limits.payloadPieceBytes / 2));
  });
});

test("the golden bytes decode to the state that they describe", () => {
  const contents = {
    leases: [],
    keys: [{ key: "6b", createVersion: 1, version: 2, value: "7632" }],
    sessions: [{ clientId: "c", floor: 1, lastUsed: 3, answers: [[2, "08011003"]] }],
  };
  for (const pieceBytes of [1, 2, 3, 7, 24, 25, 1000]) {
    expect(decode(cut(golden(), pieceBytes))).toEqual({ head: FIRST_HEAD, ...contents });
    expect(decode(cut(golden2(), pieceBytes))).toEqual({ head: { rules: 2, horizon: 1 }, ...contents });
  }
});

describe("a payload is refused", () => {
  test.each([
    [
      "with another index than the snapshot's",
      golden({ preamble: `434149524e4b5601${"04".padEnd(16, "0")}${"02".padEnd(16, "0")}` }),
      "index 4 of term 2",
    ],
    [
      "with another term than the snapshot's",
      golden({ preamble: `434149524e4b5601${"03".padEnd(16, "0")}${"01".padEnd(16, "0")}` }),
      "index 3 of term 1",
    ],
    ["of another format version", golden({ preamble: GOLDEN.preamble.replace("5601", "5606") }), "format version is 6"],
    ["that is no payload", golden({ preamble: GOLDEN.preamble.replace("43", "44") }), "not Cairn's"],
    ["with a part of unknown tag", golden({ key: "06" }), "tag 6"],
    ["of version 1 with a head of sessions", golden({ answer: "0501" }), "tag 5"],
    ["of version 2 without a head of sessions", golden2({ head: "" }), "tag 2 stands before the head"],
    ["of version 2 that ends without a head of sessions", golden2({ head: "", session: "", answer: "" }), "tag 4"],
    ["with two heads of sessions", golden2({ head: "05010501" }), "tag 5"],
    ["with a key behind the head of sessions", golden2({ head: `0501${GOLDEN.key}` }), "tag 1"],
    ["with an answer behind the head of sessions", golden2({ session: "" }), "tag 3"],
    ["with a horizon above the index", golden2({ head: "0504" }), "used at index 4"],
    ["with a session used at the horizon", golden2({ head: "0503" }), "used at index 3"],
    ["with an answer over the limit of version 2", golden2({ answer: "030249" }), "cannot have 73 bytes"],
    ["with sessions over their limit", golden2({ answer: FILLED }), "over 700 bytes"],
    ["with an answer before any session", golden({ session: "" }), "tag 3"],
    ["with a key behind a session", golden({ answer: GOLDEN.key }), "tag 1"],
    ["with an empty key", golden({ key: "0100010200" }), "0 bytes"],
    ["with a key over the limit", golden({ key: "0181080102007777" }), "1025 bytes"],
    ["with a value over the limit", golden({ key: "0101010281806077" }), "1572865 bytes"],
    ["with a create version above the version", golden({ key: "01010302026b7632" }), "create version 3"],
    ["with create version 0", golden({ key: "01010002026b7632" }), "create version 0"],
    ["with a version above the index", golden({ key: "01010104026b7632" }), "version 4"],
    ["with a key twice", golden({ key: GOLDEN.key + GOLDEN.key }), "keys do not ascend"],
    ["with keys out of order", golden({ key: `${GOLDEN.key}01020102006a6a` }), "keys do not ascend"],
    ["with a client id twice", golden({ answer: GOLDEN.session }), "client ids do not ascend"],
    ["with an empty client id", golden({ session: "02000103" }), "0 bytes"],
    ["with a client id over the limit", golden({ session: "028102010363" }), "257 bytes"],
    ["with a client id that is not UTF-8", golden({ session: "02010103ff" }), "not UTF-8"],
    ["with a session never used", golden({ session: "0201010063" }), "used at index 0"],
    ["with a session used above the index", golden({ session: "0201010463" }), "used at index 4"],
    [
      "with too many sessions",
      golden({ answer: ["64", "65", "66", "67"].map((id) => `02010103${id}`).join("") }),
      "over 4 sessions",
    ],
    ["with an answer at the floor", golden({ answer: "03010408011003" }), "do not ascend from its floor"],
    ["with an answer twice", golden({ answer: GOLDEN.answer + GOLDEN.answer }), "do not ascend from its floor"],
    ["with too many answers", golden({ answer: "030200030300030400030500" }), "over 3 answers"],
    ["with an answer over the limit", golden({ answer: "0302c1806008" }), "cannot have 1572929 bytes"],
    ["with another number of keys", golden({ end: "04020101" }), "counts 2 keys"],
    ["with another number of sessions", golden({ end: "04010001" }), "0 sessions"],
    ["with another number of answers", golden({ end: "04010102" }), "2 answers"],
    ["with bytes behind its end", golden({}, "00"), "bytes follow"],
    ["with a number in a longer form", golden({ key: "01810001026b" }), "shortest form"],
    ["with a number above 2^53 - 1", golden({ session: "0201" + "ffffffffffffff7f" + "0363" }), "shortest form"],
    ["with a number without end", golden({ session: "0201" + "ffffffffffffffffff" }), "shortest form"],
  ])("when it comes %s", (_, data, what) => {
    expect(() => decode([data])).toThrow(corrupt(what));
    expect(() => decode(cut(data, 1))).toThrow(corrupt(what));
  });

  test("when it ends early, at whatever byte", () => {
    const whole = golden();
    for (let length = 0; length < whole.byteLength; length++) {
      expect(() => decode([whole.subarray(0, length)])).toThrow(corrupt("ends before its end mark"));
    }
  });

  test("with the place in the message", () => {
    expect(() => decode(cut(golden({ end: "05" }), 5))).toThrow(corrupt("at byte 44"));
  });
});

describe("a payload with leases is refused when", () => {
  const LEASE = GOLDEN_4.lease;
  const KEY = GOLDEN_4.key;
  test.each<[string, Partial<typeof GOLDEN_4>, string]>([
    ["a key has a lease that is not there", { key: KEY.replace("0701", "0702") }, "cannot be attached to lease 2"],
    ["a lease has fewer keys than it counts", { key: "", end: "0400000001" }, "lease 1 has fewer keys"],
    ["a lease has more keys than it counts", { lease: "0601904e0100" }, "which has no further key"],
    ["a lease is missing at the end", { lease: `${LEASE}0602904e0000` }, "it counts 1 leases, but holds 2"],
    ["ids of leases do not ascend", { lease: LEASE + LEASE }, "cannot have the id 1 here"],
    ["a lease is newer than the state", { lease: "0604904e0101" }, "cannot have the id 4 here"],
    ["the time to live is too short", { lease: "0601010101" }, "cannot have 1 ms to live"],
    ["a lease follows a key", { key: `${KEY}0602904e0000` }, "a part with tag 6"],
    ["its rules have no leases", { preamble: GOLDEN_4.preamble.replace("4b5604", "4b5603") }, "a part with tag 6"],
    [
      "its rules have no keys with leases",
      { preamble: GOLDEN_4.preamble.replace("4b5604", "4b5603"), lease: "" },
      "a part with tag 7",
    ],
  ])("%s", (_, changes, what) => {
    expect(() => decode(cut(golden4(changes), 3), { index: 3, term: 1 })).toThrow(corrupt(what));
  });
});

test("a length is checked against its limit before memory is allocated for it", () => {
  const decoder = new PayloadDecoder({ index: 3, term: 2 }, BOUNDS, {
    lease() {},
    key() {},
    sessionsHead() {},
    session() {},
    answer() {},
  });
  decoder.push(Buffer.from(GOLDEN.preamble, "hex"));
  // A value of 2^50 bytes is announced; none of them has come.
  expect(() => decoder.push(Buffer.from("010101028080808080808002", "hex"))).toThrow(corrupt());
});

const keyBytes = fc.uint8Array({ minLength: 1, maxLength: 6 }).map((key) => Buffer.from(key));
const keysOf = fc
  .uniqueArray(fc.record({ key: keyBytes, value: fc.uint8Array({ maxLength: 300 }) }), {
    selector: ({ key }) => key.toString("hex"),
    maxLength: 30,
  })
  .map((pairs) => pairs.sort((a, b) => Buffer.compare(a.key, b.key)));
const sequencesOf = fc
  .uniqueArray(fc.integer({ min: 1, max: MAX }), { maxLength: 3 })
  .map((all) => all.sort((a, b) => a - b));
const sessionsOf = fc
  .uniqueArray(
    fc.record({
      clientId: fc
        .string({ unit: "grapheme", minLength: 1, maxLength: 4 })
        .filter((id) => Buffer.byteLength(id) <= 256),
      lastUsed: fc.integer({ min: 1, max: MAX }),
      sequences: sequencesOf,
    }),
    { selector: ({ clientId }) => clientId, maxLength: 4 },
  )
  .map((all) => all.sort((a, b) => Buffer.compare(Buffer.from(a.clientId), Buffer.from(b.clientId))));

test("any encoded payload is decoded to the same from pieces of any size", () => {
  fc.assert(
    fc.property(keysOf, sessionsOf, fc.integer({ min: 1, max: 400 }), (pairs, clients, pieceBytes) => {
      const at = { index: MAX, term: MAX };
      const keys: PayloadKey[] = pairs.map((pair, n) => ({ ...pair, createVersion: n + 1, version: MAX - n }));
      const sessions: PayloadSession[] = clients.map(({ clientId, lastUsed, sequences }) => ({
        clientId,
        floor: 0,
        lastUsed,
        answers: sequences.map((sequence) => ({ sequence, answer: bytes(`answer ${sequence}`) })),
      }));
      const source = { leases: () => [], keys: () => keys, sessionsHead: FIRST_HEAD, sessions: () => sessions };
      const encoded = joined(encodePayload(at, source));
      const { keys: gotKeys, sessions: gotSessions } = decode(cut(encoded, pieceBytes), at);
      const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");
      expect(gotKeys).toEqual(keys.map((key) => ({ ...key, key: hex(key.key), value: hex(key.value) })));
      expect(gotSessions).toEqual(
        sessions.map((session) => ({
          ...session,
          answers: [...session.answers].map(({ sequence, answer }) => [sequence, hex(answer)]),
        })),
      );
    }),
    { numRuns: runs(70, 200) },
  );
});

test("one flipped bit is refused, or lies in the bytes of a key, value, id or answer, or in a number with room for it", () => {
  for (const whole of [golden(), golden2()]) expectFlipsAreSeen(whole);
  expectFlipsAreSeen(golden4(), { index: 3, term: 1 });
});

function expectFlipsAreSeen(whole: Buffer, position = { index: 3, term: 2 }): void {
  for (let at = 0; at < whole.byteLength * 8; at++) {
    const damaged = Buffer.from(whole);
    damaged[at >> 3]! ^= 1 << (at & 7);
    try {
      // What is accepted must be read as just the bytes that are there: no two payloads mean the same state.
      expect(decode([damaged], position)).not.toEqual(decode([whole], position));
    } catch (error) {
      expect(error).toMatchObject({ code: "CORRUPT" });
    }
  }
}

describe("a payload that is made from pairs", () => {
  const at = { index: 9, term: 4 };
  const pair = (key: string, value = "") => ({ key: bytes(key), value: bytes(value) });

  test("is that of a state whose keys were all written at its index", () => {
    const encoded = joined(encodePairsPayload([pair("a", "1"), pair("ab", "2")], at));
    expect(decode([encoded], at)).toEqual({
      head: FIRST_HEAD,
      leases: [],
      keys: [
        { key: "61", createVersion: 9, version: 9, value: "31" },
        { key: "6162", createVersion: 9, version: 9, value: "32" },
      ],
      sessions: [],
    });
  });

  test.each(machines)("equals the one that the $kind machine writes after a load at that index", async ({ make }) => {
    const machine = await make();
    skipTo(machine, 8, 4);
    const pairs = [pair("a", "1"), pair("b", "2")];
    applyCommand(machine, { operation: { case: "load", value: { pairs } } }, 4);
    expect(joined(encodePairsPayload(pairs, at))).toEqual(await payloadOf(machine));
  });

  test.each([
    ["out of order", [pair("b"), pair("a")], at, "INVALID_ARGUMENT"],
    ["with a key twice", [pair("a"), pair("a")], at, "INVALID_ARGUMENT"],
    ["with an empty key", [pair("")], at, "INVALID_ARGUMENT"],
    ["at index 0", [pair("a")], { index: 0, term: 0 }, "INVALID_ARGUMENT"],
    ["with a long key", [pair("k".repeat(limits.keyBytes + 1))], at, "LIMIT_EXCEEDED"],
    ["with a long value", [pair("k", "v".repeat(limits.valueBytes + 1))], at, "LIMIT_EXCEEDED"],
  ])("is refused %s", (_, pairs, position, code) => {
    expect(() => joined(encodePairsPayload(pairs, position))).toThrow(expect.objectContaining({ code }));
  });
});
