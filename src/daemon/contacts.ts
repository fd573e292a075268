import { CameBy as CameByMessage, RaftService } from "../../gen/cairn/v1/raft_pb.js";
import { MemberRole } from "../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../base/errors.js";
import { incarnationBytes } from "../base/ids.js";
import { introduceRequest, toIntroduced } from "../peers/introductions.js";
import { isOtherProtocol, PROTOCOL_VERSION } from "../peers/protocol.js";
import type { Introduced, Introduction, NamedAddress } from "../raft/membership/introduction.js";
import { openChannel, type SharedChannel } from "../rpc/client.js";
import { type MemberCredentials, settingsTo } from "../rpc/security/member_credentials.js";
import type { Contact, JoinAnswer } from "./arrival.js";
import type { Joiner } from "./world.js";

/**
 * Timeouts in milliseconds: for another node to introduce itself, and for a leader to commit a
 * join.
 */
const ASK_TIMEOUT_MS = 1_000;
const JOIN_TIMEOUT_MS = 10_000;

/** Settings of a connection. */
const SETTINGS = { connectTimeoutMs: 1_000 };

/** Connections to nodes that do not share a cluster with this one yet. */
export class Contacts {
  readonly #channels = new Map<string, SharedChannel>();

  constructor(
    private readonly members: MemberCredentials | undefined,
    /** Called when a node refuses this one, or is not the one that was meant. */
    private readonly onRefusal: (contact: Contact, error: CairnError) => void,
  ) {}

  /**
   * Resolves with undefined when the node does not answer, is not the one asked for, or gives an
   * answer that no correct node gives.
   */
  async ask({ name, address }: Contact, asked: Introduction): Promise<Introduced | undefined> {
    try {
      const response = await this.#at(address, name).introduce(introduceRequest(asked), { timeoutMs: ASK_TIMEOUT_MS });
      const introduced = toIntroduced(response);
      return name === undefined || introduced.name === name ? withLeaderAt(address, introduced) : undefined;
    } catch (error) {
      const failure = CairnError.from(error);
      if (isRefusal(failure)) this.onRefusal({ name, address }, failure);
      return undefined;
    }
  }

  async join(leader: NamedAddress, { name, incarnation, cameBy, ...joiner }: Joiner): Promise<JoinAnswer> {
    const request = {
      protocolVersion: PROTOCOL_VERSION,
      clusterId: joiner.clusterId,
      name,
      incarnation: incarnationBytes(incarnation),
      address: joiner.address,
      cameBy: cameBy === "join" ? CameByMessage.JOIN : CameByMessage.CLUSTER,
    };
    try {
      const { membership } = await this.#at(leader.address, leader.name).join(request, { timeoutMs: JOIN_TIMEOUT_MS });
      const member = membership?.members.find(({ id }) => id === name);
      if (member === undefined) return { kind: "later", reason: `${name} is not a member yet` };
      return { kind: "joined", isVoter: member.role === MemberRole.VOTER };
    } catch (error) {
      const { code, text } = CairnError.from(error);
      return { kind: code === "NOT_FOUND" ? "refused" : "later", reason: text };
    }
  }

  close(): void {
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }

  #at(address: string, member: string | undefined) {
    const key = `${member ?? ""} ${address}`;
    const channel = this.#channels.get(key) ?? openChannel(address, settingsTo(member, SETTINGS, this.members));
    this.#channels.set(key, channel);
    return channel.client(RaftService);
  }
}

/**
 * Returns whether a node refuses this one by its credentials or its version, or is not the one that
 * was meant.
 */
function isRefusal(error: CairnError): boolean {
  const { code, text } = error;
  if (code === "PERMISSION_DENIED" || code === "UNAUTHENTICATED" || isOtherProtocol(error)) return true;
  return code === "UNREACHABLE" && /certificate|TLS|SSL/i.test(text);
}

/**
 * Fills in the address of a leader that has none in the membership. A leader that introduced itself
 * is reached at the address that it answered at; any other such leader cannot be reached.
 */
function withLeaderAt(address: string, introduced: Introduced): Introduced {
  const { name, standing } = introduced;
  if (standing.kind !== "member" || standing.leader?.address !== "") return introduced;
  return {
    ...introduced,
    standing: { ...standing, leader: standing.leader.name === name ? { name, address } : undefined },
  };
}
