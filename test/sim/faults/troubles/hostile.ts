import { limits } from "../../../../src/base/limits.js";
import { membershipCodec } from "../../../../src/encoding/membership.js";
import { encodeCommand } from "../../../../src/machine/kv/command.js";
import type { InstallMessage } from "../../../../src/peers/install/install_messages.js";
import type { AppendEntries, RequestVote, Unaddressed } from "../../../../src/raft/messages.js";
import type { Entry, Membership } from "../../../../src/raft/types.js";
import { type HostileKind, hostileKinds, hostileSnapshot } from "../../../support/snapshots/hostile_snapshots.js";
import type { SimCluster } from "../../world/cluster.js";
import { CLUSTER, type RunningNode, type SimNode } from "../../world/node.js";
import type { SimRandom } from "../../world/random.js";

/** Far jumps of the term in one run: each takes the others an election, and there is an end to the time that healing may take. */
const FAR_JUMPS = 3;

/**
 * A member that sends, besides what its process says, messages that no correct member sends, also in the name of others. None of
 * them may be taken: a node that takes one fails the run, at once or by what comes of it.
 */
export class HostileMember {
  readonly #liar: string;
  #farJumps = 0;

  constructor(
    private readonly cluster: SimCluster,
    private readonly random: SimRandom,
  ) {
    this.#liar = random.pick(cluster.nodes).id;
  }

  strike(): void {
    const { cluster, random } = this;
    const target = random.pick(cluster.nodes);
    const [what, act] = random.pick(Object.entries(this.#acts));
    cluster.scheduler.after(0, target, `hostile: ${what}`, () => {
      const { cairn, life } = target;
      if (cairn === undefined) return;
      const work = act(cairn);
      if (work === undefined) return;
      cluster.count(`hostile: ${what}`);
      cluster.watch(this.#settled(target, life, what, work));
    });
  }

  /** Each answers with what is wrong about the node's reaction; undefined when nothing is, or when it cannot be done now. */
  readonly #acts: Readonly<Record<string, (node: RunningNode) => Promise<string | undefined> | undefined>> = {
    "a term above the bound": (node) => this.#beyond(node),
    "a wild term": (node) => this.#wildTerm(node),
    "a second leader": (node) => this.#secondLeader(node),
    "a message from oneself": (node) => this.#fromItself(node),
    "an illegal membership": (node) => this.#illegalMembership(node),
    "a garbage snapshot": (node) => this.#garbageSnapshot(node),
    "a stranger": (node) => this.#stranger(node),
  };

  async #settled(target: SimNode, life: number, what: string, work: Promise<string | undefined>): Promise<void> {
    const wrong = await work;
    if (wrong !== undefined && target.life === life) {
      this.cluster.fail("no hostile message is taken", `${target.id}, ${what}: ${wrong}`);
    }
  }

  #beyond(node: RunningNode): Promise<string | undefined> {
    const term = this.random.pick([limits.termMax + 1, 2 ** 53 - 1]);
    const message = this.random.chance(0.5) ? this.#vote(term) : this.#append(node, this.#liar, term, []);
    const sent = message.type === "request_vote" ? node.requestVote(message) : node.appendEntries(message);
    return sent.then(
      () => "it was answered",
      () => undefined,
    );
  }

  #wildTerm(node: RunningNode): Promise<string | undefined> {
    const { random } = this;
    const before = node.raft.term;
    const isFar = this.#farJumps < FAR_JUMPS && random.chance(0.4);
    if (isFar) this.#farJumps += 1;
    const term = isFar ? random.pick([limits.termMax, before + 2 * limits.termJump]) : before + random.whole(1, 3);
    const most = term <= before + limits.termJump ? term : before + (node.raft.hearsLeader ? 0 : limits.termStep);
    const answered = node.requestVote(this.#vote(term));
    // The core has taken it in by now.
    const { term: after } = node.raft;
    answered.catch(() => {});
    return Promise.resolve(after > most ? `its term went from ${before} to ${after}` : undefined);
  }

  /** Somebody that is no voter (T10). One that says that it knows a later membership may be listened to after a silence. */
  #stranger(node: RunningNode): Promise<string | undefined> | undefined {
    const { random } = this;
    const { raft } = node;
    if (raft.membership.members.length === 0) return undefined;
    const known = raft.membershipAt(raft.log.commit).index;
    const membershipIndex = raft.hearsLeader && random.chance(0.5) ? known + random.whole(1, 1_000) : known;
    const term = raft.term + random.pick([1, 1, 2, 2 * limits.termJump]);
    const sender = { from: "stranger", term, membershipIndex };
    const facts = () => JSON.stringify([raft.term, raft.role, raft.leader, raft.lost, raft.log.last, raft.log.commit]);
    const before = facts();
    const answered = this.#strangeRequest(node, sender);
    // The core has taken it in by now.
    const after = facts();
    return answered.then(
      (taken) => (after === before ? taken : `it changed from ${before} to ${after}`),
      () => (after === before ? undefined : `it changed from ${before} to ${after}`),
    );
  }

  /** Resolves with what is wrong about the answer. */
  #strangeRequest(
    node: RunningNode,
    sender: { readonly from: string; readonly term: number; readonly membershipIndex: number },
  ): Promise<string | undefined> {
    const { random } = this;
    switch (random.pick(["vote", "append", "hand-over", "offer"] as const)) {
      case "vote": {
        const how = { preVote: random.chance(0.3), leadershipTransfer: random.chance(0.5) };
        const vote = { ...this.#vote(sender.term), last: node.raft.log.last, ...how, ...sender };
        return node.requestVote(vote).then(({ granted }) => (granted ? "it granted its vote" : undefined));
      }
      case "append": {
        const entries = random.chance(0.5) ? [{ ...this.#command(node), term: sender.term }] : [];
        return refused(node.appendEntries({ ...this.#append(node, sender.from, sender.term, entries), ...sender }));
      }
      case "hand-over":
        return node.timeoutNow({ type: "timeout_now", ...sender }).then(() => undefined);
      case "offer": {
        const { from, term: leaderTerm, membershipIndex } = sender;
        const snapshot = {
          index: node.raft.log.commit + 1,
          term: leaderTerm,
          fileBytes: 1_000,
          sha256: new Uint8Array(32),
        };
        return node.receiver
          .accept({ from, leaderTerm, membershipIndex, ...snapshot })
          .then(() => "it accepted a snapshot or answered as to a leader");
      }
    }
  }

  #secondLeader(node: RunningNode): Promise<string | undefined> | undefined {
    const { leader, term } = node.raft;
    if (leader === undefined || leader === this.#liar || node.id === this.#liar) return undefined;
    return refused(node.appendEntries(this.#append(node, this.#liar, term, [this.#command(node)])));
  }

  #fromItself(node: RunningNode): Promise<string | undefined> {
    const term = node.raft.term + this.random.whole(0, 1);
    if (term === 0) return Promise.resolve(undefined);
    return refused(node.appendEntries(this.#append(node, node.id, term, [this.#command(node)])));
  }

  /** In the leader's name. */
  #illegalMembership(node: RunningNode): Promise<string | undefined> | undefined {
    const { leader, term, log } = node.raft;
    if (leader === undefined || leader === node.id) return undefined;
    const stranger = { id: "stranger", address: "stranger.test:1", role: "voter" } as const;
    const strangers: Membership[] = [[stranger], [{ ...stranger, role: "learner" }], [], [stranger, stranger]];
    const data = membershipCodec.encode(this.random.pick(strangers));
    const entry: Entry = { index: log.last.index + 1, term, type: "configuration", data };
    return refused(node.appendEntries(this.#append(node, leader, term, [entry])));
  }

  /** In the leader's name. Some kinds, one after the other. */
  #garbageSnapshot(node: RunningNode): Promise<string | undefined> | undefined {
    const { leader, term } = node.raft;
    if (leader === undefined || leader === node.id) return undefined;
    const kinds = Array.from({ length: 4 }, () => this.random.pick(hostileKinds));
    return this.#sendSnapshots(node, leader, term, kinds);
  }

  async #sendSnapshots(node: RunningNode, from: string, term: number, kinds: readonly HostileKind[]) {
    for (const kind of kinds) {
      const wrong = await this.#sendSnapshot(node, from, term, kind);
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  }

  async #sendSnapshot(node: RunningNode, from: string, leaderTerm: number, kind: HostileKind) {
    // Right above the commit index: what is left of it goes with the next snapshot.
    const { commit, last } = node.raft.log;
    const snapshot = await hostileSnapshot(kind, { index: commit + 1, term: Math.max(1, last.term) }, CLUSTER);
    const { file, index, term, sha256 } = snapshot;
    async function* messages(): AsyncGenerator<InstallMessage, void, undefined> {
      yield { kind: "offer", from, leaderTerm, index, term, sha256, fileBytes: file.byteLength };
      for (let offset = 0; offset < file.byteLength; offset += 64) {
        yield { kind: "chunk", leaderTerm, offset, data: file.subarray(offset, offset + 64) };
      }
    }
    try {
      for await (const reply of node.receiveSnapshot(messages())) {
        if (reply.kind === "installed" && reply.applied) return `it has installed ${kind}`;
      }
    } catch {
      // Refused, or its process has ended.
    }
    return undefined;
  }

  #vote(term: number): Unaddressed<RequestVote> {
    const last = { index: 2 ** 40, term: Math.min(term, limits.termMax) };
    return { type: "request_vote", from: this.#liar, term, last, preVote: false, leadershipTransfer: true };
  }

  #append(node: RunningNode, from: string, term: number, entries: readonly Entry[]): Unaddressed<AppendEntries> {
    const prev = node.raft.log.last;
    const leaderCommit = entries.at(-1)?.type === "command" ? prev.index + entries.length : 0;
    return { type: "append_entries", from, term, prev, entries, leaderCommit };
  }

  #command(node: RunningNode): Entry {
    const { term, log } = node.raft;
    const value = Buffer.from("hostile");
    const data = encodeCommand({ operation: { case: "put", value: { key: Buffer.from("hostile"), value } } });
    return { index: log.last.index + 1, term, type: "command", data };
  }
}

/** What is wrong with an answer to entries that must not be taken. */
function refused(answer: ReturnType<RunningNode["appendEntries"]>): Promise<string | undefined> {
  return answer.then(
    (answer) => (answer.outcome === "accepted" ? `it has taken the entries up to ${answer.matchIndex}` : undefined),
    // Refused before it came to the core, or its process has ended.
    () => undefined,
  );
}
