import type { GetStatusResponse } from "../../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../../base/errors.js";

/** A node's status, or the reason why the node did not answer. */
export type StatusAnswer =
  | { readonly address: string; readonly status: GetStatusResponse }
  | { readonly address: string; readonly error: CairnError };

type Known = StatusAnswer & { readonly status: GetStatusResponse };

/** Describes a cluster from the answers that its endpoints gave at one moment. */
export class ClusterView {
  /** Sorted: the most advanced node comes first. */
  readonly #known: readonly Known[];

  /**
   * @throws CairnError UNREACHABLE when none has answered; UNAUTHENTICATED, PERMISSION_DENIED when
   * one of those has refused the caller
   */
  constructor(answers: readonly StatusAnswer[]) {
    const known = answers.filter((answer): answer is Known => "status" in answer);
    if (known.length === 0) {
      const errors = answers.flatMap((answer) => ("error" in answer ? [answer.error] : []));
      const refusal = errors.find(({ code }) => code === "UNAUTHENTICATED" || code === "PERMISSION_DENIED");
      const reasons = errors.map(({ text }) => text).join("; ");
      if (refusal !== undefined) throw new CairnError(refusal.code, `no node answers this caller: ${reasons}`);
      throw new CairnError("UNREACHABLE", `no node answers: ${reasons}`);
    }
    this.#known = known.sort((one, other) => compare(other.status, one.status));
  }

  /** @throws CairnError WRONG_CLUSTER when the nodes that answered are of several clusters */
  expectOneCluster(): void {
    const members = this.#known.filter(({ status }) => status.clusterId !== "");
    if (new Set(members.map(({ status }) => status.clusterId)).size <= 1) return;
    const found = members.map(({ address, status }) => `${address} of ${status.clusterId}`).sort();
    const text = `nodes of several clusters answer (${found.join(", ")}): name the members of one of them`;
    throw new CairnError("WRONG_CLUSTER", text);
  }

  /** Whether a node that answered is new: it knows no membership yet, and refuses calls. */
  get hasNewNode(): boolean {
    return this.#known.some(({ status }) => (status.membership?.members.length ?? 0) === 0);
  }

  /**
   * The status of the endpoint in the highest term; among those in that term, the one with the
   * highest commit index.
   */
  get newest(): GetStatusResponse {
    return this.#known[0]!.status;
  }

  /**
   * The leader's address.
   * @throws CairnError NOT_LEADER; NOT_FOUND when its address is not known
   */
  get leaderAddress(): string {
    const { leaderId } = this.#known.find(({ status }) => status.leaderId !== "")?.status ?? {};
    if (leaderId === undefined) throw new CairnError("NOT_LEADER", "the cluster has no leader now");
    return this.addressOf(leaderId);
  }

  /** Returns the first of these endpoints that has answered. */
  firstOf(endpoints: readonly string[]): Known {
    const answered = endpoints.map((endpoint) => this.#known.find(({ address }) => address === endpoint));
    return answered.find((each) => each !== undefined)!;
  }

  /**
   * Returns a member's address: the endpoint that is this member, or else the address that the
   * membership has.
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
