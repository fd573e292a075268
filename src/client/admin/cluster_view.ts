import type { GetStatusResponse } from "../../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../../base/errors.js";

/** What a node says of itself, or why it does not. */
export type StatusAnswer =
  | { readonly address: string; readonly status: GetStatusResponse }
  | { readonly address: string; readonly error: CairnError };

type Known = StatusAnswer & { readonly status: GetStatusResponse };

/** A cluster as its endpoints describe it at one moment. */
export class ClusterView {
  /** Those that know most come first. */
  readonly #known: readonly Known[];

  /** @throws CairnError UNREACHABLE when none has answered */
  constructor(answers: readonly StatusAnswer[]) {
    const known = answers.filter((answer): answer is Known => "status" in answer);
    if (known.length === 0) {
      const reasons = answers.flatMap((answer) => ("error" in answer ? [answer.error.text] : []));
      throw new CairnError("UNREACHABLE", `no node answers: ${reasons.join("; ")}`);
    }
    this.#known = known.sort((one, other) => compare(other.status, one.status));
  }

  /**
   * The status of the endpoint that is in the highest term, and of those in it the one that has
   * committed most.
   */
  get newest(): GetStatusResponse {
    return this.#known[0]!.status;
  }

  /** Where the leader is. @throws CairnError NOT_LEADER, NOT_FOUND when its address is not known */
  get leaderAddress(): string {
    const { leaderId } = this.#known.find(({ status }) => status.leaderId !== "")?.status ?? {};
    if (leaderId === undefined) throw new CairnError("NOT_LEADER", "the cluster has no leader now");
    return this.addressOf(leaderId);
  }

  /** The first of these endpoints that has answered. */
  firstOf(endpoints: readonly string[]): Known {
    const answered = endpoints.map((endpoint) => this.#known.find(({ address }) => address === endpoint));
    return answered.find((each) => each !== undefined)!;
  }

  /**
   * Where a member is: the endpoint that it is, or else where the others reach it.
   * @throws CairnError NOT_FOUND
   */
  addressOf(id: string): string {
    const itself = this.#known.find(({ status }) => status.nodeId === id);
    const member = this.newest.membership?.members.find((each) => each.id === id);
    const address = itself?.address ?? member?.address;
    if (address) return address;
    const text = member === undefined ? `${id} is not a member of the cluster` : `the address of ${id} is not known`;
    throw new CairnError("NOT_FOUND", `${text}; name it among the endpoints to reach it`);
  }
}

function compare(one: GetStatusResponse, other: GetStatusResponse): number {
  return Number(one.term - other.term) || Number(one.commitIndex - other.commitIndex);
}
