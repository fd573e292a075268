import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  CameBy,
  IntroduceRequestSchema,
  IntroduceResponseSchema,
  JoinRequestSchema,
} from "../../gen/cairn/v1/raft_pb.js";
import {
  introduceRequest,
  introduceResponse,
  toIntroduced,
  toIntroduction,
  toJoin,
} from "../../src/peers/introductions.js";
import { PROTOCOL_VERSION } from "../../src/peers/protocol.js";
import type { Introduced } from "../../src/raft/membership/introduction.js";

const incarnation = "0a".repeat(16);
const founders = [
  { name: "n1", address: "n1:1" },
  { name: "n2", address: "n2:1" },
];
const base = { index: 7, term: 2, sha256: "ab".repeat(32) };
const membership = [{ id: "n1", address: "n1:1", role: "voter", incarnation }] as const;
const rest = { name: "n2", incarnation, founders, base };
const leader = { name: "n1", address: "n1:1" };
const standings = [
  { kind: "new", promised: true },
  { kind: "retired" },
  { kind: "member", clusterId: "c1", membership: [...membership], membershipIndex: 9, leader },
  { kind: "member", clusterId: "c1", membership: [], membershipIndex: 0, leader: undefined },
] as const;

describe("the description that a node gives of itself on request (T5)", () => {
  test.each(standings)("arrives unchanged: $kind", (standing) => {
    const said: Introduced = { ...rest, standing };
    expect(toIntroduced(create(IntroduceResponseSchema, introduceResponse(said)))).toEqual(said);
  });

  test("answers a question that arrives unchanged", () => {
    const asked = { name: "n1", receiver: "n2", founders, base, founder: incarnation, askPromise: true };
    expect(toIntroduction(create(IntroduceRequestSchema, introduceRequest(asked)))).toEqual(asked);
  });

  const member = introduceResponse({ ...rest, standing: standings[2] });
  const known = member.standing as { case: "member"; value: { membership: { members: object[] } } };
  const [first] = known.value.membership.members;
  const asMember = (value: object) => ({
    ...member,
    standing: { case: "member", value: { ...known.value, ...value } },
  });
  const refused: readonly (readonly [string, object, RegExp])[] = [
    ["without a name", { ...member, name: "" }, /name/],
    ["with half an incarnation", { ...member, incarnation: new Uint8Array(8) }, /incarnation/],
    ["without a standing", { ...member, standing: { case: undefined } }, /standing is missing/],
    ["with two members of one name", asMember({ membership: { members: [first, first] } }), /membership: /],
    ["without a voter", asMember({ membership: { members: [{ ...first, role: 2 }] } }), /membership: /],
    ["with an index above the limit", asMember({ membershipIndex: 2n ** 60n }), /membership_index/],
    ["with a base of no digest", { ...member, base: { index: 7n, term: 2n, sha256: new Uint8Array(3) } }, /sha256/],
    ["with a founder of no name", { ...member, founders: [{ name: "", address: "n1:1" }] }, /name/],
    ["with a founder without an address", { ...member, founders: [{ name: "n1", address: "n1" }] }, /address of n1/],
    [
      "with an address that is too long",
      { ...member, founders: [{ name: "n1", address: `${"n".repeat(9000)}:1` }] },
      /address of n1/,
    ],
    ["with a leader without an address", asMember({ leaderAddress: "nowhere" }), /address of n1/],
    [
      "with more founders than there may be",
      { ...member, founders: Array.from({ length: 1001 }, () => leader) },
      /founders are named/,
    ],
  ];

  test.each(refused)("is refused %s", (_, message, text) => {
    const response = create(IntroduceResponseSchema, message as MessageInitShape<typeof IntroduceResponseSchema>);
    expect(() => toIntroduced(response)).toThrow(text);
  });
});

describe("a request to join (T5)", () => {
  const request = {
    protocolVersion: PROTOCOL_VERSION,
    clusterId: "c1",
    name: "n4",
    incarnation: Buffer.from(incarnation, "hex"),
    address: "n4:1",
    cameBy: CameBy.JOIN,
  };

  test("names the directory that joins, and its address", () => {
    const expected = { type: "join", id: "n4", incarnation, address: "n4:1", cameBy: "join" };
    expect(toJoin(create(JoinRequestSchema, request), "c1")).toEqual(expected);
  });

  const refused: readonly (readonly [string, object, string])[] = [
    ["for another cluster", { clusterId: "c2" }, "WRONG_CLUSTER"],
    ["of another protocol", { protocolVersion: 1 }, "WRONG_CLUSTER"],
    ["without an incarnation", { incarnation: new Uint8Array() }, "INVALID_ARGUMENT"],
    ["without a port", { address: "n4" }, "INVALID_ARGUMENT"],
    ["without a name", { name: "" }, "INVALID_ARGUMENT"],
  ];

  test.each(refused)("is refused %s", (_, change, code) => {
    expect(() => toJoin(create(JoinRequestSchema, { ...request, ...change }), "c1")).toThrow(
      expect.objectContaining({ code }),
    );
  });
});
