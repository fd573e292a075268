import { AdminService, NodeRole } from "../../../gen/cairn/v1/admin_pb.js";
import { ChannelPool } from "../../rpc/channel_pool.js";
import type { MemberCredentials } from "../../rpc/security/member_credentials.js";
import type { MonitoredNode } from "../monitored.js";
import type { ShownLog, ShownMember } from "./shown.js";

/** Time limit for a look at another member, in ms. */
const LOOK_MS = 900;

const ROLES: Readonly<Record<NodeRole, string>> = {
  [NodeRole.UNSPECIFIED]: "unknown",
  [NodeRole.FOLLOWER]: "follower",
  [NodeRole.CANDIDATE]: "candidate",
  [NodeRole.PRE_CANDIDATE]: "pre-candidate",
  [NodeRole.LEADER]: "leader",
};

/** Answer of another member at the last look. */
interface MemberAnswer {
  readonly role: string;
  readonly term: number;
  readonly log: ShownLog;
}

/** Shows all members of a cluster: this node as it sees itself, the others as they answer. */
export class MembersView {
  readonly #channels: ChannelPool;
  #answers: ReadonlyMap<string, MemberAnswer> = new Map();

  constructor(members: MemberCredentials | undefined) {
    this.#channels = new ChannelPool({ isBackground: true }, members);
  }

  /** Asks the other members. Never rejects; ends within a second. */
  async look(node: MonitoredNode): Promise<void> {
    const others = node.raft.membership.members.filter(({ id, address }) => id !== node.id && address !== "");
    const answers = await Promise.all(
      others.map(async ({ id, address }) => [id, await this.#ask(address, id).catch(() => undefined)] as const),
    );
    this.#answers = new Map(answers.flatMap(([id, answer]) => (answer === undefined ? [] : [[id, answer]])));
  }

  members(node: MonitoredNode): readonly ShownMember[] {
    const { raft, fitness } = node;
    const health = new Map(fitness.health.map((each) => [each.id, each]));
    const progress = new Map(raft.progress.map((each) => [each.id, each]));
    return raft.membership.members.map(({ id, address, role: kind }) => {
      const answer = id === node.id ? own(node) : this.#answers.get(id);
      const { verdict = answer === undefined ? "silent" : "healthy", reason = "" } = health.get(id) ?? {};
      const seen = progress.get(id);
      return {
        ...{ id, address, kind, verdict, reason },
        role: answer?.role,
        term: answer?.term,
        log: answer?.log,
        progress: seen && { match: seen.match, next: seen.next, state: seen.state, active: seen.isActive },
      };
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
    };
  }
}

function own({ raft, machine, logStats }: MonitoredNode): MemberAnswer {
  const { log } = raft;
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
  };
}
