import { expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { failure } from "../support/conditions.js";
import { collect, headerTo, serve } from "../support/nodes/served_node.js";

// T10 over the network: what a stranger sends that knows the cluster's id is refused, counted, shown and logged.

const members = ["n1", "n2"].map((id) => ({ id, address: "", role: "voter" as const }));

test("a stranger that knows the cluster's id changes nothing, and the status and the log name it", async () => {
  const logged: { facts: Record<string, unknown>; message: string }[] = [];
  const log = (facts: object, message: string) => void logged.push({ facts: { ...facts }, message });
  const logger = { debug: () => {}, info: () => {}, warn: log, error: log };
  const { raft, admin, node } = await serve({ elections: "automatic", electionTicks: 1_000, members, logger });
  const { term } = node.raft;
  const header = headerTo(node, { senderId: "mallory" });
  for (const ahead of [1, 1_000, limits.termJump + 1, 2 ** 47]) {
    const wild = BigInt(term + ahead);
    const vote = { header, term: wild, candidateId: "mallory", lastLogIndex: 9n, lastLogTerm: 1n };
    for (const how of [{}, { preVote: true }, { leadershipTransfer: true }, { membershipIndex: 2n ** 47n }]) {
      expect(await raft.requestVote({ ...vote, ...how })).toMatchObject({ voteGranted: false, term: BigInt(term) });
    }
    expect(await raft.timeoutNow({ header, term: wild })).toEqual(expect.objectContaining({ term: BigInt(term) }));
    const stream = raft.appendEntries();
    const answers = collect(stream.responses);
    await stream.send({ header, term: wild, leaderId: "mallory", leaderCommit: 2n ** 40n, acknowledgedIndex: 77n });
    stream.end();
    const detail = "mallory is not a member in the membership of index 0, the latest that this node has";
    expect(await answers).toMatchObject([{ success: false, rejection: 5, detail, term: BigInt(term) }]);
    const install = raft.installSnapshot();
    const replies = collect(install.responses);
    const offer = { header, term: wild, leaderId: "mallory", index: 9n, snapshotTerm: 1n, fileBytes: 1_000n };
    await install.send({ message: { case: "offer", value: { ...offer, sha256: new Uint8Array(32) } } });
    await failure("FAILED_PRECONDITION", replies, detail);
  }
  expect([node.raft.term, node.raft.leader, node.raft.lost]).toEqual([term, undefined, undefined]);
  expect([node.knownCommit, node.raft.log.last.index]).toEqual([0, 0]);
  const { warnings } = await admin.getStatus({});
  expect(warnings).toEqual([
    expect.stringMatching(
      /^28 message\(s\) whose senders are not members, as far as this node knows, were refused, the last with mallory at 127\.0\.0\.1:\d+: mallory is not a member/,
    ),
  ]);
  const told = logged.filter(({ message }) => message.includes("not a member"));
  expect(told).toEqual([
    {
      message: "refused a message whose sender is not a member, as far as this node knows",
      facts: {
        peer: "mallory",
        address: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
        detail: expect.any(String),
        times: 1,
      },
    },
  ]);
});

test("a message for another cluster, directory or protocol is counted too, and no long text of it comes back", async () => {
  const { raft, admin, node } = await serve({ elections: "automatic", electionTicks: 1_000, members });
  const vote = { term: 3n, candidateId: "n2", lastLogIndex: 9n, lastLogTerm: 1n };
  const long = "c".repeat(100_000);
  const wrong = [
    { clusterId: long },
    { receiverId: long },
    { senderId: long },
    { receiverIncarnation: new Uint8Array(16) },
    { protocolVersion: 1 },
    { senderIncarnation: new Uint8Array(3) },
  ];
  for (const change of wrong) {
    const header = headerTo(node, { senderId: "n2", ...change });
    const error: Error = await raft.requestVote({ ...vote, header }).then(
      () => expect.fail(`${Object.keys(change)[0]} was taken`),
      (error: Error) => error,
    );
    expect(error.message.length).toBeLessThan(500);
  }
  await failure("INVALID_ARGUMENT", raft.requestVote(vote), "header is missing");
  const joiner = { protocolVersion: 2, name: "n7", incarnation: new Uint8Array(16), address: "127.0.0.1:1" };
  const error: Error = await raft.join({ ...joiner, clusterId: long }).then(
    () => expect.fail("it joined"),
    (error: Error) => error,
  );
  expect(error.message.length).toBeLessThan(500);
  const { warnings } = await admin.getStatus({});
  const last = "the last with n7 at 127.0.0.1";
  expect(warnings).toEqual([
    expect.stringMatching(new RegExp(`^7 message\\(s\\) whose senders.*${last}`)),
    expect.stringMatching(/^1 message\(s\) of another version of the protocol.*with n2/),
  ]);
  expect(node.raft.term).toBe(0);
});
