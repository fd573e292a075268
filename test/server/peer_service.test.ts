import type { MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AppendEntriesRejection, type AppendEntriesRequestSchema } from "../../gen/cairn/v1/raft_pb.js";
import { EntryType } from "../../gen/cairn/v1/storage_pb.js";
import type { CairnErrorCode } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import { NEWEST_RULES } from "../../src/machine/kv/session_limits.js";
import type { Entry } from "../../src/raft/types.js";
import type { KeyValueNode } from "../../src/server/kv/key_value_node.js";
import { failure } from "../support/conditions.js";
import { ActingLeader, contentsOf, putEntries } from "../support/nodes/acting_leader.js";
import { collect, headerTo, serve } from "../support/nodes/served_node.js";

type AppendInit = MessageInitShape<typeof AppendEntriesRequestSchema>;
type Served = Awaited<ReturnType<typeof serve>>;

const types = { command: EntryType.COMMAND, "no-op": EntryType.NO_OP, configuration: EntryType.CONFIGURATION };

function toMessage({ index, term, type, data }: Entry) {
  return { index: BigInt(index), term: BigInt(term), type: types[type], data };
}

function appendRequest(node: KeyValueNode, entries: readonly Entry[], change: object = {}): AppendInit {
  const first = entries[0]?.index ?? 1;
  return {
    header: headerTo(node),
    term: 1n,
    leaderId: "n9",
    prevLogIndex: BigInt(first - 1),
    prevLogTerm: first === 1 ? 0n : 1n,
    entries: entries.map(toMessage),
    ...change,
  };
}

/** Sends requests on one stream, and ends it; resolves with the answers. */
async function append({ raft }: Served, ...requests: AppendInit[]) {
  const stream = raft.appendEntries();
  const answers = collect(stream.responses);
  answers.catch(() => {});
  for (const request of requests) await stream.send(request).catch(() => {});
  stream.end();
  return answers;
}

describe("RequestVote", () => {
  test("grants a vote once a term, and says when it would grant one", async () => {
    const { raft, node } = await serve();
    const request = { header: headerTo(node), term: 3n, candidateId: "n9", lastLogIndex: 0n, lastLogTerm: 0n };
    expect(await raft.requestVote({ ...request, preVote: true })).toMatchObject({ voteGranted: true, term: 3n });
    expect(node.raft.term).toBe(0);
    expect(await raft.requestVote(request)).toMatchObject({ voteGranted: true, term: 3n });
    const other = { ...request, header: headerTo(node, { senderId: "n8" }), candidateId: "n8" };
    expect(await raft.requestVote(other)).toMatchObject({ voteGranted: false, term: 3n });
    expect(await raft.requestVote({ ...other, term: 2n })).toMatchObject({ voteGranted: false, term: 3n });
  });

  test("refuses a sender that is not the node it claims to be", async () => {
    const { raft, node } = await serve();
    const request = { header: headerTo(node), term: 3n, candidateId: "n8" };
    await failure("INVALID_ARGUMENT", raft.requestVote(request), 'candidate_id is "n8", but header.sender_id "n9"');
    await failure("INVALID_ARGUMENT", raft.requestVote({ ...request, candidateId: "n9", term: 0n }), "term is missing");
    const long = "n".repeat(65);
    const named = { ...request, candidateId: long, header: headerTo(node, { senderId: long }) };
    await failure("INVALID_ARGUMENT", raft.requestVote(named), "idCharacters");
    expect(node.raft.term).toBe(0);
  });
});

describe("a peer of the wrong identity", () => {
  const wrong: readonly [string, CairnErrorCode, object | undefined, string][] = [
    ["without a header", "INVALID_ARGUMENT", undefined, "header is missing"],
    ["of another protocol", "WRONG_CLUSTER", { protocolVersion: 1 }, "header.protocol_version is 1, expected 2"],
    ["of another cluster", "WRONG_CLUSTER", { clusterId: "c2" }, 'header.cluster_id is "c2", expected "cluster-1"'],
    ["for another node", "WRONG_CLUSTER", { receiverId: "n2" }, 'header.receiver_id is "n2", expected "n1"'],
    ["of nobody", "INVALID_ARGUMENT", { senderId: "" }, "header.sender_id"],
    ["of a name that is none", "INVALID_ARGUMENT", { senderId: "n 9" }, "header.sender_id"],
  ];

  test.each(wrong)("has a message %s refused by every method", async (_what, code, change, text) => {
    const served = await serve();
    const { node, raft } = served;
    const header = change === undefined ? undefined : headerTo(node, change);
    const headed = header === undefined ? {} : { header };
    const candidateId = (change as { senderId?: string } | undefined)?.senderId ?? "n9";
    await failure(code, raft.requestVote({ ...headed, term: 1n, candidateId }), text);
    const { header: _, ...request } = appendRequest(node, putEntries(1, 1)) as { header?: object };
    await failure(code, append(served, { ...request, ...headed } as AppendInit), text);
    const install = raft.installSnapshot();
    await install.send({ message: { case: "offer", value: { ...headed, term: 1n } } }).catch(() => {});
    await failure(code, collect(install.responses), text);
    expect(node.raft.log.last.index).toBe(0);
    expect(node.raft.term).toBe(0);
  });

  test("of another protocol is told apart from a stranger in the status", async () => {
    const { node, raft, admin } = await serve();
    const request = { header: headerTo(node, { protocolVersion: 1 }), term: 1n, candidateId: "n9" };
    await failure("WRONG_CLUSTER", raft.requestVote(request));
    await failure("WRONG_CLUSTER", raft.introduce({ protocolVersion: 3, name: "n8" }), "docs/compatibility.md");
    const { warnings } = await admin.getStatus({});
    expect(warnings).toEqual([
      expect.stringMatching(
        /^2 message.* of another version of the protocol .* with n8 .*protocol_version is 3, expected 2/,
      ),
    ]);
  });

  test("with its newest rules for commands is told by each answer, and by the status", async () => {
    const served = await serve();
    const [answer] = await append(served, appendRequest(served.node, putEntries(1, 1)));
    const { versions } = await served.admin.getStatus({});
    expect(versions).toMatchObject({ protocol: 2, newestRules: NEWEST_RULES });
    expect(answer?.newestRules).toBe(NEWEST_RULES);
  });
});

describe("AppendEntries", () => {
  test("answers 1,000 unawaited requests on one stream in order, all durable", async () => {
    const served = await serve();
    const requests = Array.from({ length: 1000 }, (_, at) => {
      const { header, ...rest } = appendRequest(served.node, putEntries(at + 1, at + 1)) as { header: object };
      // Only the first one needs it.
      return { ...rest, ...(at === 0 && { header }), round: BigInt(at), leaderCommit: BigInt(at) } as AppendInit;
    });
    const before = served.home.disk.calls.datasync;
    const answers = await append(served, ...requests);
    expect(answers.map(({ round }) => round)).toEqual(Array.from({ length: 1000 }, (_, at) => BigInt(at)));
    expect(answers.every(({ success, matchIndex, round }) => success && matchIndex === round + 1n)).toBe(true);
    await served.node.waitApplied(999);
    expect(contentsOf(served.node)).toHaveLength(999);
    expect(served.home.disk.calls.datasync - before).toBeLessThan(900);
    const again = await served.home.powerCut("none");
    expect((await again.start()).raft.log.last.index).toBe(1000);
    await again.close();
  });

  test("answers the rejections of Raft by messages, not errors", async () => {
    const served = await serve();
    const { node } = served;
    await new ActingLeader(node, 3).append(putEntries(1, 5, 3), 3);
    const [stale] = await append(served, appendRequest(node, putEntries(1, 1)));
    expect(stale).toMatchObject({ success: false, rejection: AppendEntriesRejection.STALE_TERM, term: 3n });
    const ahead = appendRequest(node, [], { term: 3n, prevLogIndex: 9n, prevLogTerm: 3n, round: 7n });
    const [missing] = await append(served, ahead);
    expect(missing).toMatchObject({
      success: false,
      rejection: AppendEntriesRejection.LOG_MISMATCH,
      conflictIndex: 6n,
      conflictTerm: 0n,
      lastLogIndex: 5n,
      round: 7n,
    });
    const [contradiction] = await append(
      served,
      appendRequest(node, putEntries(2, 2, 4), { term: 4n, prevLogTerm: 3n }),
    );
    expect(contradiction).toMatchObject({ success: false, rejection: AppendEntriesRejection.SAFETY });
    expect(contradiction!.detail).toContain("contradicts the committed entry");
  });

  test("an answer that waits for the entries to be applied says how far they are", async () => {
    const served = await serve();
    const { node } = served;
    const request = appendRequest(node, putEntries(1, 5), { leaderCommit: 3n, awaitApplied: true });
    const [answer] = await append(served, request);
    expect(answer).toMatchObject({ success: true, matchIndex: 5n });
    expect(answer!.appliedIndex).toBeGreaterThanOrEqual(3n);
    expect(contentsOf(node)).toHaveLength(3);
    const [plain] = await append(served, appendRequest(node, putEntries(1, 5), { leaderCommit: 5n }));
    expect(plain).toMatchObject({ success: true, appliedIndex: 0n });
  });

  test("a refused conditional message changes nothing, and its answer names the conflict", async () => {
    const served = await serve();
    const { node } = served;
    await new ActingLeader(node, 3).append(putEntries(1, 5, 3), 4);
    const request = appendRequest(node, putEntries(2, 2, 9), { term: 9n, prevLogTerm: 3n, conditional: true });
    const [answer] = await append(served, request);
    const rejection = AppendEntriesRejection.SAFETY;
    expect(answer).toMatchObject({ success: false, rejection, term: 3n, conflictTerm: 3n, conflictIndex: 5n });
    expect([node.raft.term, node.raft.log.last.index]).toEqual([3, 5]);
    expect(node.protocol.warnings).toEqual([]);
  });

  const at = (entry: object, change: object = {}) => ({
    ...change,
    entries: [{ index: 1n, term: 1n, type: EntryType.COMMAND, ...entry }],
  });
  test.each<[string, CairnErrorCode, object, string]>([
    ["no term", "INVALID_ARGUMENT", { term: 0n }, "term is missing"],
    ["no leader", "INVALID_ARGUMENT", { leaderId: "" }, "leader_id"],
    [
      "a leader that is not the sender",
      "INVALID_ARGUMENT",
      { leaderId: "n8" },
      'leader_id is "n8", but header.sender_id "n9"',
    ],
    ["half a place", "INVALID_ARGUMENT", { prevLogTerm: 1n }, "must both be 0 or both be above 0"],
    ["a hole", "INVALID_ARGUMENT", at({ index: 2n }), "entry index 2 does not follow 0"],
    ["an entry of a later term", "INVALID_ARGUMENT", at({ term: 2n }), "above the leader's term"],
    ["an entry of no term", "INVALID_ARGUMENT", at({ term: 0n }), "above 0"],
    ["an entry of no type", "INVALID_ARGUMENT", at({ type: EntryType.UNSPECIFIED }), "unknown type"],
    ["an index that cannot be counted", "INVALID_ARGUMENT", { leaderCommit: 2n ** 60n }, "leader_commit"],
    [
      "an entry that is too large",
      "LIMIT_EXCEEDED",
      at({ data: new Uint8Array(limits.entryBytes - limits.entryAllowanceBytes + 1) }),
      `the limit entryBytes is ${limits.entryBytes}`,
    ],
  ])("ends the stream for %s, after the answers before it, and changes nothing", async (_what, code, change, text) => {
    const served = await serve({ segmentBytes: limits.segmentBytes });
    const { node, raft } = served;
    const stream = raft.appendEntries();
    const rounds: bigint[] = [];
    const ended = failure(
      code,
      async () => {
        for await (const { round } of stream.responses) rounds.push(round);
      },
      text,
    );
    await stream.send(appendRequest(node, [], { prevLogIndex: 0n, prevLogTerm: 0n, round: 5n }));
    const bad = stream.send({ ...appendRequest(node, []), prevLogIndex: 0n, prevLogTerm: 0n, ...change } as AppendInit);
    await bad.catch(() => {});
    await ended;
    expect(rounds).toEqual([5n]);
    expect(node.raft.log.last.index).toBe(0);
    const good = await append(served, appendRequest(node, putEntries(1, 1)));
    expect(good[0]!.success).toBe(true);
  });

  test("fails at the sender for a message that is too large, and changes nothing", async () => {
    const { raft, node } = await serve();
    const entries = [1, 2, 3].map(
      (index) => ({ index, term: 1, type: "command", data: new Uint8Array(limits.valueBytes) }) as const,
    );
    const stream = raft.appendEntries();
    await failure("LIMIT_EXCEEDED", stream.send(appendRequest(node, entries)), `messageBytes (${limits.messageBytes}`);
    stream.cancel();
    expect(node.raft.log.last.index).toBe(0);
  });

  test("accepts an entry of the largest size", async () => {
    const served = await serve({ segmentBytes: limits.segmentBytes });
    const entry = {
      index: 1,
      term: 1,
      type: "command",
      data: new Uint8Array(limits.entryBytes - limits.entryAllowanceBytes),
    } as const;
    const [answer] = await append(served, appendRequest(served.node, [entry]));
    expect(answer).toMatchObject({ success: true, matchIndex: 1n });
  });
});

describe("TimeoutNow", () => {
  test("makes a voter campaign at once, and answers with its new term", async () => {
    const { raft, node } = await serve();
    expect(await raft.timeoutNow({ header: headerTo(node), term: 3n })).toMatchObject({ term: 3n });
    expect(node.raft).toMatchObject({ role: "leader", term: 4 });
  });

  test("changes nothing when its term is over", async () => {
    const { raft, node } = await serve();
    await raft.timeoutNow({ header: headerTo(node), term: 3n });
    expect(await raft.timeoutNow({ header: headerTo(node), term: 2n })).toMatchObject({ term: 4n });
    expect(node.raft.term).toBe(4);
  });

  test("is refused without a term", async () => {
    const { raft, node } = await serve();
    await failure("INVALID_ARGUMENT", raft.timeoutNow({ header: headerTo(node) }), "term is missing");
  });
});

describe("a counter above its bound in any message (T6)", () => {
  const HUGE = 2n ** 53n - 1n;
  const MORE = BigInt(limits.termMax) + 1n;

  test.each([HUGE, MORE, 2n ** 64n - 1n])(
    "is refused as %d with the limit's name, and status warns of it",
    async (huge) => {
      const { raft, admin, node, ...served } = await serve();
      const header = headerTo(node);
      const vote = { header, term: 3n, candidateId: "n9", leadershipTransfer: true };
      await failure("INVALID_ARGUMENT", raft.requestVote({ ...vote, term: huge }), "termMax");
      await failure("INVALID_ARGUMENT", raft.requestVote({ ...vote, lastLogTerm: huge }), "termMax");
      await failure("INVALID_ARGUMENT", raft.requestVote({ ...vote, lastLogIndex: huge }), "indexMax");
      await failure("INVALID_ARGUMENT", raft.timeoutNow({ header, term: huge }), "termMax");
      const everything = { raft, admin, node, ...served };
      const entry = { index: huge, term: 1n, type: EntryType.NO_OP };
      for (const [change, name] of [
        [{ term: huge }, "termMax"],
        [{ prevLogIndex: huge }, "indexMax"],
        [{ prevLogTerm: huge }, "termMax"],
        [{ leaderCommit: huge }, "indexMax"],
        [{ entries: [entry] }, "indexMax"],
        [{ entries: [{ ...entry, index: 1n, term: huge }] }, "termMax"],
      ] as const) {
        await failure("INVALID_ARGUMENT", append(everything, appendRequest(node, [], change)), name);
      }
      expect(node.raft.term).toBe(0);
      const { warnings } = await admin.getStatus({});
      expect(warnings).toEqual([expect.stringContaining("10 message(s) that no correct member sends were refused")]);
    },
  );
});
