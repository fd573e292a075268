import { setTimeout as pause } from "node:timers/promises";
import { AdminService, type GetStatusResponse } from "../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../errors.js";
import { type Client, openChannel, type SharedChannel } from "../transport/bridge_client.js";

/** How long a node may take to say where it stands, in milliseconds. */
const STATUS_TIMEOUT_MS = 2_000;
/** How long to look for a leader. An election takes about as long as a few timeouts. */
const LEADER_PATIENCE_MS = 10_000;
const LEADER_PAUSE_MS = 200;

export type AdminClient = Client<typeof AdminService>;

/** What a node says of itself, or why it does not. */
export type StatusAnswer =
  | { readonly address: string; readonly status: GetStatusResponse }
  | { readonly address: string; readonly error: CairnError };

/** A cluster as its operator reaches it: by the addresses of some of its members. */
export class ClusterAdmin {
  readonly #channels = new Map<string, SharedChannel>();

  constructor(readonly endpoints: readonly string[]) {}

  /** A client of the node at an address. */
  at(address: string): AdminClient {
    const channel = this.#channels.get(address) ?? openChannel(address, { connectTimeoutMs: STATUS_TIMEOUT_MS });
    this.#channels.set(address, channel);
    return channel.client(AdminService);
  }

  /** What each of these nodes says; default: the endpoints. */
  statuses(addresses: readonly string[] = this.endpoints): Promise<StatusAnswer[]> {
    return Promise.all(
      addresses.map(async (address) => {
        try {
          return { address, status: await this.at(address).getStatus({}, { timeoutMs: STATUS_TIMEOUT_MS }) };
        } catch (error) {
          return { address, error: CairnError.from(error) };
        }
      }),
    );
  }

  /** The first endpoint's status that comes. @throws CairnError UNREACHABLE when none answers */
  async anyStatus(): Promise<GetStatusResponse> {
    try {
      return await Promise.any(
        this.endpoints.map((address) => this.at(address).getStatus({}, { timeoutMs: STATUS_TIMEOUT_MS })),
      );
    } catch (error) {
      throw noneAnswers((error as AggregateError).errors.map((each) => CairnError.from(each).text));
    }
  }

  /**
   * Has the leader do something, wherever it is. Where the cluster has none, or another one by now, looks again for a while.
   * @throws CairnError what the call throws; UNREACHABLE or NOT_LEADER when no leader is found
   */
  async onLeader<Answer>(call: (leader: AdminClient) => Promise<Answer>, signal?: AbortSignal): Promise<Answer> {
    const deadline = performance.now() + LEADER_PATIENCE_MS;
    for (;;) {
      try {
        return await call(this.at(await this.leaderAddress()));
      } catch (error) {
        const { code } = CairnError.from(error);
        // Neither has done anything.
        const isPassing = code === "NOT_LEADER" || code === "UNREACHABLE";
        if (!isPassing || performance.now() > deadline) throw error;
      }
      await pause(LEADER_PAUSE_MS, undefined, { signal });
    }
  }

  /** Where the leader is, as the endpoint in the highest term knows it. @throws CairnError UNREACHABLE, NOT_LEADER */
  async leaderAddress(): Promise<string> {
    const answers = await this.statuses();
    const known = answers.flatMap((answer) => ("status" in answer ? [answer] : []));
    if (known.length === 0) {
      throw noneAnswers(answers.flatMap((answer) => ("error" in answer ? [answer.error.text] : [])));
    }
    const newest = known
      .filter(({ status }) => status.leaderId !== "")
      .sort((a, b) => Number(b.status.term - a.status.term))[0];
    if (newest === undefined) throw new CairnError("NOT_LEADER", "the cluster has no leader now");
    const { leaderId, membership } = newest.status;
    const itself = known.find(({ status }) => status.nodeId === leaderId);
    const address = itself?.address ?? membership?.members.find(({ id }) => id === leaderId)?.address;
    if (address) return address;
    throw new CairnError(
      "NOT_LEADER",
      `the leader is ${leaderId}, whose address is not known: name it among the endpoints`,
    );
  }

  close(): void {
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }
}

function noneAnswers(reasons: readonly string[]): CairnError {
  return new CairnError("UNREACHABLE", `no node answers: ${reasons.join("; ")}`);
}
