import { AdminService, type MemberProgress, NodeRole, ProgressState } from "../../../gen/cairn/v1/admin_pb.js";
import { ChannelPool } from "../../rpc/channel_pool.js";
import type { MemberCredentials } from "../../rpc/security/member_credentials.js";
import type { MonitoredNode } from "../monitored.js";
import type { ShownLog, ShownMember, ShownProgress } from "./shown.js";

/** Time limit for a look at another member, in ms. */
const LOOK_MS = 900;

const ROLES: Readonly<Record<NodeRole, string>> = {
  [NodeRole.UNSPECIFIED]: "unknown",
  [NodeRole.FOLLOWER]: "follower",
  [NodeRole.CANDIDATE]: "candidate",
  [NodeRole.PRE_CANDIDATE]: "pre-candidate",
  [NodeRole.LEADER]: "leader",
};

const STATES: Readonly<Record<ProgressState, string>> = {
  [ProgressState.UNSPECIFIED]: "unknown",
  [ProgressState.PROBE]: "probe",
  [ProgressState.REPLICATE]: "replicate",
  [ProgressState.SNAPSHOT]: "snapshot",
  [ProgressState.LOST]: "lost",
};

/** Answer of a member at the last look. */
interface MemberAnswer {
  readonly role: string;
  readonly term: number;
  readonly log: ShownLog;
  /** Of the other members, by id; empty unless the member leads. */
  readonly progress: ReadonlyMap<string, ShownProgress>;
}

/** Shows all members of a cluster: this node as it sees itself, the others as they answer. */
export class MembersView {
  readonly #channels: ChannelPool;
  #answers: ReadonlyMap<string, MemberAnswer> = new Map();

  constructor(members: MemberCredentials | undefined) {
    this.#channels = new ChannelPool({ isBackground: true }, members);
  }

  /**
   * Asks the other members, at `addresses` where one is given. Never rejects; ends within a second.
   */
  async look(node: MonitoredNode, addresses: Readonly<Record<string, string>> = {}): Promise<void> {
    const others = node.raft.membership.members
      .map(({ id, address }) => ({ id, address: addresses[id] ?? address }))
      .filter(({ id, address }) => id !== node.id && address !== "");
    const answers = await Promise.all(
      others.map(async ({ id, address }) => [id, await this.#ask(address, id).catch(() => undefined)] as const),
    );
    this.#answers = new Map(answers.flatMap(([id, answer]) => (answer === undefined ? [] : [[id, answer]])));
  }

  members(node: MonitoredNode): readonly ShownMember[] {
    const { raft, fitness } = node;
    const health = new Map(fitness.health.map((each) => [each.id, each]));
    const answers = new Map([...this.#answers, [node.id, own(node)]]);
    const progress = leaderOf([...answers.values()])?.progress;
    return raft.membership.members.map(({ id, address, role: kind }) => {
      const answer = answers.get(id);
      const { verdict = answer === undefined ? "silent" : "healthy", reason = "" } = health.get(id) ?? {};
      const { role, term, log } = answer ?? {};
      return { ...{ id, address, kind, verdict, reason }, role, term, log, progress: progress?.get(id) };
    });
  }

  close(): void {
    this.#channels.close();
  }

  async #ask(address: string, id: string): Promise<MemberAnswer | undefined> {
    const admin = this.#channels.get(address, id).client(AdminService);
    const settings = { timeoutMs: LOOK_MS };
    const [status, log] = await Promise.all([admin.getStatus({}, settings), admin.getLogInfo({}, settings)]);
    // The address may belong to another node by now.
    if (status.nodeId !== id) return undefined;
    return {
      role: ROLES[status.role] ?? "unknown",
      term: Number(status.term),
      log: {
        first: Number(log.firstIndex),
        last: Number(log.lastIndex),
        commit: Number(log.commitIndex),
        applied: Number(log.appliedIndex),
        snapshot: Number(log.snapshotIndex),
        bytes: Number(log.diskBytes),
        segments: log.segments,
      },
      progress: new Map(status.progress.map((each) => [each.nodeId, progressIn(each)])),
    };
  }
}

/** Returns the leader among the answers; a deposed one may not know it yet. */
function leaderOf(answers: readonly MemberAnswer[]): MemberAnswer | undefined {
  return answers.filter(({ role }) => role === "leader").sort((one, other) => other.term - one.term)[0];
}

function progressIn({ matchIndex, nextIndex, state, active }: MemberProgress): ShownProgress {
  return { match: Number(matchIndex), next: Number(nextIndex), state: STATES[state] ?? "unknown", active };
}

function own({ raft, machine, logStats }: MonitoredNode): MemberAnswer {
  const { log } = raft;
  const progress = raft.progress.map(
    ({ id, match, next, state, isActive: active }) => [id, { match, next, state, active }] as const,
  );
  return {
    role: raft.role,
    term: raft.term,
    log: {
      first: log.boundary.index + 1,
      last: log.last.index,
      commit: log.commit,
      applied: machine.appliedIndex,
      snapshot: raft.snapshot?.index ?? 0,
      bytes: logStats.diskBytes,
      segments: logStats.segments,
    },
    progress: new Map(progress),
  };
}
