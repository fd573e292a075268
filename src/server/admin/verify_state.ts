import type { MessageInitShape } from "@bufbuild/protobuf";
import type { MemberDigestSchema, VerifyStateResponseSchema } from "../../../gen/cairn/v1/admin_pb.js";
import { CairnError, hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { hex } from "../../encoding/snapshot_format.js";
import type { MemberCredentials } from "../../rpc/security/member_credentials.js";
import type { MachineServices } from "../machine_services.js";
import type { ServedNode } from "../served_node.js";
import { type AppliedProgress, type Comparable, Here, There } from "./verify_member.js";

// Compares the states of a cluster's members.

type MemberDigest = MessageInitShape<typeof MemberDigestSchema>;

/**
 * Outcome of the comparison for one member. `moved`: the member no longer has a state at that
 * index, but a newer one.
 */
type Outcome = { readonly sha256: Uint8Array } | { readonly error: CairnError } | { readonly moved: CairnError };

/**
 * Compares the members' states by the digests of their snapshots at one index. The index is
 * committed, and above every existing snapshot: a file that was written before would say nothing of
 * a member's present state. A member that has applied more by then builds the state at the index
 * from its snapshot and its log.
 */
export class StateComparison {
  readonly #members = new Map<string, There>();

  constructor(
    private readonly node: ServedNode,
    private readonly machine: Pick<MachineServices, "advance">,
    /**
     * host:port of members as this node reaches them, if it differs from the address in the
     * membership.
     */
    private readonly addresses: Readonly<Record<string, string>> = {},
    private readonly credentials?: MemberCredentials | undefined,
  ) {}

  /**
   * Runs a comparison.
   * @throws CairnError CANCELLED, STOPPED
   */
  async run(signal: AbortSignal): Promise<MessageInitShape<typeof VerifyStateResponseSchema>> {
    for (let attempt = 1; ; attempt++) {
      const { index, outcomes } = await this.#attempt(signal);
      // A member that has taken a newer snapshot meanwhile must be compared at a newer index,
      // together with all others.
      const hasMoved = [...outcomes.values()].some((outcome) => "moved" in outcome);
      if (!hasMoved || attempt === limits.verifyAttempts) return answerOf(index, outcomes);
    }
  }

  close(): void {
    for (const member of this.#members.values()) member.close();
    this.#members.clear();
  }

  async #attempt(signal: AbortSignal): Promise<{ index: number; outcomes: Map<string, Outcome> }> {
    const members = this.node.raft.membership.members.map(({ id, address }) => this.#memberOf(id, address));
    let progressById = await lookAt(members, signal);
    if (newestSnapshot(progressById) >= highestApplied(progressById)) {
      await this.#advance(signal);
      progressById = await lookAt(members, signal);
    }
    const index = highestApplied(progressById);
    const outcomes = await Promise.all(
      members.map(async (member): Promise<[string, Outcome]> => {
        const progress = progressById.get(member.id)!;
        return [
          member.id,
          progress instanceof CairnError ? { error: progress } : await digestOf(member, index, signal),
        ];
      }),
    );
    return { index, outcomes: new Map(outcomes.sort(([a], [b]) => (a < b ? -1 : 1))) };
  }

  #memberOf(id: string, addressOfMembership: string): Comparable {
    if (id === this.node.id) return new Here(this.node);
    const address = this.addresses[id] ?? addressOfMembership;
    const known = this.#members.get(id);
    if (known?.address === address) return known;
    known?.close();
    const member = new There(id, address, this.node.clusterId, this.credentials);
    this.#members.set(id, member);
    return member;
  }

  /**
   * Has the cluster commit an entry that changes nothing, so that there is an index without a
   * snapshot. That needs a leader; without one, the present states are compared all the same.
   */
  async #advance(signal: AbortSignal): Promise<void> {
    const { leader, membership } = this.node.raft;
    const there = membership.members.find(({ id }) => id === leader && id !== this.node.id);
    const at = there && (this.#memberOf(there.id, there.address) as There).channel;
    try {
      await this.machine.advance(at, signal);
    } catch (error) {
      if (signal.aborted) throw error;
    }
  }
}

async function lookAt(
  members: readonly Comparable[],
  signal: AbortSignal,
): Promise<Map<string, AppliedProgress | CairnError>> {
  const looks = members.map(async (member) => {
    const progress = await member.progress(signal).catch((error: unknown) => reported(error, signal));
    return [member.id, progress] as const;
  });
  return new Map(await Promise.all(looks));
}

function known(progressById: ReadonlyMap<string, AppliedProgress | CairnError>): AppliedProgress[] {
  return [...progressById.values()].filter((progress) => !(progress instanceof CairnError)) as AppliedProgress[];
}

/**
 * Returns the highest index that any member has applied. That entry is committed, so all others get
 * there.
 */
function highestApplied(progressById: ReadonlyMap<string, AppliedProgress | CairnError>): number {
  return Math.max(0, ...known(progressById).map(({ applied }) => applied));
}

function newestSnapshot(progressById: ReadonlyMap<string, AppliedProgress | CairnError>): number {
  return Math.max(0, ...known(progressById).map(({ snapshot }) => snapshot));
}

async function digestOf(member: Comparable, index: number, signal: AbortSignal): Promise<Outcome> {
  try {
    await waitApplied(member, index, signal);
    await member.takeSnapshot(index, signal);
    const sha256 = await member.digestAt(index, signal);
    if (sha256 !== undefined) return { sha256 };
    return {
      moved: new CairnError("OUT_OF_RANGE", `its snapshot at index ${index} was removed in favour of newer ones`),
    };
  } catch (error) {
    const failed = reported(error, signal);
    return hasCode(failed, "OUT_OF_RANGE") ? { moved: failed } : { error: failed };
  }
}

/** Waits while the member makes progress, however far behind it is. */
async function waitApplied(member: Comparable, index: number, signal: AbortSignal): Promise<void> {
  let { applied } = await member.progress(signal);
  while (applied < index) {
    const { applied: now } = await member.appliedWithin(index, limits.verifyIdleMs, signal);
    if (now < index && now === applied) {
      const text = `it makes no progress: it has applied index ${now}, and not ${index}, for ${limits.verifyIdleMs} ms`;
      throw new CairnError("TIMEOUT", text);
    }
    applied = now;
  }
}

/**
 * Returns an error of a member, to report beside the others' digests. Throws when the caller has
 * given up.
 */
function reported(error: unknown, signal: AbortSignal): CairnError {
  if (signal.aborted) throw error;
  return CairnError.from(error);
}

function answerOf(
  index: number,
  outcomes: ReadonlyMap<string, Outcome>,
): MessageInitShape<typeof VerifyStateResponseSchema> {
  const digests = [...outcomes.values()].flatMap((outcome) => ("sha256" in outcome ? [hex(outcome.sha256)] : []));
  const most = digests.find((digest) => digests.filter((other) => other === digest).length > digests.length / 2);
  return {
    index: BigInt(index),
    digests: [...outcomes].map(([nodeId, outcome]): MemberDigest => {
      if ("sha256" in outcome) return { nodeId, sha256: outcome.sha256, differs: hex(outcome.sha256) !== most };
      return { nodeId, error: ("error" in outcome ? outcome.error : outcome.moved).text };
    }),
    allEqual: digests.length === outcomes.size && new Set(digests).size === 1,
  };
}
